//! What scenarios use: real processes on free ports, and a client that speaks only the public API.
//!
//! The processes are the release binaries of the workspace, beside the running test. Build them
//! first (`cargo build --release --workspace`): a test cannot ask cargo for another package's.

mod backend;
mod balancer;
mod busy;
mod cluster;
mod instance;
mod client;
pub mod archives;
mod eventually;
mod flaky;
mod load;
mod launcher;
mod restarted_router;
mod sampler;
pub mod processes;
mod ports;
pub mod rig;
pub mod privilege;
mod clock;
mod forwarder;
mod netns;
mod small_disk;
mod memory_cgroup;
pub mod chaos;
mod router;
pub mod skipping;
pub mod debian;
mod tied;
pub mod etcd;

pub use backend::Backend;
pub use balancer::Balancer;
pub use busy::BusyModel;
pub use client::{Client, TestAnswer};
pub use clock::Clock;
pub use cluster::{Cluster, ClusterBuilder, binaries};
pub use etcd::Etcd;
pub use eventually::{PATIENCE, eventually};
pub use flaky::{Fault, FlakyStore};
pub use forwarder::{Forwarder, between};
pub use instance::Worker;
pub use launcher::{Launcher, Programs};
pub use load::SteadyLoad;
pub use memory_cgroup::MemoryCgroup;
pub use netns::Netns;
pub use restarted_router::RestartedRouter;
pub use router::Router;
pub use sampler::{MemorySampler, Samples};
pub use small_disk::{SmallDisk, small_disk};
