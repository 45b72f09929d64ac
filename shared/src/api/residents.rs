//! What instances hold, and how it moves between them: worker ↔ router.
//!
//! `GET /manifold/v1/models` at a worker lists [`Residents`]. A worker that leaves asks a router with
//! `POST /manifold/v1/instances/{id}/rehome`, a [`Rehome`], to have one of them warm elsewhere; one
//! that joins asks with `GET /manifold/v1/instances/{id}/share` for its [`Share`].

use crate::id::InstanceId;
use serde::{Deserialize, Serialize};

/// Models that a worker lists at most: the hottest and most recently used, in a megabyte or so.
pub const MAX_LISTED: usize = 4096;

/// Models that a router tells a joining instance of at most: more than it loads in the time it has.
pub const MAX_SHARE: usize = 1024;

/// What an instance has in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residents {
    /// Hottest first, then the most recently used; at most [`MAX_LISTED`].
    pub models: Vec<Resident>,
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// The address of its artifact: the key of placement.
    pub artifact: String,
    pub resident_bytes: u64,
    /// As in a heartbeat.
    pub fast_millicores: u32,
    pub slow_millicores: u32,
    /// Since it was used last.
    pub idle_ms: u64,
    /// Whether somebody wants it served even if its object is deleted.
    #[serde(default)]
    pub serves_stale: bool,
    /// Whether it belongs here alone: a platform loaded it by name, or it leaves after its invocation.
    #[serde(default)]
    pub is_bound: bool,
}

/// A model of a leaving instance, to be warm elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehome {
    pub artifact: String,
    #[serde(default)]
    pub serves_stale: bool,
}

/// The answer: it is warm there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehomed {
    pub instance: InstanceId,
}

/// What will be a joining instance's once it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Hottest first, then the most recently used; at most [`MAX_SHARE`].
    pub models: Vec<Resident>,
}
