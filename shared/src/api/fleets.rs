//! Fleets: the instances that the router wants, and what becomes of them. Launcher ↔ router.
//!
//! `GET /manifold/v1/fleets?known=VERSION` answers with [`DesiredFleets`] once they differ from that
//! version, at the latest after a few seconds. `PUT /manifold/v1/fleets/{fleet}` with a
//! [`FleetReport`] says what a launcher made of one.

use crate::id::{EndpointName, FleetId, VariantName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every fleet that shall run. One that is not named shall be drained and stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredFleets {
    /// Grows with every change, also over a restart of the router.
    pub version: u64,
    pub fleets: Vec<DesiredFleet>,
}

/// The instances of one variant of one deployment of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredFleet {
    pub fleet: FleetId,
    pub endpoint: EndpointName,
    pub variant: VariantName,
    pub n_instances: u32,
    /// What the router's allow-list lets through of the model's environment.
    pub environment: BTreeMap<String, String>,
}

/// What a launcher has made of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetReport {
    /// Processes that run, also those that drain.
    pub n_running: u32,
    /// Why instances do not come up, if they do not: one line.
    pub failure: Option<String>,
}
