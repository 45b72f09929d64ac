//! An instance whose models are in a backend: it serves for as long as that one does.

use super::Lifecycle;
use crate::runtime::backend::{NotUp, Vigil, Watched};
use shared::{address::ArtifactAddress, api::membership::InstanceState, telemetry::Chain};
use std::{convert::Infallible, pin::pin, time::Duration};
use tracing::warn;

impl Lifecycle {
    /// Joins and serves while the backend does. When it does not any more, routers are told that the
    /// instance takes nothing, and once it does again, the instance joins anew.
    pub async fn join_with(
        &self,
        vigil: &mut Vigil,
        patience: Duration,
    ) -> Result<Infallible, NotUp> {
        loop {
            self.serve_while_up(vigil, patience).await;
            self.heartbeat.announce(InstanceState::Joining).await;
            self.forget(vigil.up().await?);
        }
    }

    async fn serve_while_up(&self, vigil: &mut Vigil, patience: Duration) {
        let mut joined = pin!(self.join(patience));
        loop {
            let watched = tokio::select! {
                watched = vigil.next() => watched,
                never = &mut joined => match never {},
            };
            match watched {
                Watched::Lost(models) => self.forget(models),
                Watched::Down(error) => {
                    let error = Chain(&error);
                    return warn!(%error, "the backend is down; nothing is taken until it serves");
                }
            }
        }
    }

    /// Lets go of models that the backend has lost. One that is invoked meanwhile notices by itself.
    fn forget(&self, lost: Vec<ArtifactAddress>) {
        for address in lost {
            warn!(%address, "the backend has lost a model");
            let cache = self.cache.clone();
            // It goes when those who have it are done, which nobody waits for.
            tokio::spawn(async move { cache.unload(&address).await });
        }
    }
}
