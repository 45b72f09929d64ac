//! More or fewer processes for a model that a platform loaded by name.

use super::{ContractError, ContractModels, Named, NamedState, Workers};
use crate::actors::model_cache::AcquireError;
use shared::address::ArtifactAddress;
use std::num::NonZeroUsize;

/// What a change of the workers comes to.
enum Change {
    Nothing,
    /// It is loaded, and its processes become more or fewer.
    Scale,
    /// It was in no process.
    Load,
    /// It shall be in none.
    Unload,
}

impl ContractModels {
    /// Gives a model `workers.min` to `workers.max` processes, none if that is what is wanted; returns when
    /// they are there. A model that runs in the worker itself is either in memory or not.
    ///
    /// Cancel-safe: if the caller goes away, it goes on.
    pub async fn scale(&self, name: &str, workers: Workers) -> Result<(), ContractError> {
        let (this, name) = (self.clone(), name.to_owned());
        let scale = tokio::spawn(async move { this.scale_to(&name, workers).await });
        scale.await.unwrap_or(Err(AcquireError::LoadPanicked.into()))
    }

    async fn scale_to(&self, name: &str, workers: Workers) -> Result<(), ContractError> {
        let (change, address) = self.begin(name, workers)?;
        let wanted = NonZeroUsize::new(workers.min).or_else(|| NonZeroUsize::new(workers.max));
        match change {
            Change::Nothing => {}
            Change::Unload => {
                self.cache.unload(&address).await;
                self.become_idle(name);
                return Ok(());
            }
            Change::Load => {
                if let Some(wanted) = wanted {
                    self.options.scale(&address, wanted);
                }
                match self.pinned(&address).await {
                    Ok(loaded) => self.become_loaded(name, loaded),
                    Err(error) => {
                        self.become_idle(name);
                        return Err(error.into());
                    }
                }
            }
            Change::Scale => {
                let acquired = self.acquire(name).await?;
                acquired.replica.scale(workers.min, workers.max).await?;
                let n_now = acquired.replica.describe().map_or(0, |it| it.workers.len());
                // It comes back as it is now if it is loaded anew.
                if let Some(n_now) = NonZeroUsize::new(n_now) {
                    self.options.scale(&address, n_now);
                }
            }
        }
        if let Some(named) = self.models.lock().get_mut(name) {
            named.workers = workers;
        }
        Ok(())
    }

    /// Decides what is to be done, and keeps others from it meanwhile.
    fn begin(
        &self,
        name: &str,
        workers: Workers,
    ) -> Result<(Change, ArtifactAddress), ContractError> {
        let mut models = self.models.lock();
        let named = models.get_mut(name);
        let named = named.ok_or_else(|| ContractError::NotFound(name.to_owned()))?;
        let change = match (&named.state, workers.max) {
            (NamedState::Loading | NamedState::Unloading, _) => {
                return Err(ContractError::Changing(name.to_owned()));
            }
            (NamedState::Idle, _) if workers.min == 0 => Change::Nothing,
            (NamedState::Idle, _) => Change::Load,
            (NamedState::Loaded { .. }, 0) => Change::Unload,
            (NamedState::Loaded { .. }, _) => Change::Scale,
        };
        match change {
            Change::Load => named.state = NamedState::Loading,
            // Gives up its pin.
            Change::Unload => named.state = NamedState::Unloading,
            Change::Nothing | Change::Scale => {}
        }
        Ok((change, named.address.clone()))
    }

    fn become_idle(&self, name: &str) {
        if let Some(named) = self.models.lock().get_mut(name) {
            named.state = NamedState::Idle;
            named.workers = Workers { min: 0, max: 0 };
        }
    }

    fn become_loaded(&self, name: &str, loaded: NamedState) {
        if let Some(Named { state, .. }) = self.models.lock().get_mut(name) {
            *state = loaded;
        }
    }
}
