//! The models that a platform loaded by name: SageMaker's container contract.
//!
//! The platform decides what is loaded, so a model loaded by name is pinned for as long as it is
//! registered: it is never evicted, and when there is no room the next load is answered with
//! 507, on which the platform unloads others itself.

use crate::{
    actors::{
        model_cache::{AcquireError, Acquired, ModelCache},
        replica::{Replica, ReplicaId},
    },
    lease::{Lease, Pin},
};
use parking_lot::Mutex;
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
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
    models: Arc<Mutex<BTreeMap<String, Named>>>,
}

/// A model that the platform knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// As the platform gave it.
    pub url: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ContractError {
    #[error("model `{0}` is already registered")]
    AlreadyLoaded(String),
    #[error("model `{0}` is not loaded")]
    NotFound(String),
    #[error("{MAX_NAMES} models are registered already")]
    TooMany,
    #[error(transparent)]
    Acquire(#[from] AcquireError),
}

impl ContractError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyLoaded(_) => ErrorKind::AlreadyLoaded,
            Self::NotFound(_) => ErrorKind::ModelNotFound,
            Self::TooMany => ErrorKind::InsufficientMemory,
            Self::Acquire(error) => error.kind(),
        }
    }
}

#[derive(Debug)]
struct Named {
    url: String,
    address: ArtifactAddress,
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
    Unloading,
}

impl ContractModels {
    pub fn new(cache: ModelCache) -> Self {
        Self { cache, models: Arc::default() }
    }

    /// Loads a model under a name; returns when it can serve.
    ///
    /// Cancel-safe: if the caller goes away, the load goes on and the name stays registered.
    pub async fn load(
        &self,
        name: String,
        url: String,
        address: ArtifactAddress,
    ) -> Result<(), ContractError> {
        self.claim(&name, url, &address)?;
        let this = self.clone();
        let load = tokio::spawn(async move {
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

    pub fn get(&self, name: &str) -> Result<Listed, ContractError> {
        let models = self.models.lock();
        let listed = models.get(name).and_then(|model| model.listed(name));
        listed.ok_or_else(|| ContractError::NotFound(name.to_owned()))
    }

    /// Lists up to `limit` loaded models whose names follow `after`, and whether there are more.
    pub fn list(&self, after: Option<&str>, limit: usize) -> (Vec<Listed>, bool) {
        let models = self.models.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = models.range::<str, _>((start, Bound::Unbounded));
        let mut listed = range.filter_map(|(name, model)| model.listed(name));
        let page = listed.by_ref().take(limit).collect();
        (page, listed.next().is_some())
    }

    fn claim(
        &self,
        name: &str,
        url: String,
        address: &ArtifactAddress,
    ) -> Result<(), ContractError> {
        let mut models = self.models.lock();
        if models.len() >= MAX_NAMES {
            return Err(ContractError::TooMany);
        }
        match models.entry(name.to_owned()) {
            Entry::Occupied(_) => Err(ContractError::AlreadyLoaded(name.to_owned())),
            Entry::Vacant(entry) => {
                let address = address.clone();
                entry.insert(Named { url, address, state: NamedState::Loading });
                Ok(())
            }
        }
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
                models.remove(name);
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

    /// Gives up the pin of a loaded name.
    fn release(&self, name: &str) -> Result<ArtifactAddress, ContractError> {
        let mut models = self.models.lock();
        let model = models.get_mut(name);
        let loaded = model.filter(|model| model.is_loaded());
        let model = loaded.ok_or_else(|| ContractError::NotFound(name.to_owned()))?;
        model.state = NamedState::Unloading;
        Ok(model.address.clone())
    }
}

impl Named {
    fn is_loaded(&self) -> bool {
        matches!(self.state, NamedState::Loaded { .. })
    }

    fn listed(&self, name: &str) -> Option<Listed> {
        self.is_loaded().then(|| Listed { name: name.to_owned(), url: self.url.clone() })
    }
}
