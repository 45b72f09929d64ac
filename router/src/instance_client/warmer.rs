//! Has instances load models before their invocations come.

use super::{
    InstanceError, Options,
    answer::Answer,
    bearer::Bearer,
    clients::client,
    connection::{Connector, EndOfStream},
    instance_error, refusal, unless_lost,
};
use crate::{headers, instance::Instance};
use awc::http::header::HeaderValue;
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// How long a connection may take: as for invocations.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// As long as an invocation waits for a load. One that takes longer goes on by itself.
const LOAD_PATIENCE: Duration = Duration::from_secs(58);

/// With the way there and back.
const PATIENCE: Duration = Duration::from_millis(58_500);

/// An answer has no body; a refusal has a line of text.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Has instances load models. For one thread.
#[derive(Clone)]
pub struct Warmer {
    client: awc::Client,
    bearer: Bearer,
    end_of_stream: EndOfStream,
}

/// Why a model is not warm at an instance.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    #[error("the artifact's address has characters that no header can carry")]
    Artifact,
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl fmt::Debug for Warmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warmer").finish_non_exhaustive()
    }
}

impl Warmer {
    pub fn new(bearer: Bearer) -> Self {
        let end_of_stream = EndOfStream::default();
        let connector = Connector::new(end_of_stream.clone());
        let client = client(connector, CONNECT_TIMEOUT, Duration::ZERO);
        Self { client, bearer, end_of_stream }
    }

    /// Returns once the artifact is resident at the instance, at the latest after a minute. Whoever
    /// drops this stops waiting; a load that has begun goes on.
    pub async fn warm(
        &self,
        instance: &Instance,
        artifact: &str,
        options: Options,
    ) -> Result<(), WarmError> {
        let artifact =
            HeaderValue::from_bytes(artifact.as_bytes()).map_err(|_| WarmError::Artifact)?;
        let patience_ms = u64::try_from(LOAD_PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let url = format!("http://{}/manifold/v1/warm", instance.address);
        let mut request = self.client.post(url).force_close();
        let up = request.headers_mut();
        up.insert(headers::ARTIFACT.clone(), artifact);
        up.insert(headers::DEADLINE_MS.clone(), patience_ms.into());
        for (name, value) in options.headers().chain(self.bearer.header()) {
            up.insert(name.clone(), value);
        }

        let deadline = Instant::now() + PATIENCE;
        let sent = unless_lost(instance, deadline, request.send()).await?;
        let response = sent.map_err(instance_error)?;
        let answer = Answer::new(response, self.end_of_stream.clone(), MAX_ANSWER_BYTES, PATIENCE);
        if answer.status().is_success() {
            return Ok(());
        }
        let refusal = unless_lost(instance, deadline, refusal(answer)).await?;
        Err(InstanceError::Refused(refusal).into())
    }
}
