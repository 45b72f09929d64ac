//! Which target model each invocation asks, by the seed alone: never by what was answered before.

use super::{
    plan::{Cold, Plan, Popularity},
    trace::Trace,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::sync::Arc;

/// What one invocation asks. Places in the lists of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub target: u32,
    pub body: u32,
    /// Whether it was chosen because nobody has asked it before.
    pub is_cold: bool,
}

/// Chooses for one invocation after the other.
#[derive(Debug)]
pub struct Chooser {
    random: StdRng,
    law: Law,
    cold: Option<Untouched>,
    n_bodies: u32,
    n_chosen: u64,
}

#[derive(Debug)]
enum Law {
    Uniform {
        n_targets: u32,
    },
    /// Sums of the weights up to each target: the one in whose span a random number falls.
    Weights(Vec<f64>),
    Trace {
        trace: Arc<Trace>,
        next: usize,
    },
}

/// The targets that are asked once each.
#[derive(Debug)]
struct Untouched {
    share: f64,
    next: u32,
    end: u32,
}

impl Chooser {
    /// The plan must be valid.
    pub fn new(plan: &Plan) -> Self {
        let n_all = count(plan.targets.len());
        let n_popular = plan.cold.map_or(n_all, |cold| count(cold.n_warm));
        let law = match &plan.popularity {
            Popularity::Uniform => Law::Uniform { n_targets: n_popular },
            Popularity::Zipf { exponent } => Law::Weights(zipf(n_popular, *exponent)),
            Popularity::Trace(trace) => Law::Trace { trace: Arc::clone(trace), next: 0 },
        };
        let untouched = |Cold { share, .. }| Untouched { share, next: n_popular, end: n_all };
        Self {
            random: StdRng::seed_from_u64(plan.seed),
            law,
            cold: plan.cold.map(untouched),
            n_bodies: count(plan.bodies.len()),
            n_chosen: 0,
        }
    }

    /// Returns a target that nobody has asked, if it is time for one and there is one.
    fn untouched(&mut self) -> Option<u32> {
        let cold = self.cold.as_mut()?;
        let is_time = self.random.random_bool(cold.share);
        if !is_time || cold.next == cold.end {
            return None;
        }
        cold.next += 1;
        Some(cold.next - 1)
    }

    fn popular(&mut self) -> Option<u32> {
        match &mut self.law {
            // All were for the cold invocations.
            Law::Uniform { n_targets: 0 } => None,
            Law::Uniform { n_targets } => Some(self.random.random_range(0..*n_targets)),
            Law::Weights(sums) => {
                let total = sums.last()?;
                let point = self.random.random_range(0.0..*total);
                let place = sums.partition_point(|sum| *sum <= point);
                Some(count(place.min(sums.len() - 1)))
            }
            Law::Trace { trace, next } => {
                if *next == trace.len() && !trace.has_times() {
                    *next = 0;
                }
                *next += 1;
                trace.target(*next - 1)
            }
        }
    }
}

/// Ends once nothing is left to be asked. A trace with times ends, one without begins again.
impl Iterator for Chooser {
    type Item = Choice;

    fn next(&mut self) -> Option<Choice> {
        let body = u32::try_from(self.n_chosen % u64::from(self.n_bodies));
        let body = body.expect("it is below a number of 32 bits");
        let (target, is_cold) = match self.untouched() {
            Some(target) => (target, true),
            None => (self.popular()?, false),
        };
        self.n_chosen += 1;
        Some(Choice { target, body, is_cold })
    }
}

