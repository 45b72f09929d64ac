//! Fleets: the instances that the router wants, and what becomes of them. Launcher ↔ router.
//!
//! A launcher sends what it runs, a [`FleetsReport`], with `POST /manifold/v1/fleets`. The answer,
//! [`DesiredFleets`], comes when it differs from what the launcher knows, or after half a second.
//! Both say everything every time, so that either side may be killed and begin anew.

use crate::id::{EndpointName, FleetId, VariantName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Every fleet that shall run. One that is not named shall be drained and stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredFleets {
    /// Differs whenever the fleets do.
    pub version: u64,
    pub fleets: Vec<DesiredFleet>,
}

/// The instances of one variant of one deployment of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DesiredFleet {
    pub fleet: FleetId,
    pub endpoint: EndpointName,
    pub variant: VariantName,
    pub n_instances: u32,
    /// What the router's allow-list lets through of the model's environment.
    pub environment: BTreeMap<String, String>,
    /// What a launcher whose instances are containers starts; others do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerDefinition>,
}

/// The container that an endpoint's model names.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerDefinition {
    pub image: String,
    /// All of the model's environment. There may be secrets in it.
    pub environment: BTreeMap<String, String>,
    /// Seconds that it may take until it answers pings, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_timeout_s: Option<u32>,
}

impl fmt::Debug for ContainerDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        f.debug_struct("ContainerDefinition")
            .field("image", &self.image)
            .field("environment", &names)
            .field("startup_timeout_s", &self.startup_timeout_s)
            .finish()
    }
}

/// Every fleet of which a launcher runs anything, or could not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetsReport {
    /// The version of [`DesiredFleets`] that the launcher knows; 0 if none.
    pub known: u64,
    pub fleets: BTreeMap<FleetId, FleetReport>,
}

/// What a launcher has made of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetReport {
    /// Processes that run, also those that drain.
    pub n_running: u32,
    /// Why instances do not come up, if they do not: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
