//! Limits of request bodies.

use super::{Relation, millis};
use std::time::Duration;

/// Limits of request bodies.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct BodyConfig {
    /// Largest request body, bytes: SageMaker's 25 MB.
    #[arg(long = "max-body", env = "ROUTER_MAX_BODY_BYTES", default_value = "26214400")]
    pub max_bytes: u64,

    /// Bytes of all request bodies together; beyond, invocations get 503. Forty of the largest. An eighth
    /// is for bodies of at most 64 KiB alone.
    #[arg(long = "body-budget", env = "ROUTER_BODY_BUDGET_BYTES", default_value = "1073741824")]
    pub budget_bytes: u64,

    /// How far a body may be behind the slowest rate, at any time: covers a slow start of a connection,
    /// and pauses.
    #[arg(long = "body-grace-ms", env = "ROUTER_BODY_GRACE_MS", default_value = "10000", value_parser = millis)]
    pub grace: Duration,

    /// Slowest body, bytes per second: far below any mobile link (408 when it is further behind).
    #[arg(long = "body-min-rate", env = "ROUTER_BODY_MIN_RATE", default_value = "16384")]
    pub min_rate: u64,

    /// Bytes of a refused body that are read and thrown away, so that a client that sends all of
    /// it before it reads still gets the answer. Four times the largest body.
    #[arg(long = "drain-body", env = "ROUTER_DRAIN_BODY_BYTES", default_value = "104857600")]
    pub drain_bytes: u64,

    /// How long that may take: 100 MB at 80 Mbit/s.
    #[arg(long = "drain-body-ms", env = "ROUTER_DRAIN_BODY_MS", default_value = "10000", value_parser = millis)]
    pub drain_patience: Duration,
}

impl BodyConfig {
    pub(super) fn relations(&self) -> [Relation; 3] {
        // Without draining, slow clients fare worse, which may be wanted.
        let Self { max_bytes, budget_bytes, grace, min_rate, drain_bytes: _, drain_patience: _ } =
            self;
        [
            (max_bytes <= budget_bytes, "--body-budget", "at least --max-body"),
            (!grace.is_zero(), "--body-grace-ms", "positive"),
            (*min_rate > 0, "--body-min-rate", "positive"),
        ]
    }
}
