//! Jittered exponential backoff, as a plain function.

use rand::RngExt as _;
use std::time::Duration;

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait at all.
    pub max: Duration,
}

impl Backoff {
    /// Returns the wait before attempt `attempt + 1`: a random share (half to all) of
    /// `base × 2^attempt`, at most `max`. Half is kept so that a crash loop cannot spin.
    pub fn delay(&self, attempt: u32) -> Duration {
        let ceiling = self.ceiling(attempt);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delay_grows_and_stays_bounded(attempt in 0_u32..200) {
            let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };
            let delay = backoff.delay(attempt);
            prop_assert!(delay <= backoff.max);
            prop_assert!(delay >= backoff.base / 2);
            prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1));
        }
    }
}
