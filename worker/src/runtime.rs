//! Runs models. The only seam between the actors and an inference library.

mod archive;
mod manifest;
mod tensor;
pub mod codec;
pub mod image;
mod classes;
mod echo;
pub mod torch;

pub use manifest::TensorInput;
pub use tensor::{DType, Elements, TensorData};
pub use torch::prepare_thread;

use archive::Found;
use bytes::Bytes;
use shared::api::error::ErrorKind;
use std::{borrow::Cow, fmt, path::Path, sync::Arc};

/// Loads unpacked artifacts into memory.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Returns how many bytes a load will probably need at its peak, before it begins.
    ///
    /// Reads at most the artifact's `manifold.toml` and file sizes.
    fn estimate(&self, artifact: &Path) -> Result<u64, RuntimeError>;

    /// Brings the model in the folder `artifact` into memory, ready to serve: with a first forward
    /// done where the manifest says enough of its input. Blocks: call it on a compute slot.
    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, RuntimeError>;
}

/// A model in memory.
pub trait Model: fmt::Debug + Send + Sync + 'static {
    /// Returns what this model costs. It may grow as larger inputs come.
    fn footprint(&self) -> Footprint;

    /// Runs one invocation. Blocks: call it on a compute slot.
    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError>;
}

/// Measured bytes of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// What it holds while it is idle: weights, graph, kept scratch.
    pub resident_bytes: u64,
    /// The most that one invocation needed on top while it ran.
    pub workspace_bytes: u64,
}

/// One invocation, as a model sees it.
#[derive(Clone, Debug, Default)]
pub struct ModelInput {
    /// The `Content-Type` header, if there was one.
    pub content_type: Option<String>,
    /// The `Accept` header, if there was one.
    pub accept: Option<String>,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOutput {
    pub content_type: Cow<'static, str>,
    pub body: Bytes,
}

/// Every runtime of this build: what an archive holds decides which one has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runtimes;

impl Runtime for Runtimes {
    fn estimate(&self, artifact: &Path) -> Result<u64, RuntimeError> {
        match archive::inspect(artifact)? {
            Found::Echo(_) => Ok(0),
            Found::TorchScript(found) => Ok(found.estimate()),
        }
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, RuntimeError> {
        match archive::inspect(artifact)? {
            Found::Echo(file) => Ok(Arc::new(echo::Echo::load(file.as_deref())?)),
            Found::TorchScript(found) => Ok(Arc::new(torch::TorchModel::load(&found)?)),
        }
    }
}

/// Why a model did not load or answer. Texts go to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    #[error("artifact is not a servable model: {0}")]
    BadArtifact(String),
    #[error("content type `{0}` is not served here: {1}")]
    UnsupportedMediaType(String, &'static str),
    #[error("no answer of type `{0}` can be made: {1}")]
    NotAcceptable(String, &'static str),
    #[error("input does not fit the model: {0}")]
    BadInput(String),
    #[error("inference failed: {0}")]
    Inference(String),
}

impl RuntimeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadArtifact(_) => ErrorKind::BadArtifact,
            Self::UnsupportedMediaType(..) => ErrorKind::UnsupportedMediaType,
            Self::NotAcceptable(..) => ErrorKind::NotAcceptable,
            Self::BadInput(_) => ErrorKind::BadInput,
            Self::Inference(_) => ErrorKind::ModelFailed,
        }
    }
}
