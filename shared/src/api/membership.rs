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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    Serving,
    /// Finishes what it accepted and takes nothing new.
    Draining,
}

/// The router's answer: silence for longer than this counts as loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub lease_ms: u64,
}
