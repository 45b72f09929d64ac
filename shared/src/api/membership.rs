//! Heartbeats: worker → every router.
//!
//! `PUT /manifold/v1/instances/{id}` with a [`Heartbeat`] registers an instance and renews its
//! lease; the answer is a [`Lease`]. `DELETE /manifold/v1/instances/{id}` says goodbye.

use crate::id::{FleetId, InstanceId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// An instance's periodic report: alive, resident, load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub instance: InstanceId,
    /// The fleet that a launcher started it for; `None`: it is in the pool that any variant uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    /// Where routers send invocations.
    pub address: SocketAddr,
    /// Differs after every start of the process, so that a restart under the same id is seen.
    pub boot_id: String,
    pub state: InstanceState,
    /// Memory for models, bytes: the weight of the instance in placement.
    pub budget_bytes: u64,
    pub resident_bytes: u64,
    pub n_resident: usize,
    pub n_in_flight: usize,
    /// Invocations that can run at the same time.
    pub n_slots: usize,
    /// The hottest resident models, hottest first: at most [`MAX_HOT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hot: Vec<HotModel>,
}

/// As many hot models as a heartbeat names. One that takes less than a 64th of an instance never
/// needs a second one.
pub const MAX_HOT: usize = 64;

/// A resident model and the work that an instance does for it. Routers add up what all instances
/// say, so that all of them see the same without talking to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotModel {
    /// The address of its artifact: the key of placement.
    pub artifact: String,
    /// Thousandths of a compute slot, averaged with a half-life of ten seconds.
    pub fast_millicores: u32,
    /// The same with a half-life of five minutes.
    pub slow_millicores: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Loads what will be its share; takes nothing yet.
    Joining,
    Serving,
    /// Hands over what it holds, finishes what it accepted, and takes nothing new.
    Draining,
}

/// The router's answer: silence for longer than this counts as loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub lease_ms: u64,
}
