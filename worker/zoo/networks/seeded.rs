//! Networks with random weights from a seed: real architectures whose answers mean nothing.
//!
//! In evaluation mode a random network soon fades out or explodes with depth. So batch norms pass
//! values through unchanged, and each residual branch adds little to what it is added to.

use super::Network;
use tch::{
    Device, Tensor,
    nn::{self, ModuleT},
    vision::{resnet, squeezenet},
};

const N_CLASSES: i64 = 1000;
const IMAGE_SHAPE: [i64; 4] = [1, 3, 224, 224];
/// Fixed per model, so that an archive is the same wherever it is made.
const RESNET18_SEED: i64 = 18;
const RESNET152_SEED: i64 = 152;
const TINY_MLP_SEED: i64 = 16;
/// What a residual branch adds: fifty of them then still leave values of the same size.
const BRANCH_WEIGHT: f64 = 0.2;

pub(super) fn resnet18() -> Network {
    let store = seeded_store(RESNET18_SEED);
    let network = resnet::resnet18(&store.root(), N_CLASSES);
    steady(&store, "bn2");
    image_network(store, network)
}

pub(super) fn resnet152() -> Network {
    let store = seeded_store(RESNET152_SEED);
    let network = resnet::resnet152(&store.root(), N_CLASSES);
    steady(&store, "bn3");
    image_network(store, network)
}

pub(super) fn squeezenet(seed: i64) -> Network {
    let store = seeded_store(seed);
    let network = squeezenet::v1_0(&store.root(), N_CLASSES);
    image_network(store, network)
}

pub(super) fn tiny_mlp() -> Network {
    let mut store = seeded_store(TINY_MLP_SEED);
    let root = store.root();
    let network = nn::seq_t()
        .add(nn::linear(&root / "0", 16, 32, nn::LinearConfig::default()))
        .add_fn(Tensor::relu)
        .add(nn::linear(&root / "2", 32, 16, nn::LinearConfig::default()));
    store.freeze();
    Network {
        input_shape: vec![1, 16],
        forward: Box::new(move |rows| network.forward_t(rows, false)),
        licence: None,
    }
}

fn seeded_store(seed: i64) -> nn::VarStore {
    tch::manual_seed(seed);
    nn::VarStore::new(Device::Cpu)
}

fn image_network(mut store: nn::VarStore, network: impl ModuleT + 'static) -> Network {
    store.freeze();
    Network {
        input_shape: IMAGE_SHAPE.to_vec(),
        forward: Box::new(move |images| network.forward_t(images, false)),
        licence: None,
    }
}

/// Sets batch norms to pass values through, and `branch_end`, the last one of each residual branch,
/// to make them small.
fn steady(store: &nn::VarStore, branch_end: &str) {
    for (name, mut tensor) in store.variables() {
        let mut parts = name.rsplit('.');
        if parts.next() != Some("weight") {
            continue;
        }
        // A convolution's weight has four dimensions, a batch norm's one.
        if tensor.dim() == 1 {
            let is_branch_end = parts.next() == Some(branch_end);
            let _ = tch::no_grad(|| tensor.fill_(if is_branch_end { BRANCH_WEIGHT } else { 1.0 }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::alone;

    fn answer(network: &Network) -> Vec<f32> {
        let input =
            Tensor::linspace(0.0, 1.0, 3 * 64 * 64, tch::kind::FLOAT_CPU).view([1, 3, 64, 64]);
        (network.forward)(&input).view(-1).try_into().unwrap()
    }

    #[test]
    fn a_seed_decides_every_weight() {
        let _alone = alone();
        let [first, again, other] = [1, 1, 2].map(|seed| answer(&squeezenet(seed)));
        // Without the numbers: a thousand would be printed.
        assert!(first == again);
        assert!(first != other);
    }

    #[test]
    fn even_the_deepest_network_answers_with_moderate_numbers() {
        let _alone = alone();
        let logits = answer(&resnet152());
        assert_eq!(logits.len(), 1000);
        let largest = logits.iter().fold(0.0_f32, |largest, it| largest.max(it.abs()));
        assert!((0.1..50.0).contains(&largest), "{largest}");
    }
}
