//! Models in a container that is not ours: a server that speaks the container contract of SageMaker's
//! multi-model endpoints, on this machine or beside it.
//!
//! ```text
//! client.rs   what is asked of it, over HTTP
//! answers.rs  what its answers mean, which differ from server to server
//! folder.rs   where it finds unpacked models
//! model.rs    a loaded model: registered, invoked, unregistered
//! vigil.rs    whether it is there, and what it has
//! ```
//!
//! # Invariants
//!
//! - Every model has a name of its own at the backend, at every load another: whatever is left there of an
//!   earlier one is in nobody's way, and is told from what is in use.
//! - Of what a backend says, nothing is believed beyond its status and how long it is.

mod answers;
mod client;
mod folder;
mod model;
mod vigil;

#[cfg(test)]
mod tests;

pub use answers::BackendError;
pub use folder::OpenError;
pub use vigil::{NotUp, Vigil, Watched};

use super::{Artifact, Model, Outside, Place, Prospect, Runtime, RuntimeError};
use actix_web::http::uri::Authority;
use async_trait::async_trait;
use client::Client;
use folder::Folder;
use futures_util::{StreamExt as _, stream};
use model::BackendModel;
use parking_lot::Mutex;
use shared::address::ArtifactAddress;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::warn;

/// Invocations that are under way to the backend at once, each on a connection of its own. Multi Model
/// Server queues 100 of a model and refuses more; most servers have fewer threads than that.
const MAX_AT_ONCE: usize = 100;

/// Models that are unloaded at the same time when the agent ends.
const MAX_UNLOADS: usize = 8;

/// How names of models at the backend begin; 32 hexadecimal digits follow. Triton takes letters, digits,
/// dots and underscores.
const NAME_PREFIX: &str = "manifold_";

/// Where the backend listens: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendUrl(String);

/// What was given is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `http://host:port`; a backend is asked over plain HTTP, at no path of its own"
)]
pub struct InvalidBackendUrl(String);

impl FromStr for BackendUrl {
    type Err = InvalidBackendUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBackendUrl> {
        let invalid = || InvalidBackendUrl(text.to_owned());
        let url: actix_web::http::Uri = text.parse().map_err(|_| invalid())?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let authority = url.authority().filter(|it| !it.as_str().contains('@'));
        let port = authority.and_then(Authority::port_u16);
        match (url.scheme_str(), authority, port) {
            (Some("http"), Some(authority), Some(1..))
                if is_bare && !authority.host().is_empty() =>
            {
                Ok(Self(format!("http://{authority}")))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a backend is used.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    pub url: BackendUrl,
    /// Where models are unpacked for it.
    pub models: PathBuf,
    /// Where it finds that folder.
    pub sees: PathBuf,
    /// How long it may take until it can serve.
    pub startup_timeout: Duration,
    /// How long a load or an unload may take.
    pub load_timeout: Duration,
    /// The longest answer of a model.
    pub max_answer_bytes: usize,
    /// Invocations that may wait until others are answered.
    pub max_queued: usize,
}

/// Why there is no agent before a backend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error("no HTTP client could be made")]
    Client(#[from] reqwest::Error),
}

/// The runtime whose models are in a container that is not ours. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backend {
    parts: Arc<Parts>,
}

/// What the models of a backend share.
#[derive(Debug)]
struct Parts {
    client: Client,
    folder: Arc<Folder>,
    models: Models,
    config: BackendConfig,
    /// Invocations that are under way to it.
    turns: Semaphore,
    /// Those, and those that wait for them.
    places: Semaphore,
    is_up: watch::Sender<bool>,
}

/// The names that are in use at the backend, those among them that are coming and going.
#[derive(Debug, Default)]
struct Models(Mutex<BTreeMap<String, Registered>>);

/// A model that has a name at the backend.
#[derive(Clone, Debug)]
struct Registered {
    address: ArtifactAddress,
    /// What clients know it by, as far as it is known here.
    target: String,
    /// Whether it is neither coming nor going.
    is_loaded: bool,
}

impl Models {
    fn snapshot(&self) -> BTreeMap<String, Registered> {
        self.0.lock().clone()
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().contains_key(name)
    }

    fn is_loaded(&self, name: &str) -> bool {
        self.0.lock().get(name).is_some_and(|it| it.is_loaded)
    }

    fn set_loaded(&self, name: &str, is_loaded: bool) {
        if let Some(model) = self.0.lock().get_mut(name) {
            model.is_loaded = is_loaded;
        }
    }
}

impl Backend {
    /// Takes the folder that the backend reads. Blocks; asks nothing of the backend.
    pub fn open(config: BackendConfig) -> Result<Self, StartError> {
        let parts = Parts {
            client: Client::new(&config.url)?,
            folder: Arc::new(Folder::open(&config.models, &config.sees)?),
            models: Models::default(),
            turns: Semaphore::new(MAX_AT_ONCE),
            places: Semaphore::new(MAX_AT_ONCE.saturating_add(config.max_queued)),
            is_up: watch::Sender::new(false),
            config,
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Watches it: whether it serves, and what it has.
    pub fn vigil(&self) -> Vigil {
        Vigil::new(Arc::clone(&self.parts))
    }

    /// Whether it could serve when it was last asked.
    pub fn is_up(&self) -> bool {
        *self.parts.is_up.borrow()
    }

    /// Leaves nothing behind: neither models at the backend, which may live on, nor files.
    pub async fn leave(&self, patience: Duration) {
        let client = &self.parts.client;
        let models = self.parts.models.snapshot();
        let unload = |(name, model): (String, Registered)| async move {
            client.unload(&name, &model.target, patience).await
        };
        let unloads = stream::iter(models).map(unload).buffer_unordered(MAX_UNLOADS);
        if timeout(patience, unloads.collect::<Vec<_>>()).await.is_err() {
            warn!(?patience, "the backend did not unload all models in time");
        }
        let folder = Arc::clone(&self.parts.folder);
        // Whatever it could not delete is in the log, and goes at the next start.
        let _ = spawn_blocking(move || folder.clear()).await;
    }
}

#[async_trait]
impl Runtime for Backend {
    /// What it takes is the backend's to know: it says 507 when it has no more.
    fn inspect(&self, _: &ArtifactAddress, _: &Path) -> Result<Prospect, RuntimeError> {
        Ok(Prospect { needed_bytes: 0, place: Place::Outside })
    }

    fn load(&self, _: &ArtifactAddress, _: &Path) -> Result<Arc<dyn Model>, RuntimeError> {
        Err(RuntimeError::Changed)
    }

    async fn start(&self, artifact: Artifact) -> Result<Arc<dyn Outside>, RuntimeError> {
        Ok(Arc::new(BackendModel::load(Arc::clone(&self.parts), artifact).await?))
    }
}
