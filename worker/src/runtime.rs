//! Runs models. The only seam between the actors and an inference library.

mod archive;
mod manifest;
mod tensor;
pub mod codec;
pub mod image;
mod classes;
mod echo;
mod mxnet;
mod options;
pub mod torch;
pub mod handler;
pub mod backend;

pub use manifest::TensorInput;
pub use options::{LoadOptions, OptionsByArtifact};
pub use tensor::{DType, Elements, TensorData};
pub use torch::prepare_thread;

use crate::{artifact::disk_cache::ArtifactLease, meter::Meter};
use archive::Found;
use async_trait::async_trait;
use backend::BackendError;
use bytes::Bytes;
use handler::{HandlerConfig, Handlers};
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::{
    borrow::Cow,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::Instant};

/// Brings unpacked artifacts to life.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Returns what a load will probably take, and where the model will run.
    ///
    /// Reads at most the artifact's manifests and file sizes. Blocks.
    fn inspect(&self, address: &ArtifactAddress, artifact: &Path)
    -> Result<Prospect, RuntimeError>;

    /// Brings the model in the folder `artifact` into memory, ready to serve: with a first forward
    /// done where the manifest says enough of its input. Blocks: call it on a compute slot.
    fn load(
        &self,
        address: &ArtifactAddress,
        artifact: &Path,
    ) -> Result<Arc<dyn Model>, RuntimeError>;

    /// Starts a model that runs outside, and returns when it can serve.
    async fn start(&self, artifact: Artifact) -> Result<Arc<dyn Outside>, RuntimeError>;
}

/// What is known of a load before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// Bytes that it will probably need at its peak.
    pub needed_bytes: u64,
    pub place: Place,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process, on compute slots.
    Slots,
    /// In processes of its own.
    Outside,
}

/// An unpacked artifact whose model runs outside.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub address: ArtifactAddress,
    /// Its folder, which stays for as long as the model may read it.
    pub lease: ArtifactLease,
    /// Where it is noted how long invocations wait and run.
    pub meter: Arc<Meter>,
}

/// A model in memory.
pub trait Model: fmt::Debug + Send + Sync + 'static {
    /// Returns what this model costs. It may grow as larger inputs come.
    fn footprint(&self) -> Footprint;

    /// Runs one invocation. Blocks: call it on a compute slot.
    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError>;
}

/// A model that runs outside of this process.
#[async_trait]
pub trait Outside: fmt::Debug + Send + Sync + 'static {
    /// Returns what this model costs, as it was measured last.
    fn footprint(&self) -> Footprint;

    /// Has one invocation run. May be dropped: one that did not begin then never does.
    async fn invoke(
        &self,
        input: ModelInput,
        deadline: Instant,
    ) -> Result<ModelOutput, RuntimeError>;

    /// Ends it; returns when all that it held is free.
    async fn unload(&self);

    /// Says how it runs.
    fn describe(&self) -> Description;

    /// Starts or ends processes until there are at least `min` and at most `max` of them, of which there
    /// is one at least. A model that has none of its own stays as it is.
    async fn scale(&self, min: usize, max: usize) -> Result<(), RuntimeError>;
}

/// How a loaded model runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub runtime: &'static str,
    /// What its archive says of its version.
    pub version: Option<String>,
    /// The library that its archive says it was made with.
    pub engine: Option<String>,
    /// The most invocations that it gets at once.
    pub batch_size: usize,
    /// How long the first of them waits for others.
    pub max_batch_delay: Duration,
    pub workers: Vec<WorkerDescription>,
}

/// What runs a model: a process, or the worker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerDescription {
    /// Its process.
    pub id: u32,
    pub since: SystemTime,
    pub memory_bytes: u64,
}

