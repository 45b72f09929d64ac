//! Chance, from a seed.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Popularities by rank: the model of rank `r` is asked for in proportion to `1 / r^exponent`.
pub(crate) struct Zipf {
    /// The sum of all weights up to each rank.
    sums: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(n_models: u32, exponent: f64) -> Self {
        let weights = (1..=n_models).map(|rank| f64::from(rank).powf(-exponent));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    pub(crate) fn pick(&self, rng: &mut StdRng) -> usize {
        let at = rng.random::<f64>() * self.sums.last().expect("there are models");
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Time until the next event, seconds, where `rate` of them happen in one.
pub(crate) fn until_next(rate: f64, rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln() / rate
}
