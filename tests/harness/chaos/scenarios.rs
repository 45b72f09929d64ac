//! Every scenario. Each starts its own cluster; what the machine cannot do comes back as the reason.

mod cluster;
mod machine;
mod network;
mod store;
mod workers;

pub use cluster::{etcd_killed, etcd_stopped, etcd_wiped, router_killed, router_stopped};
pub use machine::{clock_of_router, clock_of_worker, full_disk, out_of_memory};
pub use network::{cut, delay, loss, one_way_cut};
pub use store::{flaky_store, gone_store, stalled_store};
pub use workers::{killed, killed_again_and_again, stopped};

use crate::cluster::{Cluster, ClusterBuilder};

/// Workers of a scenario: one can be lost, and the next one, too.
const N_WORKERS: usize = 3;

/// A worker that has something to lose: names of instances and models decide where a model lives, so
/// that each has models every time.
const VICTIM: usize = 0;

/// Why a scenario cannot run on this machine.
pub type Skipped = String;

fn cluster() -> ClusterBuilder {
    Cluster::builder().workers(N_WORKERS)
}
