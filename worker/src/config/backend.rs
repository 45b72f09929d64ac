//! The container before which the worker is an agent, if it is one.

use super::InvalidConfig;
use crate::runtime::backend::{BackendConfig, BackendUrl};
use clap::value_parser;
use std::{path::PathBuf, time::Duration};

/// A container that runs the models, instead of this worker.
#[derive(Clone, Debug, clap::Args)]
pub struct BackendFlags {
    /// Where a container listens that runs the models: any that speaks SageMaker's contract for
    /// multi-model endpoints, `http://host:port`. The worker fetches and unpacks for it, has it load,
    /// invokes it, and unloads others when it has no room.
    #[arg(long, env = "WORKER_BACKEND")]
    pub backend: Option<BackendUrl>,

    /// The folder into which models are unpacked for the backend; one worker alone may use it.
    #[arg(long, env = "WORKER_BACKEND_MODELS", default_value = "/opt/ml/models")]
    pub backend_models: PathBuf,

    /// Where the backend finds that folder, if it is mounted elsewhere there.
    #[arg(long, env = "WORKER_BACKEND_SEES")]
    pub backend_sees: Option<PathBuf>,

    /// Seconds that the backend may take until it answers `/ping` and `/models`; then the worker ends.
    /// SageMaker gives a container 480, or as many as its user says in these bounds.
    #[arg(long, env = "WORKER_BACKEND_STARTUP_TIMEOUT_S", default_value_t = 480, value_parser = value_parser!(u64).range(60..=3600))]
    pub backend_startup_timeout_s: u64,
}

/// What of the other flags is a backend's, too.
#[derive(Clone, Copy, Debug)]
pub struct BackendLimits {
    /// For a load or an unload.
    pub load_timeout_s: u64,
    pub max_answer_bytes: usize,
    pub max_queued: usize,
}

impl BackendFlags {
    /// How the backend is used; `None` without one.
    pub fn config(&self, limits: BackendLimits) -> Option<BackendConfig> {
        Some(BackendConfig {
            url: self.backend.clone()?,
            models: self.backend_models.clone(),
            sees: self.backend_sees.clone().unwrap_or_else(|| self.backend_models.clone()),
            startup_timeout: Duration::from_secs(self.backend_startup_timeout_s),
            load_timeout: Duration::from_secs(limits.load_timeout_s),
            max_answer_bytes: limits.max_answer_bytes,
            max_queued: limits.max_queued,
        })
    }

    /// A backend takes absolute paths alone: it has another working directory.
    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let sees = self.backend_sees.as_ref();
        for (flag, path) in
            [("--backend-models", Some(&self.backend_models)), ("--backend-sees", sees)]
        {
            if let Some(path) = path.filter(|it| !it.is_absolute()) {
                return Err(InvalidConfig::RelativePath(flag, path.clone()));
            }
        }
        Ok(())
    }
}
