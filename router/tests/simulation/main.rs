//! The router's decisions at a scale that no machine has: 1,000 instances, 1,000,000 models.
//!
//! What decides is the router's own code: the ring, the group that places an invocation, the
//! replicas of hot models, the roster. Around it is a discrete-event simulation: time is a number,
//! what happens next is taken from a heap, and all chance comes from a seed, so that a run is the
//! same on every machine and what it shows can be asserted.
//!
//! Why not `turmoil` or a simulated runtime: the decisions are plain functions that get the time as
//! an argument, so there is nothing to intercept; actix does not run on a simulated network; and a
//! million invocations through one would take hours instead of seconds.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "statistics: no count here is near the precision of a float"
)]
#![expect(clippy::print_stdout, reason = "the figures are for docs/benchmarks.md")]

mod chance;
mod membership;

mod spread;
mod work;