fn zipf(n_targets: u32, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let sums = (1..=n_targets).map(|rank| {
        sum += f64::from(rank).powf(-exponent);
        sum
    });
    sums.collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a valid plan has fewer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::id::TargetModel;

    fn plan(n_targets: usize, popularity: Popularity) -> Plan {
        let targets: Vec<TargetModel> =
            (0..n_targets).map(|n| format!("m{n}").parse().unwrap()).collect();
        Plan { popularity, seed: 7, ..Plan::closed("http://127.0.0.1:1", &targets, 1) }
    }

    fn counts(plan: &Plan, n: usize) -> Vec<f64> {
        let mut counts = vec![0.0; plan.targets.len()];
        let mut chooser = Chooser::new(plan);
        for _ in 0..n {
            counts[chooser.next().unwrap().target as usize] += 1.0;
        }
        counts
    }

    #[test]
    fn uniform_asks_all_alike() {
        let counts = counts(&plan(10, Popularity::Uniform), 100_000);
        // Of 10,000 each, with a standard deviation of 95.
        assert!(counts.iter().all(|n| (n - 10_000.0).abs() < 500.0), "{counts:?}");
    }

    #[test]
    fn zipf_asks_by_its_law() {
        for exponent in [0.0, 0.7, 1.1] {
            let n_targets = 1_000;
            let counts = counts(&plan(n_targets, Popularity::Zipf { exponent }), 200_000);
            let weight = |rank: usize| f64::from(u32::try_from(rank).unwrap()).powf(-exponent);
            let total: f64 = (1..=n_targets).map(weight).sum();
            for rank in [1, 2, 3, 10, 100] {
                let expected = 200_000.0 * weight(rank) / total;
                // Five standard deviations.
                let off = (counts[rank - 1] - expected).abs();
                assert!(off < 5.0 * expected.sqrt(), "{exponent} {rank}: {off} off {expected}");
            }
        }
    }

    #[test]
    fn cold_share_goes_to_models_that_nobody_asked() {
        let cold = Some(Cold { share: 0.2, n_warm: 100 });
        let plan = Plan { cold, ..plan(1_100, Popularity::Zipf { exponent: 1.0 }) };
        let mut chooser = Chooser::new(&plan);
        let choices: Vec<Choice> = (0..3_000).map_while(|_| chooser.next()).collect();
        let mut asked = std::collections::HashSet::new();
        let mut n_cold = 0;
        for choice in &choices {
            assert_eq!(choice.is_cold, choice.target >= 100, "{choice:?}");
            let is_new = asked.insert(choice.target);
            assert!(is_new || !choice.is_cold, "{choice:?}");
            n_cold += i32::from(choice.is_cold);
        }
        assert!((n_cold - 600).abs() < 110, "{n_cold}");
    }

    #[test]
    fn cold_models_that_run_out_leave_the_others() {
        let cold = Some(Cold { share: 1.0, n_warm: 1 });
        let mut chooser = Chooser::new(&Plan { cold, ..plan(3, Popularity::Uniform) });
        let targets = [(); 4].map(|()| chooser.next().unwrap().target);
        assert_eq!(targets, [1, 2, 0, 0]);
        let cold = Some(Cold { share: 1.0, n_warm: 0 });
        let mut chooser = Chooser::new(&Plan { cold, ..plan(1, Popularity::Uniform) });
        assert_eq!([(); 2].map(|()| chooser.next().is_some()), [true, false]);
    }

    #[test]
    fn trace_without_times_begins_again_and_one_with_times_ends() {
        let targets_of = |text: &str, n: usize| {
            let (trace, targets) = Trace::read(text.as_bytes()).unwrap();
            let popularity = Popularity::Trace(Arc::new(trace));
            let mut chooser = Chooser::new(&plan(targets.len(), popularity));
            (0..n).map_while(|_| chooser.next()).map(|it| it.target).collect::<Vec<u32>>()
        };
        assert_eq!(targets_of("a\nb\na\n", 5), [0, 1, 0, 0, 1]);
        assert_eq!(targets_of("1 a\n2 b\n", 5), [0, 1]);
    }

    proptest! {
        #[test]
        fn same_seed_asks_the_same(
            seed: u64,
            n_targets in 2..50_usize,
            exponent in 0.0..3.0_f64,
            share in 0.0..1.0_f64,
        ) {
            let cold = Some(Cold { share, n_warm: n_targets / 2 });
            let popularity = Popularity::Zipf { exponent };
            let plan = Plan { cold, seed, ..plan(n_targets, popularity) };
            let (mut one, mut other) = (Chooser::new(&plan), Chooser::new(&plan));
            for _ in 0..200 {
                let choice = one.next();
                prop_assert_eq!(choice, other.next());
                prop_assert!((choice.unwrap().target as usize) < n_targets);
            }
        }
    }
}
