//! Faults under a steady load: what they cost, in failed invocations and in time to recover.
//!
//! A scenario starts a cluster of real processes, loads it with invocations of warm and cold models
//! at a steady rate, does something to it, and reports. The tests run each in a short form
//! (`tests/chaos`), the program `chaos` in a long one; docs/reliability.md has what came out.

mod load;
mod report;
mod run;
pub mod scenarios;

pub use load::{Kind, Menu, Outcome, PacedLoad, Record};
pub use report::{Mark, REPORT_HEAD, Report, Row};
pub use run::Run;

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
    /// How long a fault lasts that does not end by itself.
    pub hold: Duration,
    /// How long the scenario of many kills goes on.
    pub kills: Duration,
    /// An invocation that takes longer counts as disturbed.
    pub disturbed: Duration,
}

/// How often a worker is killed in the scenario of many kills.
pub const KILL_INTERVAL: Duration = Duration::from_secs(10);

impl Plan {
    /// For the tests: programs may be slow and the machine busy.
    pub const SHORT: Self = Self {
        rate: 60,
        n_warm: 24,
        cold_percent: 5,
        calm: Duration::from_millis(1500),
        hold: Duration::from_secs(5),
        kills: Duration::from_secs(30),
        disturbed: Duration::from_millis(250),
    };

    /// For figures.
    pub fn long(kills: Duration, hold: Duration) -> Self {
        Self {
            rate: 100,
            n_warm: 48,
            cold_percent: 5,
            calm: Duration::from_secs(5),
            hold,
            kills,
            disturbed: Duration::from_millis(100),
        }
    }

    /// How many models are never asked until the load does, if faults last `lasting` in all.
    pub fn n_cold(&self, lasting: Duration) -> usize {
        // Twice the calm at least, and starts and ends of processes in between.
        let seconds = (lasting + 2 * self.calm).as_secs() + 20;
        let n = u64::from(self.rate) * seconds * u64::from(self.cold_percent) / 100;
        usize::try_from(n).expect("a scenario lasts minutes")
    }
}
