//! How fast an instance is, as its answers tell: what placement's economics need.
//!
//! One writer may undo another's update: these are estimates, and the next answer mends them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The part of an estimate that each answer renews: sixteen answers are a memory.
const WEIGHT: u64 = 16;

/// The part that a shorter load takes from a longer one before it: the longest of late counts, so
/// that a load that found nearly everything there does not make the next one look cheap.
const LOAD_WEIGHT: u64 = 8;

/// Microseconds; zero is "not measured yet".
#[derive(Debug, Default)]
pub(super) struct Pace {
    service: AtomicU64,
    load: AtomicU64,
}

impl Pace {
    /// Learns from an answer that waited for no load. It took `took` where `n_in_flight`
    /// invocations, itself among them, shared `n_slots`: each of the rounds took its part of that.
    pub(super) fn served(&self, took: Duration, n_in_flight: usize, n_slots: usize) {
        let n_rounds = n_in_flight.div_ceil(n_slots.max(1)).max(1) as u64;
        let sample = (micros(took) / n_rounds).max(1);
        let before = self.service.load(Relaxed);
        let after = match before {
            0 => sample,
            _ => (before * (WEIGHT - 1) + sample) / WEIGHT,
        };
        self.service.store(after.max(1), Relaxed);
    }

    /// Learns from an answer that waited for a load.
    pub(super) fn loaded(&self, took: Duration) {
        let before = self.load.load(Relaxed);
        let after = micros(took).max(before - before / LOAD_WEIGHT).max(1);
        self.load.store(after, Relaxed);
    }

    /// How long an invocation keeps a slot.
    pub(super) fn service(&self) -> Option<Duration> {
        measured(&self.service)
    }

    /// How long a load takes.
    pub(super) fn load(&self) -> Option<Duration> {
        measured(&self.load)
    }
}

/// At most an hour, so that no sum overflows.
fn micros(duration: Duration) -> u64 {
    const HOUR: u64 = 3_600_000_000;
    u64::try_from(duration.as_micros()).map_or(HOUR, |micros| micros.min(HOUR))
}

fn measured(micros: &AtomicU64) -> Option<Duration> {
    Some(micros.load(Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!((Pace::default().service(), Pace::default().load()), (None, None));
    }

    #[test]
    fn the_time_in_a_queue_is_not_counted_as_service() {
        let pace = Pace::default();
        pace.served(10 * MS, 1, 2);
        assert_eq!(pace.service(), Some(10 * MS));
        for _ in 0..100 {
            pace.served(40 * MS, 8, 2);
        }
        let service = pace.service().unwrap();
        assert!(service.abs_diff(10 * MS) < MS / 10, "{service:?}");
    }

    #[test]
    fn an_estimate_follows_in_some_dozen_answers() {
        let pace = Pace::default();
        pace.served(10 * MS, 1, 1);
        for _ in 0..64 {
            pace.served(20 * MS, 1, 1);
        }
        assert!(pace.service().unwrap() > 19 * MS);
    }

    #[test]
    fn the_longest_load_of_late_counts() {
        let pace = Pace::default();
        pace.loaded(800 * MS);
        pace.loaded(MS);
        assert_eq!(pace.load(), Some(700 * MS));
        for _ in 0..200 {
            pace.loaded(MS);
        }
        assert!(pace.load().unwrap() < 2 * MS);
        pace.loaded(Duration::MAX);
        assert!(pace.load() > Some(3000 * 1000 * MS));
    }
}
