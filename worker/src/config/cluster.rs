//! Flags of etcd, by which workers and routers find each other.

use clap::value_parser;
use shared::etcd::{Access, AccessError, ClusterAddress};
use std::path::PathBuf;

/// Where the other processes are found.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterConfig {
    /// The cluster's etcd, `etcd://host:port[,host:port…][/prefix]`, or `etcds://…` over TLS: routers are
    /// found there, and find this worker.
    #[arg(long, env = "WORKER_CLUSTER")]
    pub cluster: Option<ClusterAddress>,

    /// PEM file with the authority that signed etcd's certificate. Files are read at every connection.
    #[arg(long, env = "WORKER_CLUSTER_CA")]
    pub cluster_ca: Option<PathBuf>,

    /// PEM file with the certificate that etcd is shown.
    #[arg(long, env = "WORKER_CLUSTER_CERT")]
    pub cluster_cert: Option<PathBuf>,

    /// PEM file with its key.
    #[arg(long, env = "WORKER_CLUSTER_KEY")]
    pub cluster_key: Option<PathBuf>,

    /// The user that etcd knows.
    #[arg(long, env = "WORKER_CLUSTER_USER")]
    pub cluster_user: Option<String>,

    /// File with the user's password, in its first line.
    #[arg(long, env = "WORKER_CLUSTER_PASSWORD_FILE")]
    pub cluster_password_file: Option<PathBuf>,

    /// Seconds after which etcd forgets a worker that it does not hear of: the routers' own lease.
    #[arg(long = "cluster-lease-s", env = "WORKER_CLUSTER_LEASE_S", default_value_t = 3, value_parser = value_parser!(u64).range(2..=60))]
    pub lease_s: u64,
}

impl ClusterConfig {
    /// Returns how etcd is reached, if there is one.
    pub fn access(&self) -> Option<Access> {
        let address = self.cluster.clone()?;
        Some(Access {
            address,
            ca: self.cluster_ca.clone(),
            certificate: self.cluster_cert.clone(),
            key: self.cluster_key.clone(),
            user: self.cluster_user.clone(),
            password_file: self.cluster_password_file.clone(),
        })
    }

    pub(super) fn validate(&self) -> Result<(), AccessError> {
        self.access().map_or(Ok(()), |access| access.validate())
    }
}
