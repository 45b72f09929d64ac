//! Asks instances what they hold.

use super::{
    bearer::Bearer,
    clients::client,
    connection::{Connector, EndOfStream},
};
use crate::instance::Instance;
use futures_util::{StreamExt as _, stream};
use shared::api::residents::{Resident, Residents};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;
use tracing::warn;

/// How long a connection may take: as for invocations.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An instance answers from what it publishes. Whoever asks waits for the slowest.
const PATIENCE: Duration = Duration::from_secs(3);

/// Instances that are asked at the same time: each is a connection, and a list in memory.
const MAX_ASKS: usize = 16;

/// `MAX_LISTED` models with addresses of the longest key that S3 allows do not quite fit, all others do.
const MAX_LIST_BYTES: usize = 4 << 20;

/// Asks instances what they hold. For one thread.
#[derive(Clone)]
pub struct Lister {
    client: awc::Client,
    bearer: Bearer,
}

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister").finish_non_exhaustive()
    }
}

impl Lister {
    pub fn new(bearer: Bearer) -> Self {
        let connector = Connector::new(EndOfStream::default());
        Self { client: client(connector, CONNECT_TIMEOUT, Duration::ZERO), bearer }
    }

    /// Passes on what each instance holds, as it comes. One that does not say is left out.
    pub async fn list(&self, instances: &[Arc<Instance>], mut each: impl FnMut(Vec<Resident>)) {
        let asks = instances.iter().map(async |instance| {
            let asked = timeout(PATIENCE, self.ask(instance)).await;
            let list = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            list.inspect_err(
                |error| warn!(instance = %instance.id, error, "instance does not say what it holds"),
            )
        });
        let mut lists = stream::iter(asks).buffer_unordered(MAX_ASKS);
        while let Some(list) = lists.next().await {
            each(list.unwrap_or_default());
        }
    }

    async fn ask(&self, instance: &Instance) -> Result<Vec<Resident>, String> {
        let url = format!("http://{}/manifold/v1/models", instance.address);
        let mut request = self.client.get(url).force_close();
        self.bearer.show(request.headers_mut());
        let answer = request.send().await;
        let mut answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        let list = answer.json::<Residents>().limit(MAX_LIST_BYTES).await;
        list.map(|list| list.models).map_err(|error| error.to_string())
    }
}
