//! Every flag of the router, with its default and the reason for it.

mod access;
mod asynchronous;
mod body;
mod cluster;
mod control;
mod store;

pub use access::AccessConfig;
pub use asynchronous::AsyncConfig;
pub use body::BodyConfig;
pub use cluster::ClusterConfig;
pub use control::ControlConfig;
pub use store::{ObjectsConfig, StoreConfig};

use crate::{auth::credentials::CredentialsError, control::seed, tls::TlsError};
use clap::Parser as _;
use shared::{
    api::endpoints::{Endpoint, EndpointsFile},
    etcd::AccessError,
    telemetry::{Chain, LogFormat},
    token::TokenError,
};
use std::{ffi::OsString, net::SocketAddr, num::ParseIntError, path::PathBuf, time::Duration};

/// Routes SageMaker invocations to a cluster of workers.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "manifold-router", version)]
pub struct Config {
    /// Address that clients invoke and workers register at. Port 0 takes any free one.
    #[arg(long, env = "ROUTER_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// File with endpoints and their variants (TOML) that are put there unless they are known.
    #[arg(long, env = "ROUTER_ENDPOINTS")]
    pub endpoints: Option<PathBuf>,

    /// File that receives the bound address, once the router listens.
    #[arg(long, env = "ROUTER_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,

    /// Ends when standard input closes: set by launchers, so that no router outlives them.
    #[arg(long, env = "ROUTER_EXIT_WITH_PARENT")]
    pub exit_with_parent: bool,

    /// Listens beyond loopback although, without credentials, anybody there may invoke models, and
    /// without a cluster token register instances.
    #[arg(long, env = "ROUTER_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,

    /// Logs as `text` or `json`.
    #[arg(long, env = "ROUTER_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Threads that serve HTTP; 0 means one per core.
    #[arg(long, env = "ROUTER_HTTP_THREADS", default_value = "0")]
    pub http_threads: usize,

    /// Connections per HTTP thread; more wait unaccepted. Half of a usual limit of 65,536 open
    /// files on 4 cores, because an invocation needs a second connection to its instance.
    #[arg(long, env = "ROUTER_MAX_CONNECTIONS", default_value = "8192")]
    pub max_connections: usize,

    /// How long a client may take nothing of its answer before its connection is closed: as long as
    /// stock clients themselves wait for one.
    #[arg(long = "client-stall-ms", env = "ROUTER_CLIENT_STALL_MS", default_value = "60000", value_parser = millis)]
    pub client_stall: Duration,

    /// How long a stop waits for what was accepted: longer than the deadline of an invocation.
    #[arg(long = "drain-timeout-ms", env = "ROUTER_DRAIN_TIMEOUT_MS", default_value = "60000", value_parser = millis)]
    pub drain_timeout: Duration,

    #[command(flatten)]
    pub access: AccessConfig,
    #[command(flatten)]
    pub identity: IdentityConfig,
    #[command(flatten)]
    pub body: BodyConfig,
    #[command(flatten)]
    pub dispatch: DispatchConfig,
    #[command(flatten)]
    pub instance: InstanceConfig,
    #[command(flatten)]
    pub membership: MembershipConfig,
    #[command(flatten)]
    pub cluster: ClusterConfig,
    #[command(flatten)]
    pub control: ControlConfig,
    #[command(flatten)]
    pub store: StoreConfig,
    #[command(flatten)]
    pub objects: ObjectsConfig,
    #[command(flatten)]
    pub asynchronous: AsyncConfig,
}

/// Who the errors say we are.
#[derive(Clone, Debug, clap::Args)]
pub struct IdentityConfig {
    /// AWS region that error texts name.
    #[arg(long, env = "ROUTER_REGION", default_value = "us-east-1")]
    pub region: String,

    /// AWS account that error texts name: the one of AWS's own examples.
    #[arg(long, env = "ROUTER_ACCOUNT_ID", default_value = "123456789012")]
    pub account_id: String,
}

