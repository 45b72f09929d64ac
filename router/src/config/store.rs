//! Flags of S3: the store behind the router's port, and the one that the router itself uses.

use super::{Relation, millis};
use actix_web::http::Uri;
use std::time::Duration;

/// The local store, for clients that send S3 requests here, too.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreConfig {
    /// The store that S3 requests are passed on to, `http://host:port`: one that trusts whoever
    /// reaches it, as the launcher's. Without it, they are refused.
    #[arg(long, env = "ROUTER_LOCAL_STORE", value_parser = store_url)]
    pub local_store: Option<Uri>,

    /// S3 requests at the store; more get 503 `SlowDown`. Half of what the store takes: the rest is
    /// for workers.
    #[arg(long, env = "ROUTER_MAX_STORE_REQUESTS", default_value = "256")]
    pub max_store_requests: usize,

    /// How long nothing may move in an S3 request, either way: as long as stock clients wait.
    #[arg(long = "store-idle-ms", env = "ROUTER_STORE_IDLE_MS", default_value = "60000", value_parser = millis)]
    pub store_idle: Duration,
}

/// The router's own way to S3: what invocations read and write there, and whether models are there.
#[derive(Clone, Debug, clap::Args)]
pub struct ObjectsConfig {
    /// The S3 endpoint, if it is not Amazon's. Credentials come from the environment, a profile or
    /// the machine, as for any SDK.
    #[arg(long, env = "ROUTER_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,

    /// The S3 region, if the environment does not say.
    #[arg(long, env = "ROUTER_S3_REGION")]
    pub s3_region: Option<String>,
}

fn store_url(text: &str) -> Result<Uri, String> {
    let url = text.parse::<Uri>().map_err(|error| error.to_string())?;
    let is_bare = url.path() == "/" && url.query().is_none();
    if url.scheme_str() != Some("http") || url.port_u16().is_none() || !is_bare {
        return Err("it must be `http://host:port`".to_owned());
    }
    Ok(url)
}

impl StoreConfig {
    pub(super) fn relations(&self) -> [Relation; 2] {
        let Self { local_store: _, max_store_requests, store_idle } = self;
        [
            (*max_store_requests > 0, "--max-store-requests", "positive"),
            (!store_idle.is_zero(), "--store-idle-ms", "positive"),
        ]
    }
}
