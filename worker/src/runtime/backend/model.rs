//! A model that a backend has loaded.

use super::{
    NAME_PREFIX, Parts, Registered,
    answers::{self, BackendError, Invoked, Loaded},
    folder::Laid,
};
use crate::{
    artifact::disk_cache::ArtifactLease,
    meter::Meter,
    runtime::{Artifact, Description, Footprint, ModelInput, ModelOutput, Outside, RuntimeError},
};
use async_trait::async_trait;
use shared::address::ArtifactAddress;
use std::{io, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::Instant};
use tracing::{debug, warn};
use uuid::Uuid;

/// How long a backend may take to forget a load that it has refused.
const TIDY_TIMEOUT: Duration = Duration::from_secs(10);

/// A loaded model. Dropped without [`unload`](Outside::unload), as one that the backend lost is, it leaves
/// no files.
#[derive(Debug)]
pub(super) struct BackendModel {
    parts: Arc<Parts>,
    named: Named,
    laid: Laid,
    /// What is laid out may be linked to it.
    _lease: ArtifactLease,
    meter: Arc<Meter>,
}

/// A name that is in use at the backend until this is dropped.
#[derive(Debug)]
struct Named {
    parts: Arc<Parts>,
    /// Opaque.
    name: String,
    /// What clients know it by, as far as it is known here.
    target: String,
}

impl Named {
    fn new(parts: &Arc<Parts>, address: &ArtifactAddress) -> Self {
        let name = format!("{NAME_PREFIX}{}", Uuid::new_v4().simple());
        let (address, target) = (address.clone(), target(address));
        let registered = Registered { address, target: target.clone(), is_loaded: false };
        parts.models.0.lock().insert(name.clone(), registered);
        Self { parts: Arc::clone(parts), name, target }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.parts.models.0.lock().remove(&self.name);
    }
}

/// An invocation that runs, however it ends.
struct Running<'a> {
    meter: &'a Meter,
    began: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.end(self.began, Instant::now());
    }
}

impl BackendModel {
    /// Lays a model out and has it loaded; returns when it can serve.
    pub(super) async fn load(parts: Arc<Parts>, artifact: Artifact) -> Result<Self, BackendError> {
        let Artifact { address, lease, meter } = artifact;
        let named = Named::new(&parts, &address);
        let (folder, name, laying) = (Arc::clone(&parts.folder), named.name.clone(), lease.clone());
        let lay = move || folder.lay_out(&name, laying.path(), laying.is_own());
        let laid = spawn_blocking(lay).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let this = Self {
            laid: laid.map_err(|error| not_laid(&error))?,
            parts,
            named,
            _lease: lease,
            meter,
        };
        if let Err(error) = this.register().await {
            // Multi Model Server keeps the name of a load that it answered with 507.
            this.unregister(TIDY_TIMEOUT).await;
            return Err(error);
        }
        this.parts.models.set_loaded(&this.named.name, true);
        Ok(this)
    }

    async fn register(&self) -> Result<(), BackendError> {
        match self.ask_for_load().await? {
            Loaded::Yes => return Ok(()),
            Loaded::Already => self.unregister(TIDY_TIMEOUT).await,
        }
        match self.ask_for_load().await? {
            Loaded::Yes => Ok(()),
            Loaded::Already => {
                let text = format!("it has one named {} already", self.named.target);
                Err(BackendError::NotLoaded { status: 409, text })
            }
        }
    }

    async fn ask_for_load(&self) -> Result<Loaded, BackendError> {
        let Named { name, target, .. } = &self.named;
        let patience = self.parts.config.load_timeout;
        let said = self.parts.client.load(name, target, &self.laid.seen(), patience).await?;
        answers::loaded(&said)
    }

    /// What does not leave now is found again by whoever watches the backend.
    async fn unregister(&self, patience: Duration) {
        let Named { name, target, .. } = &self.named;
        match self.parts.client.unload(name, target, patience).await {
            Ok(false) => warn!(name, target, "the backend did not unload a model"),
            // One that has gone has taken all with it.
            Ok(true) | Err(BackendError::Unreachable(_)) => {}
            Err(error) => warn!(name, target, %error, "the backend did not unload a model"),
        }
    }

    async fn run(&self, input: ModelInput) -> Result<ModelOutput, RuntimeError> {
        let Named { name, target, .. } = &self.named;
        let (client, max_bytes) = (&self.parts.client, self.parts.config.max_answer_bytes);
        let said = client.invoke(name, target, input, max_bytes).await?;
        match answers::invoked(said)? {
            Invoked::Answered(output) => Ok(output),
            // Models may say so themselves.
            Invoked::NotFound(own) => match client.has(name).await {
                Ok(false) => {
                    debug!(name, target, "the backend has lost a model");
                    Err(BackendError::Lost.into())
                }
                _ => Err(own),
            },
        }
    }
}

#[async_trait]
impl Outside for BackendModel {
    /// Nothing of it is in this machine's hands.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    async fn invoke(&self, input: ModelInput, _: Instant) -> Result<ModelOutput, RuntimeError> {
        let arrived = Instant::now();
        let max_queued = self.parts.config.max_queued;
        let place = self.parts.places.try_acquire();
        let _place = place.map_err(|_| BackendError::Queued(max_queued))?;
        let _turn = self.parts.turns.acquire().await.map_err(|_| RuntimeError::Unloaded)?;
        let began = Instant::now();
        self.meter.begin(began - arrived, began);
        let _running = Running { meter: &self.meter, began };
        self.run(input).await
    }

    async fn unload(&self) {
        self.parts.models.set_loaded(&self.named.name, false);
        self.unregister(self.parts.config.load_timeout).await;
    }

    fn describe(&self) -> Description {
        Description {
            runtime: "backend",
            version: None,
            engine: None,
            batch_size: 1,
            max_batch_delay: Duration::ZERO,
            workers: Vec::new(),
        }
    }

    /// How many processes it has is the backend's to say.
    async fn scale(&self, _: usize, _: usize) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// What stands for a model in `X-Amzn-SageMaker-Target-Model`: the same for its whole life and unlike that
/// of any other, so the key with its prefix, which is not known here from the target model.
fn target(address: &ArtifactAddress) -> String {
    match address {
        ArtifactAddress::S3 { key, .. } => key.clone(),
        ArtifactAddress::File { path } => path.to_string_lossy().into_owned(),
    }
}

fn not_laid(error: &io::Error) -> BackendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BackendError::DiskFull(error.to_string())
        }
        _ => BackendError::Disk(error.to_string()),
    }
}
