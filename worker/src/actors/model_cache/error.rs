//! Why no replica could be had.

use super::MAX_LOADS;
use crate::{artifact::FetchError, compute::ComputeError, runtime::RuntimeError};
use shared::api::error::ErrorKind;

/// Why no replica could be had. `Clone`, because many wait for one load.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcquireError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(
        "model needs {needed_bytes} bytes of the {budget_bytes} that models may take, and nothing can go"
    )]
    NoRoom { needed_bytes: u64, budget_bytes: u64 },
    #[error("{MAX_LOADS} models are loading already")]
    Overloaded,
    #[error("{0} invocations wait for the model to load already")]
    QueueFull(usize),
    #[error("loading the model failed unexpectedly")]
    LoadPanicked,
    #[error("the model did not load: {0}")]
    Compute(#[from] ComputeError),
    #[error("the instance is stopping")]
    Stopping,
}

impl AcquireError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::NoRoom { .. } => ErrorKind::InsufficientMemory,
            Self::Overloaded | Self::QueueFull(_) => ErrorKind::Overloaded,
            Self::LoadPanicked | Self::Compute(ComputeError::Panicked(_)) => ErrorKind::BadArtifact,
            Self::Compute(error) => error.kind(),
            Self::Stopping => ErrorKind::Draining,
        }
    }
}
