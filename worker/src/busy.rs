//! How long the invocations of one model have held compute slots, those that run now included.
//!
//! Every invocation adds to it, so it takes no lock: one atomic number holds how many run and when
//! they began, and each beginning and end is one addition. With `n` running at the time `t`, the sum
//! of what they and all before them took is `ends - beginnings + n × t`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// Bits 54 to 63 count what runs, more than any machine has cores; below is a signed sum of
/// microseconds, of which 300 core years fit.
const ONE_RUNNING: u64 = 1 << SUM_BITS;
const SUM_BITS: u32 = 54;

/// Time on compute slots.
#[derive(Debug)]
pub struct BusyTime {
    created: Instant,
    state: AtomicU64,
}

impl BusyTime {
    pub fn new() -> Self {
        Self { created: Instant::now(), state: AtomicU64::new(0) }
    }

    /// An invocation takes a slot.
    pub fn begin(&self, at: Instant) {
        self.state.fetch_add(ONE_RUNNING.wrapping_sub(self.micros(at)), Relaxed);
    }

    /// An invocation that began gives its slot back.
    pub fn end(&self, at: Instant) {
        self.state.fetch_add(self.micros(at).wrapping_sub(ONE_RUNNING), Relaxed);
    }

    /// Returns how long slots were held in all, until now.
    pub fn total(&self, now: Instant) -> Duration {
        let state = self.state.load(Relaxed);
        let unused = u64::BITS - SUM_BITS;
        // Shifted back with its sign.
        let sum = (state << unused).cast_signed() >> unused;
        let n_running = state.wrapping_sub(sum.cast_unsigned()) >> SUM_BITS;
        let running = n_running.wrapping_mul(self.micros(now));
        // Below nothing only if somebody began after `now` was read.
        let total = sum.saturating_add_unsigned(running).max(0);
        Duration::from_micros(total.cast_unsigned())
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.created);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Default for BusyTime {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_runs_counts_before_it_has_ended() {
        let busy = BusyTime::new();
        let at = |seconds: u32| busy.created + SECOND * seconds;
        assert_eq!(busy.total(at(5)), Duration::ZERO);

        busy.begin(at(10));
        busy.begin(at(12));
        assert_eq!(busy.total(at(13)), 4 * SECOND);
        busy.end(at(14));
        assert_eq!(busy.total(at(15)), 7 * SECOND);
        busy.end(at(20));
        assert_eq!(busy.total(at(20)), 12 * SECOND);
        assert_eq!(busy.total(at(99)), 12 * SECOND);
    }

    #[test]
    fn years_on_many_cores_fit() {
        let busy = BusyTime::new();
        let year = SECOND * 365 * 86_400;
        for _ in 0..100 {
            busy.begin(busy.created + year);
        }
        assert_eq!(busy.total(busy.created + 2 * year), 100 * year);
        for _ in 0..100 {
            busy.end(busy.created + 2 * year);
        }
        assert_eq!(busy.total(busy.created + 3 * year), 100 * year);
    }

    #[test]
    fn threads_that_begin_and_end_lose_nothing() {
        let busy = BusyTime::new();
        let (begin, end) = (busy.created, busy.created + SECOND);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        busy.begin(begin);
                        busy.end(end);
                    }
                });
            }
        });
        assert_eq!(busy.total(end), 4000 * SECOND);
    }
}
