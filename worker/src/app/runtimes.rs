//! What runs the models: this worker, or the backend before which it is an agent.

use crate::{
    config::{BackendLimits, Config},
    metrics::Metrics,
    runtime::{OptionsByArtifact, Runtime, Runtimes, backend::Backend, handler::Handlers},
};
use std::{path::Path, sync::Arc};

/// What runs the models of this worker.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) runtime: Arc<dyn Runtime>,
    /// What it runs them in, if not in this worker.
    pub(super) backend: Option<Backend>,
    /// What is wanted of models that are loaded by name.
    pub(super) options: OptionsByArtifact,
}

/// Prepares what the configuration says. `folder` is this worker's own. Blocks.
pub(super) fn choose(config: &Config, folder: &Path, metrics: &Metrics) -> anyhow::Result<Chosen> {
    let options = OptionsByArtifact::default();
    let limits = BackendLimits {
        load_timeout_s: config.http.load_timeout_s,
        max_answer_bytes: usize::try_from(config.handlers.handler_max_answer_bytes.get())?,
        max_queued: config.models.max_queued_in_all.get(),
    };
    if let Some(backend) = config.backend.config(limits) {
        let backend = Backend::open(backend)?;
        let runtime = Arc::new(backend.clone());
        return Ok(Chosen { runtime, backend: Some(backend), options });
    }
    let handlers = config.handlers.config(config.http.load_timeout_s);
    // In the folder that this worker has locked, and that nobody else may write into.
    let handlers = Handlers::start(handlers, folder, metrics.handlers.clone())?;
    let runtime = Arc::new(Runtimes { handlers, options: options.clone() });
    Ok(Chosen { runtime, backend: None, options })
}
