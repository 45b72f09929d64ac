//! The limits of what is served.

use super::SECONDS;
use clap::value_parser;

/// How large requests may be, and how long they may take.
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
