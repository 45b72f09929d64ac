//! Flags of asynchronous invocations.

use super::Relation;

#[derive(Clone, Debug, clap::Args)]
pub struct AsyncConfig {
    /// Asynchronous invocations that are accepted and not done; more get 503. Each may hold an input
    /// of 128 KB in the records: 128 MB in all.
    #[arg(long, env = "ROUTER_MAX_ASYNC", default_value = "1000")]
    pub max_async: usize,

    /// Asynchronous invocations that run at once. Each may hold an input and an output of 25 MB.
    #[arg(long, env = "ROUTER_MAX_RUNNING_ASYNC", default_value = "16")]
    pub max_running_async: usize,

    /// Asynchronous invocations of an endpoint that run at once, per instance, if its configuration
    /// does not say: two per core of a small machine, so that the next waits where it will run.
    #[arg(long, env = "ROUTER_ASYNC_PER_INSTANCE", default_value = "4")]
    pub async_per_instance: usize,
}

impl AsyncConfig {
    pub(super) fn relations(&self) -> [Relation; 3] {
        let Self { max_async, max_running_async, async_per_instance } = self;
        [
            (*max_async > 0, "--max-async", "positive"),
            (*max_running_async > 0, "--max-running-async", "positive"),
            (*async_per_instance > 0, "--async-per-instance", "positive"),
        ]
    }
}
