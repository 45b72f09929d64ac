//! Every flag of the worker.

mod cluster;

pub use cluster::ClusterConfig;

use actix_web::http::Uri;
use clap::{Parser, value_parser};
use shared::{
    etcd::AccessError,
    id::{FleetId, InstanceId},
    telemetry::LogFormat,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::PathBuf,
};

/// Up to a day: more is a mistake, and no clock can count every number.
const SECONDS: RangeInclusive<u64> = 0..=86_400;

/// Where SageMaker puts unpacked models (container contract).
const SAGEMAKER_MODELS: &str = "/opt/ml/models";

/// Serves many models from one process: fetches, loads, runs and evicts them.
#[derive(Clone, Debug, Parser)]
#[command(name = "manifold-worker", version)]
pub struct Config {
    /// SageMaker starts containers with the word `serve`; it changes nothing.
    #[arg(hide = true, value_parser = ["serve"])]
    pub command: Option<String>,

    /// Address to serve on. Without it: the loopback interface, port 8080.
    #[arg(long, env = "WORKER_BIND")]
    pub bind: Option<SocketAddr>,

    /// The port that SageMaker wants served on every interface.
    #[arg(long, env = "SAGEMAKER_BIND_TO_PORT")]
    pub sagemaker_bind_to_port: Option<u16>,

    /// Writes the bound address into this file once the worker listens.
    #[arg(long, env = "WORKER_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,

    /// Ends the worker when its standard input closes.
    #[arg(long)]
    pub exit_with_parent: bool,

    /// `text` or `json`.
    #[arg(long, env = "WORKER_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub membership: MembershipConfig,
    #[command(flatten)]
    pub access: AccessConfig,
    #[command(flatten)]
    pub artifacts: ArtifactConfig,
    #[command(flatten)]
    pub models: ModelConfig,
    #[command(flatten)]
    pub http: HttpConfig,
}

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

#[derive(Clone, Debug, clap::Args)]
pub struct AccessConfig {
    /// File with the cluster's token, readable by its owner alone: everything but `/ping` is then for
    /// those who show it, and routers are shown it. One token a line, all of which are accepted and the
    /// first is sent. Read again when it changes.
    #[arg(long, env = "WORKER_CLUSTER_TOKEN_FILE")]
    pub cluster_token_file: Option<PathBuf>,

    /// Without a cluster token, serves the container contract beyond loopback although anybody there
    /// may load and invoke models. With `--sagemaker-bind-to-port` the platform sees to that.
    #[arg(long, env = "WORKER_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,

    /// Without a cluster token, serves `POST /invocations` by artifact address, too, although anybody
    /// beyond loopback may then ask for any model.
    #[arg(long, env = "WORKER_ALLOW_INVOCATIONS_BY_ADDRESS")]
    pub allow_invocations_by_address: bool,

    /// A bucket that artifacts may come from; required unless bound to loopback. May be repeated.
    #[arg(long = "allow-bucket", env = "WORKER_ALLOW_BUCKETS", value_delimiter = ',')]
    pub allow_buckets: Vec<String>,

