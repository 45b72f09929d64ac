//! Python handlers: each model in processes of its own, so that it can crash, leak and hang alone.
//!
//! ```text
//! model.rs    a loaded model: its queue and its runners
//! form.rs     what a request's inputs are
//! queue.rs    invocations that wait, and how they become batches
//! runner.rs   keeps one process at work; starts another when it dies
//! process.rs  an interpreter: started, spoken with, killed
//! requirements.rs, environments.rs   libraries that a model brings for itself
//! frame.rs, message.rs   what is said, over a socket pair
//! ```
//!
//! The other side is `worker/python/manifold_handler`.

mod answer;
mod environments;
mod form;
mod found;
mod frame;
mod harness;
mod memory;
mod message;
mod model;
mod nursery;
mod output;
mod process;
mod queue;
mod requirements;
mod runner;

#[cfg(test)]
mod tests;

pub use queue::Batching;

pub(super) use found::Found;

use super::{Artifact, LoadOptions, Outside, RuntimeError};
use crate::metrics::HandlerMetrics;
use environments::{Environment, Environments};
use memory::KillWatch;
use model::HandlerModel;
use nursery::Nursery;
use process::{Ended, Interpreter};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// What all handlers of a worker have in common. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handlers {
    config: HandlerConfig,
    interpreter: Interpreter,
    environments: Environments,
    watch: Arc<KillWatch>,
    metrics: HandlerMetrics,
}

/// How handlers are run.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// The Python interpreter.
    pub python: PathBuf,
    /// What serves archives that name no handler of their own, if anything.
    pub default_handler: Option<String>,
    /// Processes of each model.
    pub n_processes: usize,
    pub batching: Batching,
    /// How long a batch may take before its process is killed.
    pub timeout: Duration,
    /// How long a process may take to load its model.
    pub load_timeout: Duration,
    /// Whether what `requirements.txt` in an archive names is installed.
    pub installs_requirements: bool,
    /// Whether JSON comes parsed and text as text.
    pub decodes_input: bool,
    /// The longest body of an answer.
    pub max_answer_bytes: u32,
    /// What goes before both this and what an archive says.
    pub wanted: LoadOptions,
}

#[cfg(test)]
impl HandlerConfig {
    pub(super) fn for_tests() -> Self {
        Self {
            python: PathBuf::from("python3"),
            default_handler: None,
            n_processes: 1,
            batching: Batching { max_calls: 1, max_delay: Duration::ZERO },
            timeout: Duration::from_mins(1),
            load_timeout: Duration::from_mins(1),
            installs_requirements: false,
            decodes_input: false,
            max_answer_bytes: 1 << 20,
            wanted: LoadOptions::default(),
        }
    }
}

impl Handlers {
    /// Prepares to run handlers; their Python half, and what they want installed, is written below
    /// `folder`, which is this worker's.
    pub fn start(
        config: HandlerConfig,
        folder: &Path,
        metrics: HandlerMetrics,
    ) -> io::Result<Self> {
        let interpreter = Interpreter {
            program: config.python.clone(),
            harness: harness::write(&folder.join("python"))?,
            nursery: Nursery::start()?,
        };
        let folder = folder.join("environments");
        let environments = Environments::open(folder, interpreter.clone(), config.load_timeout)?;
        let watch = Arc::new(KillWatch::new());
        Ok(Self { config, interpreter, environments, watch, metrics })
    }

    pub(super) fn config(&self) -> &HandlerConfig {
        &self.config
    }

    fn interpreter_of(&self, environment: Option<&Environment>) -> Interpreter {
        let program = environment.map_or_else(|| self.config.python.clone(), Environment::program);
        Interpreter { program, ..self.interpreter.clone() }
    }

    /// Starts a model's processes; returns when all of them can serve.
    pub(super) async fn load(
        &self,
        found: Found,
        artifact: Artifact,
    ) -> Result<impl Outside + use<>, RuntimeError> {
        HandlerModel::load(self.clone(), found, artifact).await
    }
}

impl From<Ended> for RuntimeError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::OutOfMemory => Self::OutOfMemory(format!("the handler process {ended}")),
            ended => Self::HandlerDied(ended.to_string()),
        }
    }
}
