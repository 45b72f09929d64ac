//! Builds a network with its weights: real ones from a file, or random ones from a seed.

mod efficientnet_lite;
mod seeded;

use crate::catalogue::NetworkKind;
use std::path::Path;
use tch::Tensor;

/// A network ready to run: evaluation mode, no gradients.
pub(crate) struct Network {
    pub(crate) input_shape: Vec<i64>,
    pub(crate) forward: Box<dyn Fn(&Tensor) -> Tensor>,
    /// What the weights are under, where they are somebody's.
    pub(crate) licence: Option<Vec<u8>>,
}

pub(crate) fn build(kind: &NetworkKind, weights: &Path) -> anyhow::Result<Network> {
    match *kind {
        NetworkKind::EfficientNetLite(size) => efficientnet_lite::build(size, weights),
        NetworkKind::ResNet18 => Ok(seeded::resnet18()),
        NetworkKind::ResNet152 => Ok(seeded::resnet152()),
        NetworkKind::SqueezeNet { seed } => Ok(seeded::squeezenet(seed)),
        NetworkKind::TinyMlp => Ok(seeded::tiny_mlp()),
    }
}

/// Keeps tests that draw random numbers apart: LibTorch has one generator for all threads.
#[cfg(test)]
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static GENERATOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
    GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
