//! Flags of etcd, by which workers and routers find each other, and which keeps the records of several routers.

use clap::value_parser;
use shared::etcd::{Access, AccessError, AccessFlags, ClusterAddress};
use std::{fmt, str::FromStr};

/// Where the other processes are found.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_args(|flag| AccessFlags::of_program("ROUTER", flag)))]
pub struct ClusterConfig {
    /// The cluster's etcd, `etcd://host:port[,host:port…][/prefix]`, or `etcds://…` over TLS: workers are
    /// found there and find this router, and the records are kept there. --records is then a copy.
    #[arg(long, env = "ROUTER_CLUSTER")]
    pub cluster: Option<ClusterAddress>,

    #[command(flatten)]
    pub access: AccessFlags,

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
        self.cluster.clone().map(|address| self.access.to(address))
    }

    pub(super) fn validate(&self) -> Result<(), AccessError> {
        self.access().map_or(Ok(()), |access| access.validate())
    }
}