/// Limits of one invocation's way.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DispatchConfig {
    /// Time from the whole request to the head of the answer. Stock clients give up at 60 s and
    /// then send everything again, so the answer must come before.
    #[arg(long = "deadline-ms", env = "ROUTER_DEADLINE_MS", default_value = "58000", value_parser = millis)]
    pub deadline: Duration,

    /// How much earlier an instance must answer than we: time for its answer to arrive, so that
    /// it says why it is late.
    #[arg(long = "deadline-margin-ms", env = "ROUTER_DEADLINE_MARGIN_MS", default_value = "500", value_parser = millis)]
    pub deadline_margin: Duration,

    /// Instances that one invocation may try: the second hides the loss of an instance, the third
    /// a loss during a restart; more would only spread an outage.
    #[arg(long = "max-tries", env = "ROUTER_MAX_TRIES", default_value = "3")]
    pub max_tries: usize,

    /// Retries per hundred invocations: the lasting extra load that an outage may cause.
    #[arg(long, env = "ROUTER_RETRY_PERCENT", default_value = "20")]
    pub retry_percent: u64,

    /// Retries that may come at once. An instance that is killed under load fails everything that
    /// it has in flight, and each needs two retries (its own address once more, then the next
    /// instance): enough for 2,048 in flight.
    #[arg(long, env = "ROUTER_RETRY_BURST", default_value = "4096")]
    pub retry_burst: u64,

    /// Retries earned per second without traffic, so that a quiet endpoint recovers.
    #[arg(long, env = "ROUTER_RETRY_PER_SECOND", default_value = "10")]
    pub retry_per_second: u64,

    /// What `x-amz-retry-after` asks clients to wait: one heartbeat, so that the picture is new.
    #[arg(long = "retry-after-ms", env = "ROUTER_RETRY_AFTER_MS", default_value = "1000", value_parser = millis)]
    pub retry_after: Duration,

    /// Answers 429 `ModelNotReadyException`, as AWS does, when a model still loads at the
    /// deadline. Current stock clients repeat only the 503 that is given otherwise.
    #[arg(long, env = "ROUTER_ANSWER_MODEL_NOT_READY")]
    pub answer_model_not_ready: bool,
}

/// Limits of talking to instances.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct InstanceConfig {
    /// Largest answer, bytes: SageMaker's 25 MB.
    #[arg(long = "max-answer", env = "ROUTER_MAX_ANSWER_BYTES", default_value = "26214400")]
    pub max_answer_bytes: u64,

    /// How long a connection may take. Instances are near; a second is four times what SageMaker
    /// grants a container.
    #[arg(long = "connect-timeout-ms", env = "ROUTER_CONNECT_TIMEOUT_MS", default_value = "1000", value_parser = millis)]
    pub connect_timeout: Duration,

    /// How long an idle connection is kept. One that the instance closed is noticed and replaced.
    #[arg(long = "upstream-keep-alive-ms", env = "ROUTER_UPSTREAM_KEEP_ALIVE_MS", default_value = "60000", value_parser = millis)]
    pub keep_alive: Duration,

    /// Longest silence within an answer: as long as SageMaker waits for one.
    #[arg(long = "answer-idle-ms", env = "ROUTER_ANSWER_IDLE_MS", default_value = "60000", value_parser = millis)]
    pub answer_idle: Duration,
}

/// Who is in service.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct MembershipConfig {
    /// Silence after which an instance counts as lost: three heartbeats.
    #[arg(long = "lease-ms", env = "ROUTER_LEASE_MS", default_value = "3000", value_parser = millis)]
    pub lease: Duration,

    /// Most instances: bounds the ring to 330,000 virtual nodes (8 MB).
    #[arg(long, env = "ROUTER_MAX_INSTANCES", default_value = "256")]
    pub max_instances: usize,

    /// Takes instances whose address is not the one that their heartbeats come from. Needed where
    /// addresses are translated; without it, nobody can make the router send requests elsewhere.
    #[arg(long, env = "ROUTER_ALLOW_FOREIGN_ADDRESSES")]
    pub allow_foreign_addresses: bool,

    /// How long an instance under suspicion may take to accept: SageMaker's limit for containers.
    #[arg(long = "probe-connect-ms", env = "ROUTER_PROBE_CONNECT_MS", default_value = "250", value_parser = millis)]
    pub probe_connect: Duration,

    /// How long it may take to answer `GET /ping`: SageMaker's limit for containers.
    #[arg(long = "probe-timeout-ms", env = "ROUTER_PROBE_TIMEOUT_MS", default_value = "2000", value_parser = millis)]
    pub probe_timeout: Duration,
}

fn millis(text: &str) -> Result<Duration, ParseIntError> {
    Ok(Duration::from_millis(text.parse()?))
}

