//! How Python handlers are run. What SageMaker's toolkits read from the environment is read here, too.

use super::SECONDS;
use crate::runtime::{
    LoadOptions,
    handler::{Batching, HandlerConfig},
};
use clap::value_parser;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

/// Python handlers.
#[derive(Clone, Debug, clap::Args)]
pub struct HandlerFlags {
    /// The Python interpreter of handlers: 3.8 or newer.
    #[arg(long, env = "WORKER_PYTHON", default_value = "python3")]
    pub python: PathBuf,

    /// Serves every archive that names no handler of its own: `[path/]module[.py][:function]`.
    #[arg(long, env = "SAGEMAKER_HANDLER")]
    pub handler: Option<String>,

    /// Processes of each model with a handler. Each holds the model in memory.
    #[arg(long, env = "SAGEMAKER_MODEL_SERVER_WORKERS", default_value = "1")]
    pub handler_workers: NonZeroUsize,

    /// Invocations that a handler gets at once, at most.
    #[arg(long, env = "WORKER_HANDLER_BATCH_SIZE", default_value = "1")]
    pub handler_batch_size: NonZeroUsize,

    /// Milliseconds that an invocation waits for others of its batch.
    #[arg(long, env = "WORKER_HANDLER_BATCH_DELAY_MS", default_value_t = 100, value_parser = value_parser!(u64).range(0..=60_000))]
    pub handler_batch_delay_ms: u64,

    /// Seconds that a handler may take to answer before its process is killed: the toolkit's 60.
    #[arg(long, env = "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", default_value_t = 60, value_parser = value_parser!(u64).range(1..=*SECONDS.end()))]
    pub handler_timeout_s: u64,

    /// Installs what a model's `requirements.txt` names into a virtual environment, with pip, before it
    /// is loaded. What pip installs may run code of whoever made it.
    #[arg(long, env = "WORKER_HANDLER_REQUIREMENTS")]
    pub handler_requirements: bool,

    /// Gives handlers JSON parsed and text as text, as Multi Model Server does outside of SageMaker.
    #[arg(long, env = "WORKER_HANDLER_DECODES_INPUT")]
    pub handler_decodes_input: bool,

    /// The longest answer of a handler, bytes: SageMaker's 25 MB.
    #[arg(long, env = "WORKER_HANDLER_MAX_ANSWER_BYTES", default_value = "26214400")]
    pub handler_max_answer_bytes: NonZeroU32,
}

impl HandlerFlags {
    /// A process that does not load its model within `load_timeout_s` is killed.
    pub fn config(&self, load_timeout_s: u64) -> HandlerConfig {
        HandlerConfig {
            python: self.python.clone(),
            default_handler: self.handler.clone(),
            n_processes: self.handler_workers.get(),
            batching: Batching {
                max_calls: self.handler_batch_size.get(),
                max_delay: Duration::from_millis(self.handler_batch_delay_ms),
            },
            timeout: Duration::from_secs(self.handler_timeout_s),
            load_timeout: Duration::from_secs(load_timeout_s),
            installs_requirements: self.handler_requirements,
            decodes_input: self.handler_decodes_input,
            max_answer_bytes: self.handler_max_answer_bytes.get(),
            wanted: LoadOptions::default(),
        }
    }
}
