//! Flags of the control plane: records, and where instances come from.

use super::{Relation, millis};
use crate::policy::deployment::Provision;
use std::{path::PathBuf, time::Duration};

/// A worker registers within a second of its start; whoever asks for more instances than there are
/// should hear soon.
const POOL_PATIENCE: Duration = Duration::from_secs(5);

/// Twice the longest time that a container may take to start, and what it takes to pull its image. A
/// launcher says sooner that it gives up.
const IMAGE_PATIENCE: Duration = Duration::from_mins(130);

/// A launcher starts workers within seconds; LibTorch on a cold disk takes longer.
const LAUNCH_PATIENCE: Duration = Duration::from_mins(2);

#[derive(Clone, Debug, clap::Args)]
pub struct ControlConfig {
    /// File with the records of models, endpoint configurations and endpoints. Made if it is not
    /// there; one router at a time may use it.
    #[arg(long, env = "ROUTER_RECORDS", default_value = "manifold-records.redb")]
    pub records: PathBuf,

    /// Where instances come from: `pool` takes the workers that register, `launcher` tells a
    /// launcher what to start.
    #[arg(long = "instances", env = "ROUTER_INSTANCES", default_value = "pool")]
    pub provision: Provision,

    /// The launcher starts containers of the images that models name, and not Manifold's own worker.
    #[arg(long, env = "ROUTER_LAUNCHES_IMAGES")]
    pub launches_images: bool,

    /// Instances of all endpoints together; an endpoint that wants more is refused with
    /// `ResourceLimitExceeded`. As many as may register.
    #[arg(long, env = "ROUTER_MAX_ENDPOINT_INSTANCES", default_value = "256")]
    pub max_endpoint_instances: u32,

    /// Models, endpoint configurations, or endpoints that there may be of each: all are held in
    /// memory, a few kilobytes each.
    #[arg(long, env = "ROUTER_MAX_RECORDS", default_value = "10000")]
    pub max_records: usize,

    /// Creates models although nothing lies below their `ModelDataUrl` yet; SageMaker refuses them.
    #[arg(long, env = "ROUTER_ALLOW_EMPTY_MODEL_DATA")]
    pub allow_empty_model_data: bool,

    /// How long an endpoint may take to get its instances before it fails. Without it: 5 s in a
    /// pool, 2 min with a launcher, 130 min with one that starts containers.
    #[arg(long = "deployment-patience-ms", env = "ROUTER_DEPLOYMENT_PATIENCE_MS", value_parser = millis)]
    pub deployment_patience: Option<Duration>,
}

impl ControlConfig {
    pub fn patience(&self) -> Duration {
        self.deployment_patience.unwrap_or(match self.provision {
            Provision::Pooled => POOL_PATIENCE,
            Provision::Launched if self.launches_images => IMAGE_PATIENCE,
            Provision::Launched => LAUNCH_PATIENCE,
        })
    }

    pub(super) fn relations(&self) -> [Relation; 2] {
        let Self {
            records: _,
            provision: _,
            max_endpoint_instances,
            max_records,
            launches_images: _,
            allow_empty_model_data: _,
            deployment_patience: _,
        } = self;
        [
            (*max_endpoint_instances > 0, "--max-endpoint-instances", "positive"),
            (*max_records > 0, "--max-records", "positive"),
        ]
    }
}
