//! By when more of a request body must come, and how much of the budget for all bodies it may take.

use std::time::Duration;
use tokio::time::Instant;

/// Bodies up to this size are small: what one read of a socket may give.
pub const SMALL_BYTES: u64 = 64 * 1024;

/// An eighth of the budget is for small bodies alone. Of the default that is room for two thousand of
/// them, and for five of the forty largest less.
const KEPT_PART: u64 = 8;

/// Returns how much all bodies together may occupy for a body of `n_bytes` to be among them. Large ones
/// leave room for small ones, but the largest always has its own.
pub fn room_for(n_bytes: u64, max_bytes: u64, budget_bytes: u64) -> u64 {
    let kept = if n_bytes <= SMALL_BYTES { 0 } else { budget_bytes / KEPT_PART };
    (budget_bytes - kept).max(max_bytes)
}

/// By when more of a body must come: it may be behind the slowest rate by the grace, at any time. So what
/// came fast earns no more than that for a stall that follows.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    deadline: Instant,
    grace: Duration,
    /// Bytes per second.
    min_rate: u64,
}

impl Pace {
    pub fn new(now: Instant, grace: Duration, min_rate: u64) -> Self {
        Self { deadline: now + grace, grace, min_rate }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that so many bytes came.
    pub fn progress(&mut self, n_bytes: u64, now: Instant) {
        let earned = Duration::from_millis(n_bytes.saturating_mul(1000) / self.min_rate);
        self.deadline = (self.deadline + earned).min(now + self.grace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let room = |n_bytes| room_for(n_bytes, 25 * MIB, 1024 * MIB);
        assert_eq!(room(1), 1024 * MIB);
        assert_eq!(room(SMALL_BYTES), 1024 * MIB);
        assert_eq!(room(SMALL_BYTES + 1), 896 * MIB);
        assert_eq!(room(25 * MIB), 896 * MIB);
    }

    #[test]
    fn the_largest_body_fits_into_the_smallest_budget() {
        for n_bytes in [1, 25 * MIB] {
            assert_eq!(room_for(n_bytes, 25 * MIB, 25 * MIB), 25 * MIB);
        }
        assert_eq!(room_for(25 * MIB, 25 * MIB, 26 * MIB), 25 * MIB);
    }

    /// A pace of 100 bytes a second with a grace of 10 s, and how long may pass until more must come
    /// after `progress`: seconds since the start, and bytes.
    #[track_caller]
    fn check(progress: &[(u64, u64)], expected_s: u64) {
        let start = Instant::now();
        let mut pace = Pace::new(start, Duration::from_secs(10), 100);
        for (at_s, n_bytes) in progress {
            pace.progress(*n_bytes, start + Duration::from_secs(*at_s));
        }
        assert_eq!(pace.deadline() - start, Duration::from_secs(expected_s), "{progress:?}");
    }

    #[test]
    fn a_body_may_be_behind_its_rate_by_the_grace() {
        check(&[], 10);
        check(&[(8, 200)], 12);
        check(&[(8, 200), (11, 300)], 15);
    }

    #[test]
    fn what_came_at_once_earns_no_more_than_the_grace() {
        check(&[(0, 1_000_000)], 10);
        check(&[(5, 1_000_000)], 15);
        // What comes later earns what it is worth.
        check(&[(0, 1_000_000), (9, 100)], 11);
        check(&[(0, u64::MAX)], 10);
    }
}
