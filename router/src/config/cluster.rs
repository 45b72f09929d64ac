//! Flags of etcd, by which workers and routers find each other, and which keeps the records of several routers.

use clap::value_parser;
use shared::etcd::{Access, AccessError, ClusterAddress};
use std::{fmt, path::PathBuf, str::FromStr};

/// Where the other processes are found.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterConfig {
    /// The cluster's etcd, `etcd://host:port[,host:port…][/prefix]`, or `etcds://…` over TLS: workers are
    /// found there and find this router, and the records are kept there. --records is then a copy.
    #[arg(long, env = "ROUTER_CLUSTER")]
    pub cluster: Option<ClusterAddress>,

    /// PEM file with the authority that signed etcd's certificate. Files are read at every connection.
    #[arg(long, env = "ROUTER_CLUSTER_CA")]
    pub cluster_ca: Option<PathBuf>,

    /// PEM file with the certificate that etcd is shown.
    #[arg(long, env = "ROUTER_CLUSTER_CERT")]
    pub cluster_cert: Option<PathBuf>,

    /// PEM file with its key.
    #[arg(long, env = "ROUTER_CLUSTER_KEY")]
    pub cluster_key: Option<PathBuf>,

    /// The user that etcd knows.
    #[arg(long, env = "ROUTER_CLUSTER_USER")]
    pub cluster_user: Option<String>,

    /// File with the user's password, in its first line.
    #[arg(long, env = "ROUTER_CLUSTER_PASSWORD_FILE")]
    pub cluster_password_file: Option<PathBuf>,

    /// Seconds after which etcd forgets a router that it does not hear of: as workers'.
    #[arg(long = "cluster-lease-s", env = "ROUTER_CLUSTER_LEASE_S", default_value_t = 3, value_parser = value_parser!(u64).range(2..=60))]
    pub lease_s: u64,

    /// `host:port` at which workers reach this router, if it is not the address that it is bound to. A
    /// router that is bound to every interface takes the one from which it reaches etcd.
    #[arg(long, env = "ROUTER_ADVERTISE")]
    pub advertise: Option<Authority>,
}

/// `host:port`, parsed once at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(String);

impl FromStr for Authority {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let parsed: Option<awc::http::uri::Authority> = text.parse().ok();
        match parsed.filter(|it| it.port_u16().is_some_and(|port| port > 0)) {
            Some(authority) => Ok(Self(authority.to_string())),
            None => Err("expected `host:port`"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
