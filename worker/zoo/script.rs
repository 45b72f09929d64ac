//! Turns a network into a TorchScript file, and checks that the file answers as the network does.

use crate::networks::Network;
use anyhow::ensure;
use std::path::Path;
use tch::{CModule, Kind, Tensor};

/// Seeds the example inputs. Any number would do; a fixed one keeps the files reproducible.
const INPUT_SEED: i64 = 42;
/// The same operations on the same machine: only their order in memory may differ.
const MAX_DIFFERENCE: f64 = 1e-4;
/// A logit beyond this makes every answer "100 %": the network was set up badly.
const MAX_LOGIT: f64 = 100.0;

pub(crate) fn save_checked(network: &Network, path: &Path) -> anyhow::Result<()> {
    tch::manual_seed(INPUT_SEED);
    let [example, other] =
        [(); 2].map(|()| Tensor::rand(&network.input_shape, tch::kind::FLOAT_CPU));
    tch::no_grad(|| {
        let mut forward = |inputs: &[Tensor]| vec![(network.forward)(&inputs[0])];
        let traced = CModule::create_by_tracing("Model", "forward", &[example], &mut forward)?;
        traced.save(path)?;
        // Another input than the traced one: a value that tracing froze by mistake would show.
        let answer = CModule::load(path)?.forward_ts(&[&other])?;
        check(&answer, &(network.forward)(&other))
    })
}

fn check(answer: &Tensor, expected: &Tensor) -> anyhow::Result<()> {
    let difference = (answer - expected).abs().max().double_value(&[]);
    ensure!(
        difference <= MAX_DIFFERENCE,
        "the file answers otherwise than the network: {difference}"
    );
    let largest = answer.abs().max().double_value(&[]);
    ensure!(largest.is_finite() && largest <= MAX_LOGIT, "outputs reach {largest}");
    let spread = answer.std(false).double_value(&[]);
    ensure!(
        answer.kind() == Kind::Float && spread > 1e-3,
        "all outputs are alike: spread {spread}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_explode_or_are_all_alike_are_refused() {
        let good = Tensor::from_slice(&[0.1_f32, 0.5, -2.0]);
        assert!(check(&good, &good).is_ok());
        let other = Tensor::from_slice(&[0.1_f32, 0.6, -2.0]);
        let nan = Tensor::from_slice(&[0.1_f32, f32::NAN]);
        let huge = Tensor::from_slice(&[0.1_f32, 1e6]);
        let flat = Tensor::from_slice(&[0.1_f32, 0.1]);
        for (answer, expected) in [(&good, &other), (&nan, &nan), (&huge, &huge), (&flat, &flat)] {
            assert!(check(answer, expected).is_err(), "{answer:?} {expected:?}");
        }
    }
}
