//! Who the instance is, and where the routers are that it reports to.

use super::{ClusterConfig, InvalidConfig, SECONDS};
use actix_web::http::Uri;
use clap::value_parser;
use shared::id::{FleetId, InstanceId};
use std::net::SocketAddr;

/// The instance, and its routers.
#[derive(Clone, Debug, clap::Args)]
pub struct MembershipConfig {
    /// The instance's name; the same after a restart. Without it: one made from the bound port, or
    /// the host's name where it is bound to every interface.
    #[arg(long, env = "WORKER_INSTANCE_ID")]
    pub instance_id: Option<InstanceId>,

    /// The fleet that it is started for, by a launcher that the router tells to. Without it: any
    /// variant's invocations may come.
    #[arg(long, env = "WORKER_FLEET")]
    pub fleet: Option<FleetId>,

    /// A router to register with, `http://host:port`. May be repeated.
    #[arg(long = "router", env = "WORKER_ROUTERS", value_delimiter = ',')]
    pub routers: Vec<String>,

    /// Seconds that a new instance loads what will be its share before it takes invocations; 0: it
    /// takes them at once. In 30 s come a hundred models or so; the rest is loaded when it is invoked.
    #[arg(long, env = "WORKER_JOIN_TIMEOUT_S", default_value_t = 30, value_parser = value_parser!(u64).range(SECONDS))]
    pub join_timeout_s: u64,

    /// A name behind which routers are, `name:port`, resolved every 5 s: a headless service of
    /// Kubernetes.
    #[arg(long, env = "WORKER_ROUTER_DNS")]
    pub router_dns: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterConfig,

    /// The address at which routers reach this worker, if it is not the one that it is bound to.
    /// Without it, and bound to every interface: the one from which it reaches its routers,
    /// or where it looks for them.
    #[arg(long, env = "WORKER_ADVERTISE")]
    pub advertise: Option<SocketAddr>,
}

impl MembershipConfig {
    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { routers, router_dns, cluster, .. } = self;
        cluster.validate()?;
        if let Some(name) = router_dns.as_ref().filter(|name| !is_name(name)) {
            return Err(InvalidConfig::BadName(name.clone()));
        }
        if let Some(url) = routers.iter().find(|url| !is_router(url)) {
            return Err(InvalidConfig::BadRouter(url.clone()));
        }
        Ok(())
    }

    /// Whether it was told of a router, or where to find some.
    pub(super) fn looks_for_routers(&self) -> bool {
        let Self { routers, router_dns, cluster, .. } = self;
        !routers.is_empty() || cluster.cluster.is_some() || router_dns.is_some()
    }
}

fn is_name(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

fn is_router(url: &str) -> bool {
    url.parse().is_ok_and(|it: Uri| it.scheme_str().is_some())
}
