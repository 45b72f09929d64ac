//! The models that a platform loaded by name: SageMaker's container contract.
//!
//! The platform decides what is loaded, so a model loaded by name is pinned for as long as it is
//! registered: it is never evicted, and when there is no room the next load is answered with
//! 507, on which the platform unloads others itself.

mod scale;

use crate::{
    actors::{
        model_cache::{AcquireError, Acquired, ModelCache},
        replica::{InvokeError, Replica, ReplicaId},
    },
    lease::{Lease, Pin},
    runtime::{Description, LoadOptions, OptionsByArtifact},
};
use parking_lot::Mutex;
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

/// Multi Model Server's page size, default and maximum.
pub const MAX_PAGE: usize = 100;

/// Names that may be registered. Each holds a model in memory, which runs out long before.
const MAX_NAMES: usize = 100_000;

/// The models loaded by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ContractModels {
    cache: ModelCache,
    options: OptionsByArtifact,
    models: Arc<Mutex<BTreeMap<String, Named>>>,
}

/// What a platform wants loaded.
#[derive(Clone, Debug)]
pub struct Registration {
    pub name: String,
    /// As the platform gave it.
    pub url: String,
    pub address: ArtifactAddress,
    pub options: LoadOptions,
    /// Whether it is only registered, to be loaded when it is [scaled](ContractModels::scale).
    pub is_idle: bool,
}

/// How many processes a model may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    pub min: usize,
    pub max: usize,
}

/// A model that the platform knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// As the platform gave it.
    pub url: String,
}

/// All that is known of a model by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub listed: Listed,
    pub workers: Workers,
    /// `None` while nothing of it is in memory, as after it died.
    pub description: Option<Description>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ContractError {
    #[error("Model {0} is already registered.")]
    AlreadyLoaded(String),
    #[error("Model not found: {0}")]
    NotFound(String),
    #[error("model {0} is being loaded or unloaded; try again")]
    Changing(String),
    #[error(
        "No worker is available to serve request for model: {0}. It was registered or scaled to none; see PUT /models/{0}"
    )]
    NoWorker(String),
    #[error("{0} is loaded under another name with other parameters; unload that one first")]
    OtherOptions(ArtifactAddress),
    #[error("{MAX_NAMES} models are registered already")]
    TooMany,
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error(transparent)]
    Scale(#[from] InvokeError),
}

impl ContractError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyLoaded(_) | Self::OtherOptions(_) => ErrorKind::AlreadyLoaded,
            Self::NotFound(_) => ErrorKind::ModelNotFound,
            Self::Changing(_) => ErrorKind::StillLoading,
            Self::NoWorker(_) => ErrorKind::Overloaded,
            Self::TooMany => ErrorKind::InsufficientMemory,
            Self::Acquire(error) => error.kind(),
            Self::Scale(error) => error.kind(),
        }
    }
}

#[derive(Debug)]
struct Named {
    url: String,
    address: ArtifactAddress,
    workers: Workers,
    state: NamedState,
}

#[derive(Debug)]
enum NamedState {
    Loading,
    Loaded {
        /// Which replica is pinned: another may have taken a dead one's place.
        replica: ReplicaId,
        _pin: Pin,
    },
    /// Registered, and in no process.
    Idle,
    Unloading,
}

impl ContractModels {
    pub fn new(cache: ModelCache, options: OptionsByArtifact) -> Self {
        Self { cache, options, models: Arc::default() }
    }

    /// Loads a model under a name; returns when it can serve.
    ///
    /// Cancel-safe: if the caller goes away, the load goes on and the name stays registered.
    pub async fn load(&self, registration: Registration) -> Result<(), ContractError> {
        let Registration { name, address, options, is_idle, .. } = registration.clone();
        let is_first = self.claim(registration)?;
        if is_idle {
            return Ok(());
        }
        let this = self.clone();
        let load = tokio::spawn(async move {
            if is_first && options != LoadOptions::default() {
                // Somebody may have invoked it by its address, and it would run as that one wanted.
                this.cache.unload(&address).await;
            }
            let outcome = this.pinned(&address).await;
            this.settle(&name, outcome)
        });
        load.await.unwrap_or(Err(AcquireError::LoadPanicked.into()))
    }

    /// Unloads a model; returns when its memory is free, unless another name needs it still.
    pub async fn unload(&self, name: &str) -> Result<(), ContractError> {
        let address = self.release(name)?;
        let this = self.clone();
        let name = name.to_owned();
        let unload = tokio::spawn(async move {
            // A pin of another name keeps it.
            this.cache.unload(&address).await;
            this.models.lock().remove(&name);
            this.options.release(&address);
        });
        // A panic of the task would be a bug of ours; the name is then still there to see.
        let _ = unload.await;
        Ok(())
    }

    /// Returns a replica to run one invocation on. Waits only if the model died and has to be
    /// loaded anew.
    pub async fn acquire(&self, name: &str) -> Result<Acquired, ContractError> {
        let (address, pinned) = self.loaded(name)?;
        let acquired = self.cache.acquire(&address).await?;
        if acquired.replica.id() != pinned {
            self.pin_anew(name, &acquired.replica);
        }
        Ok(acquired)
    }

