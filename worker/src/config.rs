//! Every flag of the worker.

mod backend;
mod cluster;
mod handlers;
mod http;
mod membership;

pub use backend::{BackendFlags, BackendLimits};
pub use cluster::ClusterConfig;
pub use handlers::HandlerFlags;
pub use http::HttpConfig;
pub use membership::MembershipConfig;

use clap::{Parser, value_parser};
use shared::{etcd::AccessError, telemetry::LogFormat};
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
    pub handlers: HandlerFlags,
    #[command(flatten)]
    pub backend: BackendFlags,
    #[command(flatten)]
    pub http: HttpConfig,
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
    #[error("{0} `{1}` is no absolute path")]
    RelativePath(&'static str, PathBuf),
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
        self.membership.validate()?;
        self.backend.validate()?;
        if self.membership.looks_for_routers() && self.advertised(0).ip().is_unspecified() {
            return Err(InvalidConfig::NoAddress(self.address()));
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
mod tests;
