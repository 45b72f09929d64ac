//! What scenarios use: real processes on free ports, and a client that speaks only the public API.
//!
//! The processes are the release binaries of the workspace, beside the running test. Build them
//! first (`cargo build --release --workspace`): a test cannot ask cargo for another package's.

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

pub use client::{Client, TestAnswer};
pub use cluster::{Cluster, ClusterBuilder, binaries};
pub use eventually::{PATIENCE, eventually};
pub use flaky::{Fault, FlakyStore};
pub use instance::Worker;
pub use launcher::{Launcher, Programs};
pub use load::SteadyLoad;
pub use restarted_router::RestartedRouter;
pub use sampler::{MemorySampler, Samples};
