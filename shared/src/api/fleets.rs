//! Fleets: the instances that the router wants, and what becomes of them. Launcher ↔ router.
//!
//! A launcher sends what it runs, a [`FleetsReport`], with `POST /manifold/v1/fleets`. The answer,
//! [`DesiredFleets`], comes when it differs from what the launcher knows, or after half a second.
//! Both say everything every time, so that either side may be killed and begin anew.

use crate::id::{EndpointName, FleetId, VariantName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