    /// Returns what is known of a model.
    pub fn get(&self, name: &str) -> Result<Known, ContractError> {
        let (listed, workers, address) = {
            let models = self.models.lock();
            let known = models
                .get(name)
                .and_then(|it| Some((it.listed(name)?, it.workers, it.address.clone())));
            known.ok_or_else(|| ContractError::NotFound(name.to_owned()))?
        };
        let replica = self.cache.resident(&address);
        Ok(Known { listed, workers, description: replica.and_then(|it| it.describe()) })
    }

    /// Lists up to `limit` models from the `offset`th name on, and whether there are more.
    pub fn list(&self, offset: usize, limit: usize) -> (Vec<Listed>, bool) {
        let models = self.models.lock();
        let mut listed = models.iter().filter_map(|(name, it)| it.listed(name)).skip(offset);
        let page = listed.by_ref().take(limit).collect();
        (page, listed.next().is_some())
    }

    /// The only model there is, if there is one only.
    pub fn lone(&self) -> Option<String> {
        match &*self.list(0, 2).0 {
            [lone] => Some(lone.name.clone()),
            _ => None,
        }
    }

    /// Registers a name; says whether it is the first of its artifact.
    fn claim(&self, registration: Registration) -> Result<bool, ContractError> {
        let Registration { name, url, address, options, is_idle } = registration;
        let mut models = self.models.lock();
        if models.len() >= MAX_NAMES {
            return Err(ContractError::TooMany);
        }
        let Entry::Vacant(entry) = models.entry(name.clone()) else {
            return Err(ContractError::AlreadyLoaded(name));
        };
        let held = self.options.hold(&address, &options);
        let is_first = held.map_err(|_| ContractError::OtherOptions(address.clone()))?;
        let n_processes = options.n_processes.map_or(1, std::num::NonZeroUsize::get);
        let (n_workers, state) =
            if is_idle { (0, NamedState::Idle) } else { (n_processes, NamedState::Loading) };
        let workers = Workers { min: n_workers, max: n_workers };
        entry.insert(Named { url, address, workers, state });
        Ok(is_first)
    }

    /// Loads an artifact and pins it: again if it is let go in between, which takes an unload of
    /// another name at that very moment.
    async fn pinned(&self, address: &ArtifactAddress) -> Result<NamedState, AcquireError> {
        loop {
            let Acquired { replica, lease, .. } = self.cache.acquire(address).await?;
            if let Some(pin) = lease.pin() {
                return Ok(NamedState::Loaded { replica: replica.id(), _pin: pin });
            }
        }
    }

    fn settle(
        &self,
        name: &str,
        outcome: Result<NamedState, AcquireError>,
    ) -> Result<(), ContractError> {
        let mut models = self.models.lock();
        match outcome {
            Ok(loaded) => {
                let model = models.get_mut(name).expect("a loading name stays registered");
                model.state = loaded;
                Ok(())
            }
            Err(error) => {
                if let Some(named) = models.remove(name) {
                    self.options.release(&named.address);
                }
                Err(error.into())
            }
        }
    }

    /// Returns a loaded name's artifact and the replica that is pinned for it.
    fn loaded(&self, name: &str) -> Result<(ArtifactAddress, ReplicaId), ContractError> {
        match self.models.lock().get(name) {
            Some(Named { address, state: NamedState::Loaded { replica, .. }, .. }) => {
                Ok((address.clone(), *replica))
            }
            Some(Named { state: NamedState::Idle, .. }) => {
                Err(ContractError::NoWorker(name.to_owned()))
            }
            _ => Err(ContractError::NotFound(name.to_owned())),
        }
    }

    /// Pins the replica that took a dead one's place.
    fn pin_anew(&self, name: &str, replica: &Replica) {
        let mut models = self.models.lock();
        if let Some(model) = models.get_mut(name).filter(|model| model.is_loaded())
            && let Some(pin) = replica.leases().lease().and_then(Lease::pin)
        {
            model.state = NamedState::Loaded { replica: replica.id(), _pin: pin };
        }
    }

    /// Gives up the pin of a name.
    fn release(&self, name: &str) -> Result<ArtifactAddress, ContractError> {
        let mut models = self.models.lock();
        let model = models.get_mut(name).filter(|model| model.is_listed());
        let model = model.ok_or_else(|| ContractError::NotFound(name.to_owned()))?;
        model.state = NamedState::Unloading;
        Ok(model.address.clone())
    }
}

impl Named {
    fn is_loaded(&self) -> bool {
        matches!(self.state, NamedState::Loaded { .. })
    }

    fn is_listed(&self) -> bool {
        matches!(self.state, NamedState::Loaded { .. } | NamedState::Idle)
    }

    fn listed(&self, name: &str) -> Option<Listed> {
        self.is_listed().then(|| Listed { name: name.to_owned(), url: self.url.clone() })
    }
}
