//! Asks instances to let go of models that no endpoint serves any more.

use super::{
    bearer::Bearer,
    clients::client,
    connection::{Connector, EndOfStream},
};
use crate::instance::Instance;
use futures_util::{StreamExt as _, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tokio::time::timeout;
use tracing::warn;

/// How long a connection may take: as for invocations.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker answers once it has begun to let go. One that does not evicts the models when it needs
/// their room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Instances that are asked at the same time: each is a connection.
const MAX_ASKS: usize = 32;

/// Asks instances to let go of models. For `Deployments`, on its own thread.
#[derive(Clone)]
pub struct Releaser {
    client: awc::Client,
    bearer: Bearer,
}

impl fmt::Debug for Releaser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Releaser").finish_non_exhaustive()
    }
}

impl Releaser {
    pub fn new(bearer: Bearer) -> Self {
        let connector = Connector::new(EndOfStream::default());
        Self { client: client(connector, CONNECT_TIMEOUT, Duration::ZERO), bearer }
    }

    /// Asks every instance to let go of every model below these prefixes. What an instance does not
    /// hear of costs memory until it is needed, nothing else: so failures are logged, not returned.
    pub async fn release(&self, prefixes: &BTreeSet<String>, instances: &[Arc<Instance>]) {
        let asks = instances.iter().flat_map(|instance| {
            prefixes.iter().map(async move |prefix| {
                if let Err(error) = self.ask(instance, prefix).await {
                    warn!(instance = %instance.id, prefix, error, "models were not let go of");
                }
            })
        });
        stream::iter(asks).buffer_unordered(MAX_ASKS).collect::<()>().await;
    }

    async fn ask(&self, instance: &Instance, prefix: &str) -> Result<(), String> {
        let prefix = utf8_percent_encode(prefix, NON_ALPHANUMERIC);
        let url = format!("http://{}/manifold/v1/models?prefix={prefix}", instance.address);
        let mut request = self.client.delete(url).force_close();
        self.bearer.show(request.headers_mut());
        let asked = timeout(PATIENCE, request.send()).await;
        let answer = asked.map_err(|_| "no answer in time".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    }
}
