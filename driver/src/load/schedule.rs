//! When each invocation is due, whatever the cluster does.
//!
//! An open load does not wait for answers: an invocation is due at its time even if earlier ones
//! have not been answered, and its latency counts from then. A closed loop slows down with the
//! cluster and hides the very stalls we look for.

use super::{
    plan::{Arrivals, Plan, Popularity},
    trace::Trace,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// So that times and models come from different random numbers of one seed.
const TIMES: u64 = 0x7469_6d65;

/// The due times of a run, from its start. Same plan, same times.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Times,
    duration: Duration,
    n_due: u64,
}

#[derive(Debug)]
enum Times {
    Even { rate: f64 },
    Poisson { rate: f64, random: Box<StdRng>, last: f64 },
    Trace { trace: Arc<Trace> },
}

impl Schedule {
    /// The plan must be valid.
    pub fn new(plan: &Plan, arrivals: Arrivals) -> Self {
        let random = || Box::new(StdRng::seed_from_u64(plan.seed ^ TIMES));
        let arrivals = match (arrivals, &plan.popularity) {
            (Arrivals::Even { rate }, _) => Times::Even { rate },
            (Arrivals::Poisson { rate }, _) => Times::Poisson { rate, random: random(), last: 0.0 },
            (Arrivals::Trace, Popularity::Trace(trace)) => {
                Times::Trace { trace: Arc::clone(trace) }
            }
            (Arrivals::Trace, _) => Times::Trace { trace: Arc::default() },
        };
        Self { arrivals, duration: plan.duration, n_due: 0 }
    }
}

/// When the next invocation is due, until the duration is over.
impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let n = self.n_due;
        self.n_due += 1;
        #[expect(clippy::cast_precision_loss, reason = "2^53 invocations take years")]
        let due = match &mut self.arrivals {
            // Not a sum of intervals: roundings would add up.
            Times::Even { rate } => Duration::try_from_secs_f64(n as f64 / *rate).ok()?,
            Times::Poisson { rate, random, last } => {
                let uniform: f64 = random.random();
                *last -= (1.0 - uniform).ln() / *rate;
                Duration::try_from_secs_f64(*last).ok()?
            }
            Times::Trace { trace } => trace.offset(usize::try_from(n).ok()?)?,
        };
        (due < self.duration).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(duration: Duration, seed: u64) -> Plan {
        Plan { duration, seed, ..Plan::open("http://127.0.0.1:1", &["a".parse().unwrap()], 1.0) }
    }

    fn times(plan: &Plan, arrivals: Arrivals) -> Vec<Duration> {
        Schedule::new(plan, arrivals).collect()
    }

    #[test]
    fn even_times_are_at_even_distances_and_end_with_the_duration() {
        let due = times(&plan(Duration::from_secs(1), 0), Arrivals::Even { rate: 3.0 });
        let expected = [0.0, 1.0 / 3.0, 2.0 / 3.0].map(Duration::from_secs_f64);
        assert_eq!(due, expected);
        let due = times(&plan(Duration::from_secs(10), 0), Arrivals::Even { rate: 12_345.0 });
        assert_eq!(due.len(), 123_450);
    }

    #[test]
    fn rate_of_almost_nothing_is_one_invocation() {
        for arrivals in [Arrivals::Even { rate: 1e-20 }, Arrivals::Even { rate: f64::MIN_POSITIVE }]
        {
            assert_eq!(times(&plan(Duration::from_secs(1), 0), arrivals), [Duration::ZERO]);
        }
        let poisson = Arrivals::Poisson { rate: f64::MIN_POSITIVE };
        assert!(times(&plan(Duration::from_secs(1), 0), poisson).is_empty());
    }

    #[test]
    fn poisson_times_have_the_rate_and_the_spread_of_independent_clients() {
        let due = times(&plan(Duration::from_secs(100), 1), Arrivals::Poisson { rate: 1_000.0 });
        let n = f64::from(u32::try_from(due.len()).unwrap());
        // The standard deviation is 316.
        assert!((n - 100_000.0).abs() < 1_600.0, "{n}");
        let gaps: Vec<f64> = due.windows(2).map(|it| it[1].abs_diff(it[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / n;
        let spread = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!((spread / mean - 1.0).abs() < 0.05, "{spread} {mean}");
    }

    #[test]
    fn times_of_a_trace_are_kept() {
        let (trace, _) = Trace::read("5 a\n5 b\n2500 a\n".as_bytes()).unwrap();
        let popularity = Popularity::Trace(Arc::new(trace));
        let plan = Plan { popularity, ..plan(Duration::from_secs(2), 0) };
        assert_eq!(times(&plan, Arrivals::Trace), [Duration::from_millis(5); 2]);
    }

    proptest! {
        #[test]
        fn same_seed_has_the_same_times_in_order(seed: u64, rate in 0.1..5_000.0_f64) {
            let plan = plan(Duration::from_millis(300), seed);
            for arrivals in [Arrivals::Even { rate }, Arrivals::Poisson { rate }] {
                let due = times(&plan, arrivals);
                prop_assert_eq!(&due, &times(&plan, arrivals));
                prop_assert!(due.is_sorted());
                prop_assert!(due.iter().all(|it| *it < plan.duration));
            }
        }
    }
}
