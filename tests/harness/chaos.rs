//! Faults under a steady load: what they cost, in failed invocations and in time to recover.
//!
//! A scenario starts a cluster of real processes, loads it with invocations of warm and cold models
//! at a steady rate, does something to it, says what that may cost ([`Aim`]), and reports. The tests
//! run each in a short form (`tests/chaos`), the program `chaos` in a long one; docs/reliability.md
//! has what came out.

mod aim;
mod load;
mod recovery;
mod report;
mod run;
pub mod scenarios;
mod witness;

pub use aim::Aim;
pub use report::{REPORT_HEAD, Report};

use std::time::Duration;

/// How much load, and how long things last.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Invocations due per second.
    pub rate: u32,
    pub n_warm: usize,
    /// How many of a hundred invocations ask a model that was never asked before.
    pub cold_percent: u32,
    /// Before the first fault, and after the last.
    pub calm: Duration,
    /// How long a fault lasts that does not end by itself. Some scenarios need longer.
    pub hold: Duration,
    /// The same for a store that is gone: clients and caches bear that for a while.
    pub store_gone: Duration,
    /// How long the scenario of many kills goes on.
    pub kills: Duration,
    /// An invocation that takes longer counts as disturbed.
    pub disturbed: Duration,
}

/// How often a worker is killed in the scenario of many kills.
const KILL_INTERVAL: Duration = Duration::from_secs(10);

impl Plan {
    /// For the tests: programs may be slow and the machine busy. What a cluster does that has not
    /// recovered takes longer than what counts as disturbed: seconds until somebody gives up.
    pub const SHORT: Self = Self {
        rate: 60,
        n_warm: 24,
        cold_percent: 5,
        calm: Duration::from_secs(3),
        hold: Duration::from_secs(5),
        store_gone: Duration::from_secs(8),
        kills: Duration::from_secs(30),
        disturbed: Duration::from_millis(500),
    };

    /// For figures.
    pub fn long(kills: Duration, hold: Duration) -> Self {
        Self {
            rate: 100,
            n_warm: 48,
            cold_percent: 5,
            calm: Duration::from_secs(5),
            hold,
            store_gone: hold.max(Duration::from_mins(1)),
            kills,
            disturbed: Duration::from_millis(100),
        }
    }

    /// The same, for faults that show only after a while.
    #[must_use]
    pub fn holding_at_least(self, least: Duration) -> Self {
        Self { hold: self.hold.max(least), ..self }
    }

    /// How many models are never asked until the load does, if faults last `lasting` in all.
    pub fn n_cold(&self, lasting: Duration) -> usize {
        // Twice the calm at least, and starts and ends of processes in between.
        let seconds = (lasting + 2 * self.calm).as_secs() + 20;
        let n = u64::from(self.rate) * seconds * u64::from(self.cold_percent) / 100;
        usize::try_from(n).expect("a scenario lasts minutes")
    }
}
