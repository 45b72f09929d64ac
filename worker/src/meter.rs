//! How long the invocations of one replica wait and run, noted where they do.

use crate::{busy::BusyTime, metrics::ReplicaMetrics};
use std::time::Duration;
use tokio::time::Instant;

/// What a replica's invocations took. No invocation waits for another to note it.
#[derive(Debug, Default)]
pub struct Meter {
    busy: BusyTime,
    metrics: ReplicaMetrics,
}

impl Meter {
    pub fn new(metrics: ReplicaMetrics) -> Self {
        Self { busy: BusyTime::new(), metrics }
    }

    /// An invocation has waited for so long and begins to run.
    pub fn begin(&self, waited: Duration, at: Instant) {
        self.metrics.queue.0.observe(waited);
        self.busy.begin(at);
    }

    /// An invocation ends that began at a time.
    pub fn end(&self, began: Instant, at: Instant) {
        self.busy.end(at);
        self.metrics.invoke.0.observe(at - began);
    }

    /// How long they have run in all, those that run now included.
    pub fn busy(&self, now: Instant) -> Duration {
        self.busy.total(now)
    }
}