    /// A folder below which `file://` artifacts may lie, after resolving links. May be repeated.
    /// With `--sagemaker-bind-to-port`, `/opt/ml/models` is one.
    #[arg(long = "file-root", env = "WORKER_FILE_ROOTS", value_delimiter = ',')]
    pub file_roots: Vec<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ArtifactConfig {
    /// The folder for fetched artifacts; one worker alone may use it. Without it: a folder for
    /// the instance below the system's temporary folder.
    #[arg(long, env = "WORKER_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Bytes of unpacked artifacts that may lie there. 20 GiB hold a few hundred large models.
    #[arg(long, env = "WORKER_DISK_BUDGET", default_value_t = 20 << 30)]
    pub disk_budget: u64,

    /// The S3 endpoint, if it is not Amazon's.
    #[arg(long, env = "WORKER_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,

    /// The S3 region, if the environment does not say.
    #[arg(long, env = "WORKER_S3_REGION")]
    pub s3_region: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ModelConfig {
    /// Bytes that models may take. Without it: 70 % of what the machine or its control group has.
    #[arg(long, env = "WORKER_MEMORY_BUDGET")]
    pub memory_budget: Option<u64>,

    /// Seconds that a store's word about a resident model may be old. From half of it on the store is
    /// asked beside invocations, so that few wait for it; 0 lets every invocation wait. 30 s are few
    /// requests to the store, and soon enough for who overwrites or deletes an object.
    #[arg(long, env = "WORKER_REVALIDATE_S", default_value_t = 30, value_parser = value_parser!(u64).range(SECONDS))]
    pub revalidate_s: u64,

    /// Invocations that run at the same time, each on one thread. Without it: one per core.
    #[arg(long, env = "WORKER_COMPUTE_SLOTS")]
    pub compute_slots: Option<NonZeroUsize>,

    /// Invocations that may wait for and run on one model; more are refused, so that the router
    /// can try elsewhere. 128 of 100 ms each are worked off in time.
    #[arg(long, env = "WORKER_MAX_QUEUED", default_value = "128")]
    pub max_queued: NonZeroUsize,

    /// Invocations that may wait for a slot, over all models. Each holds its body in memory.
    #[arg(long, env = "WORKER_MAX_QUEUED_IN_ALL", default_value = "1024")]
    pub max_queued_in_all: NonZeroUsize,

    /// Seconds that one load or invocation may hold a compute slot. Nothing can stop a model that
    /// runs for ever, so the worker then ends, to be started anew. SageMaker gives a load 360.
    #[arg(long, env = "WORKER_MAX_COMPUTE_S", default_value_t = 600, value_parser = value_parser!(u64).range(SECONDS))]
    pub max_compute_s: u64,
}

#[derive(Clone, Debug, clap::Args)]
pub struct HttpConfig {
    /// Largest request body, bytes: SageMaker's 25 MB.
    #[arg(long, env = "WORKER_MAX_BODY_BYTES", default_value_t = 26_214_400)]
    pub max_body_bytes: usize,

    /// Bytes that all request bodies may take at once; more are refused with 503.
    #[arg(long, env = "WORKER_BODY_BUDGET", default_value_t = 512 << 20)]
    pub body_budget: usize,

    /// Seconds that an invocation may take if the caller names no deadline: SageMaker's 60. One that
    /// the caller names may be up to an hour away.
    #[arg(long, env = "WORKER_INVOCATION_TIMEOUT_S", default_value_t = 60, value_parser = value_parser!(u64).range(SECONDS))]
    pub invocation_timeout_s: u64,

    /// Seconds that a load asked for by name may take: SageMaker's 360.
    #[arg(long, env = "WORKER_LOAD_TIMEOUT_S", default_value_t = 360, value_parser = value_parser!(u64).range(SECONDS))]
    pub load_timeout_s: u64,

    /// Seconds to hand over models and to finish what was accepted after SIGTERM: SageMaker kills after
    /// 30. At most a third of them is for handing over.
    #[arg(long, env = "WORKER_DRAIN_TIMEOUT_S", default_value_t = 25, value_parser = value_parser!(u64).range(SECONDS))]
    pub drain_timeout_s: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("--bind and --sagemaker-bind-to-port exclude each other")]
    TwoAddresses,
    #[error(
        "{0} is not loopback: name where artifacts may come from, with --allow-bucket or --file-root"
    )]
    OpenToAll(SocketAddr),
    #[error(
        "--bind {0} is not loopback: anybody there could load and invoke models; add --cluster-token-file, or --allow-unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    #[error("routers cannot reach a worker at {0}: name its address with --advertise")]
    NoAddress(SocketAddr),
    #[error("--router-dns `{0}` is not `name:port`")]
    BadName(String),
    #[error(transparent)]
    Cluster(#[from] AccessError),
    #[error("--router `{0}` is not `http://host:port`")]
    BadRouter(String),
    #[error("--body-budget must be at least --max-body-bytes")]
    SmallBodyBudget,
}