impl Description {
    /// Of a model in this process.
    pub fn inside(since: SystemTime, footprint: Footprint) -> Self {
        let memory_bytes = footprint.resident_bytes;
        Self {
            runtime: "libtorch",
            version: None,
            engine: None,
            batch_size: 1,
            max_batch_delay: Duration::ZERO,
            workers: vec![WorkerDescription { id: std::process::id(), since, memory_bytes }],
        }
    }
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
    /// What else a model outside may want to know; `None` for those in this process.
    pub head: Option<Box<InputHead>>,
}

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub struct InputHead {
    /// Tells invocations apart; in the log of whoever ran them, too.
    pub invocation_id: String,
    /// Every header, in its order, by the name that clients write (`Content-Type`).
    pub headers: Vec<(String, String)>,
    /// The parameters of its URL.
    pub query: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOutput {
    /// `None`: the model did not say.
    pub content_type: Option<Cow<'static, str>>,
    pub body: Bytes,
    /// What a model outside said beyond that.
    pub head: Option<Box<OutputHead>>,
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputHead {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl ModelOutput {
    /// A success that says what it is.
    pub fn new(content_type: impl Into<Cow<'static, str>>, body: Bytes) -> Self {
        Self { content_type: Some(content_type.into()), body, head: None }
    }
}

/// Every runtime of this build: what an archive holds decides which one has it.
#[derive(Clone, Debug)]
pub struct Runtimes {
    pub handlers: Handlers,
    /// What was wanted of models that are loaded by name.
    pub options: OptionsByArtifact,
}

impl Runtimes {
    /// How handlers of this artifact are run.
    fn config(&self, address: &ArtifactAddress) -> HandlerConfig {
        HandlerConfig { wanted: self.options.of(address), ..self.handlers.config().clone() }
    }
}

#[async_trait]
impl Runtime for Runtimes {
    fn inspect(
        &self,
        address: &ArtifactAddress,
        artifact: &Path,
    ) -> Result<Prospect, RuntimeError> {
        inspect(artifact, &self.config(address))
    }

    fn load(
        &self,
        address: &ArtifactAddress,
        artifact: &Path,
    ) -> Result<Arc<dyn Model>, RuntimeError> {
        load(artifact, &self.config(address))
    }

    async fn start(&self, artifact: Artifact) -> Result<Arc<dyn Outside>, RuntimeError> {
        let (lease, config) = (artifact.lease.clone(), self.config(&artifact.address));
        // It reads files.
        let found = spawn_blocking(move || archive::inspect(lease.path(), &config)).await;
        let Ok(Ok(Found::Handler(found))) = found else { return Err(RuntimeError::Changed) };
        Ok(Arc::new(self.handlers.load(*found, artifact).await?))
    }
}

fn inspect(artifact: &Path, handlers: &HandlerConfig) -> Result<Prospect, RuntimeError> {
    let (needed_bytes, place) = match archive::inspect(artifact, handlers)? {
        Found::Echo(_) => (0, Place::Slots),
        Found::TorchScript(found) => (found.estimate(), Place::Slots),
        Found::Mxnet(found) => (found.estimate(), Place::Slots),
        Found::Handler(found) => (found.estimate(), Place::Outside),
    };
    Ok(Prospect { needed_bytes, place })
}

/// Brings a model that runs in this process into memory. Blocks.
pub fn load(artifact: &Path, handlers: &HandlerConfig) -> Result<Arc<dyn Model>, RuntimeError> {
    match archive::inspect(artifact, handlers)? {
        Found::Echo(file) => Ok(Arc::new(echo::Echo::load(file.as_deref())?)),
        Found::TorchScript(found) => Ok(Arc::new(torch::TorchModel::load(&found)?)),
        Found::Mxnet(found) => Ok(Arc::new(torch::TorchModel::load_checkpoint(&found)?)),
        Found::Handler(_) => Err(RuntimeError::Changed),
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
    #[error("the handler did not load the model: {0}")]
    NotLoaded(String),
    /// What a handler wants its client to be told.
    #[error("{message}")]
    Handler { status: u16, message: String },
    #[error("the handler process {0}")]
    HandlerDied(String),
    /// A handler's own text, or how its process ended.
    #[error("{0}")]
    OutOfMemory(String),
    #[error("the artifact's files changed while it was loaded")]
    Changed,
    #[error("the model was unloaded before the invocation began")]
    Unloaded,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl RuntimeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadArtifact(_) => ErrorKind::BadArtifact,
            Self::UnsupportedMediaType(..) => ErrorKind::UnsupportedMediaType,
            Self::NotAcceptable(..) => ErrorKind::NotAcceptable,
            Self::BadInput(_) => ErrorKind::BadInput,
            Self::Inference(_)
            | Self::NotLoaded(_)
            | Self::Handler { .. }
            | Self::HandlerDied(_)
            | Self::Changed => ErrorKind::ModelFailed,
            Self::OutOfMemory(_) => ErrorKind::InsufficientMemory,
            Self::Unloaded => ErrorKind::Overloaded,
            Self::Backend(error) => error.kind(),
        }
    }

    /// Whether it may go well once another model has left, which nobody can know beforehand.
    pub fn wants_room(&self) -> bool {
        matches!(self, Self::Backend(error) if error.wants_room())
    }
}
