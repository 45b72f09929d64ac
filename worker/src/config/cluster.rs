//! Flags of etcd, by which workers and routers find each other.

use clap::value_parser;
use shared::etcd::{Access, AccessError, AccessFlags, ClusterAddress};

/// Where the other processes are found.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_args(|flag| AccessFlags::of_program("WORKER", flag)))]
pub struct ClusterConfig {
    /// The cluster's etcd, `etcd://host:port[,host:port…][/prefix]`, or `etcds://…` over TLS: routers are
    /// found there, and find this worker.
    #[arg(long, env = "WORKER_CLUSTER")]
    pub cluster: Option<ClusterAddress>,

    #[command(flatten)]
    pub access: AccessFlags,

    /// Seconds after which etcd forgets a worker that it does not hear of: the routers' own lease.
    #[arg(long = "cluster-lease-s", env = "WORKER_CLUSTER_LEASE_S", default_value_t = 3, value_parser = value_parser!(u64).range(2..=60))]
    pub lease_s: u64,
}

impl ClusterConfig {
    /// Returns how etcd is reached, if there is one.
    pub fn access(&self) -> Option<Access> {
        self.cluster.clone().map(|address| self.access.to(address))
    }

    pub(super) fn validate(&self) -> Result<(), AccessError> {
        self.access().map_or(Ok(()), |access| access.validate())
    }
}