impl Config {
    /// Checks what a single flag cannot: how the values relate.
    pub fn validate(mut self) -> Result<Self, InvalidConfig> {
        if self.bind.is_some() && self.sagemaker_bind_to_port.is_some() {
            return Err(InvalidConfig::TwoAddresses);
        }
        if self.sagemaker_bind_to_port.is_some() {
            self.access.file_roots.push(PathBuf::from(SAGEMAKER_MODELS));
        }
        let MembershipConfig { routers, router_dns, cluster, .. } = &self.membership;
        cluster.validate()?;
        let is_name = |it: &&String| {
            let parts = it.rsplit_once(':');
            parts.is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(name) = router_dns.as_ref().filter(|name| !is_name(name)) {
            return Err(InvalidConfig::BadName(name.clone()));
        }
        let has_routers = !routers.is_empty() || cluster.cluster.is_some() || router_dns.is_some();
        if has_routers && self.advertised(0).ip().is_unspecified() {
            return Err(InvalidConfig::NoAddress(self.address()));
        }
        let is_router = |url: &&String| url.parse().is_ok_and(|it: Uri| it.scheme_str().is_some());
        if let Some(url) = self.membership.routers.iter().find(|url| !is_router(url)) {
            return Err(InvalidConfig::BadRouter(url.clone()));
        }
        if self.http.body_budget < self.http.max_body_bytes {
            return Err(InvalidConfig::SmallBodyBudget);
        }
        self.check_reach()?;
        Ok(self)
    }

    /// Checks that nothing is open to strangers that nobody has asked for.
    fn check_reach(&self) -> Result<(), InvalidConfig> {
        if self.is_loopback() {
            return Ok(());
        }
        let AccessConfig { cluster_token_file, allow_unauthenticated, .. } = &self.access;
        let AccessConfig { allow_invocations_by_address, allow_buckets, file_roots, .. } =
            &self.access;
        let is_wanted = *allow_unauthenticated || *allow_invocations_by_address;
        // SageMaker's platform alone reaches its containers, and knows no token.
        if cluster_token_file.is_none() && self.sagemaker_bind_to_port.is_none() && !is_wanted {
            return Err(InvalidConfig::Unauthenticated(self.address()));
        }
        if self.serves_by_address() && allow_buckets.is_empty() && file_roots.is_empty() {
            return Err(InvalidConfig::OpenToAll(self.address()));
        }
        Ok(())
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        match (self.bind, self.sagemaker_bind_to_port) {
            (Some(address), _) => address,
            (None, Some(port)) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            (None, None) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
        }
    }

    /// Where routers reach the worker, which is bound to `port`.
    pub fn advertised(&self, port: u16) -> SocketAddr {
        let bound = SocketAddr::new(self.address().ip(), port);
        self.membership.advertise.unwrap_or(bound)
    }

    pub fn is_loopback(&self) -> bool {
        self.address().ip().is_loopback()
    }

    /// Whether `POST /invocations` may name any artifact.
    pub fn serves_by_address(&self) -> bool {
        self.is_loopback()
            || self.access.cluster_token_file.is_some()
            || self.access.allow_invocations_by_address
    }

    /// The buckets that artifacts may come from; `None` means any.
    pub fn allowed_buckets(&self) -> Option<Vec<String>> {
        let buckets = &self.access.allow_buckets;
        (!self.is_loopback() || !buckets.is_empty()).then(|| buckets.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn config(arguments: &[&str]) -> Result<Config, InvalidConfig> {
        let arguments = ["manifold-worker"].iter().chain(arguments);
        Config::try_parse_from(arguments).expect("the flags exist").validate()
    }

    #[test]
    fn a_worker_binds_to_loopback_unless_told_otherwise() {
        let config = config(&[]).unwrap();
        assert!(config.is_loopback() && config.serves_by_address());
        assert_eq!(config.allowed_buckets(), None);
    }

    #[test]
    fn sagemakers_port_opens_the_container_contract_alone() {
        let config = config(&["serve", "--sagemaker-bind-to-port", "9000"]).unwrap();
        assert_eq!(config.address().to_string(), "0.0.0.0:9000");
        assert!(!config.serves_by_address());
        assert_eq!(config.allowed_buckets(), Some(vec![]));
        assert_eq!(config.access.file_roots, [PathBuf::from("/opt/ml/models")]);
    }

    #[test]
    fn serving_any_address_to_the_world_is_refused() {
        let open = ["--bind", "0.0.0.0:1", "--allow-invocations-by-address"];
        assert!(matches!(config(&open), Err(InvalidConfig::OpenToAll(_))));
        let named = [&open[..], &["--allow-bucket", "models"]].concat();
        assert!(config(&named).unwrap().serves_by_address());
    }

    #[test]
    fn binding_beyond_loopback_needs_a_token_or_a_word() {
        let bound = ["--bind", "0.0.0.0:1", "--allow-bucket", "models"];
        let with = |flags: &[&str]| config(&[&bound[..], flags].concat());
        let error = with(&[]).unwrap_err().to_string();
        assert!(error.contains("add --cluster-token-file, or --allow-unauthenticated"), "{error}");
        assert!(with(&["--cluster-token-file", "token"]).unwrap().serves_by_address());
        assert!(!with(&["--allow-unauthenticated"]).unwrap().serves_by_address());
        assert!(with(&["--allow-invocations-by-address"]).unwrap().serves_by_address());
        // With a token, too, it is said where artifacts may come from.
        let nowhere = config(&["--bind", "0.0.0.0:1", "--cluster-token-file", "token"]);
        assert!(matches!(nowhere, Err(InvalidConfig::OpenToAll(_))));
        assert!(config(&["--bind", "[::1]:1"]).is_ok());
    }

    #[test]
    fn a_worker_that_routers_cannot_reach_is_told_so() {
        let everywhere =
            ["--bind", "0.0.0.0:1", "--allow-unauthenticated", "--router", "http://10.0.0.1:8080"];
        let error = config(&everywhere).unwrap_err();
        assert!(matches!(error, InvalidConfig::NoAddress(_)), "{error}");
        let named = [&everywhere[..], &["--advertise", "10.0.0.2:1"]].concat();
        assert_eq!(config(&named).unwrap().advertised(1).to_string(), "10.0.0.2:1");

        let error = config(&["--router", "10.0.0.1"]).unwrap_err().to_string();
        assert_eq!(error, "--router `10.0.0.1` is not `http://host:port`");
    }

    #[test]
    fn what_finds_routers_must_make_sense() {
        assert!(config(&["--cluster", "etcd://etcd", "--router-dns", "routers:8080"]).is_ok());
        let error = config(&["--router-dns", "routers"]).unwrap_err().to_string();
        assert_eq!(error, "--router-dns `routers` is not `name:port`");
        let error = config(&["--cluster", "etcds://etcd:2379"]).unwrap_err().to_string();
        assert!(error.starts_with("etcds:// needs --cluster-ca"), "{error}");
        let nowhere = config(&["--bind", "0.0.0.0:1", "--cluster", "etcd://etcd"]);
        assert!(matches!(nowhere, Err(InvalidConfig::NoAddress(_))));
    }

    #[test]
    fn two_addresses_are_refused() {
        let both = ["--bind", "127.0.0.1:1", "--sagemaker-bind-to-port", "2"];
        assert!(matches!(config(&both), Err(InvalidConfig::TwoAddresses)));
    }

    #[test]
    fn every_flag_is_documented_and_every_documented_flag_exists() {
        let page = include_str!("../../docs/configuration.md");
        let section = page.split("## ").find(|it| it.starts_with("Worker ")).unwrap();
        let documented: BTreeSet<&str> =
            section.split("`--").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()).collect();
        let command = <Config as clap::CommandFactory>::command();
        let existing = command.get_arguments().filter_map(clap::Arg::get_long);
        assert_eq!(existing.collect::<BTreeSet<_>>(), documented);
    }
}