/// Why the configuration was refused. One line for whoever starts the router.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("{}", first_line(_0))]
    Flags(clap::Error),
    #[error(
        "--listen {0} is not loopback: anybody could invoke; add --credentials, or \
         --allow-unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    #[error(
        "--internal-listen {0} is not loopback: anybody there could register instances; add \
         --cluster-token-file, or --allow-unauthenticated"
    )]
    Untrusting(SocketAddr),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Cluster(#[from] AccessError),
    #[error("{0} must be {1}")]
    Relation(&'static str, &'static str),
    #[error("--account-id must be 12 digits")]
    AccountId,
    #[error("--region must be letters, digits and hyphens")]
    Region,
    #[error("cannot read endpoints from {0}: {1}")]
    Endpoints(PathBuf, String),
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl Config {
    /// Reads flags and environment. `--help` and `--version` come back as `Flags`, too.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, InvalidConfig> {
        Self::try_parse_from(arguments).map_err(InvalidConfig::Flags)?.validate()
    }

    /// Checks what a single flag cannot: how the values relate. Here and in the groups every field
    /// is named, so that a new one must be thought about.
    pub fn validate(self) -> Result<Self, InvalidConfig> {
        let Self {
            listen,
            endpoints: _,
            address_file: _,
            exit_with_parent: _,
            allow_unauthenticated,
            log_format: _,
            http_threads: _,
            max_connections,
            client_stall,
            drain_timeout,
            access,
            identity,
            body,
            dispatch,
            instance,
            membership,
            cluster,
            control,
            store,
            objects: _,
            asynchronous,
        } = &self;
        access.check_reach(*listen, *allow_unauthenticated)?;
        access.validate()?;
        identity.validate()?;
        cluster.validate()?;
        let own = [
            (dispatch.deadline <= *drain_timeout, "--drain-timeout-ms", "at least --deadline-ms"),
            (*max_connections > 0, "--max-connections", "positive"),
            (!client_stall.is_zero(), "--client-stall-ms", "positive"),
        ];
        let groups = body.relations().into_iter().chain(dispatch.relations());
        let groups = groups.chain(instance.relations()).chain(membership.relations());
        let groups = groups.chain(control.relations()).chain(store.relations());
        let groups = groups.chain(asynchronous.relations());
        match own.into_iter().chain(groups).find(|(holds, ..)| !holds) {
            Some((_, flag, relation)) => Err(InvalidConfig::Relation(flag, relation)),
            None => Ok(self),
        }
    }

    /// Reads the endpoints file. Small, and before anything is served, so it may block.
    pub fn read_endpoints(&self) -> Result<Vec<Endpoint>, InvalidConfig> {
        let Some(path) = &self.endpoints else {
            return Ok(Vec::new());
        };
        let invalid = |reason| InvalidConfig::Endpoints(path.clone(), reason);
        let text = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        let file: EndpointsFile = toml::from_str(&text)
            .map_err(|error| invalid(Chain(&error).to_string().replace('\n', " ")))?;
        seed::check(&file.endpoints).map_err(|error| invalid(error.to_string()))?;
        Ok(file.endpoints)
    }
}

/// What must hold, of which flag, and what it must be.
type Relation = (bool, &'static str, &'static str);

impl IdentityConfig {
    fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { region, account_id } = self;
        if account_id.len() != 12 || !account_id.bytes().all(|it| it.is_ascii_digit()) {
            return Err(InvalidConfig::AccountId);
        }
        if region.is_empty() || !region.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') {
            return Err(InvalidConfig::Region);
        }
        Ok(())
    }
}

impl DispatchConfig {
    fn relations(&self) -> [Relation; 2] {
        let Self {
            deadline,
            deadline_margin,
            max_tries,
            // All zeros mean that nothing is sent again, which may be wanted.
            retry_percent: _,
            retry_burst: _,
            retry_per_second: _,
            retry_after: _,
            answer_model_not_ready: _,
        } = self;
        [
            (deadline_margin < deadline, "--deadline-margin-ms", "less than --deadline-ms"),
            (*max_tries > 0, "--max-tries", "positive"),
        ]
    }
}

impl InstanceConfig {
    fn relations(&self) -> [Relation; 2] {
        // Only empty answers, or no kept connection, may be wanted.
        let Self { max_answer_bytes: _, connect_timeout, keep_alive: _, answer_idle } = self;
        [
            (!connect_timeout.is_zero(), "--connect-timeout-ms", "positive"),
            (!answer_idle.is_zero(), "--answer-idle-ms", "positive"),
        ]
    }
}

impl MembershipConfig {
    fn relations(&self) -> [Relation; 4] {
        let Self { lease, max_instances, allow_foreign_addresses: _, probe_connect, probe_timeout } =
            self;
        [
            (!lease.is_zero(), "--lease-ms", "positive"),
            (*max_instances > 0, "--max-instances", "positive"),
            (!probe_connect.is_zero(), "--probe-connect-ms", "positive"),
            (!probe_timeout.is_zero(), "--probe-timeout-ms", "positive"),
        ]
    }
}

#[cfg(test)]
mod tests;
