//! How an instance comes and goes without anybody's model being cold for it.
//!
//! It joins: it asks a router for its share, loads that, and only then serves. It leaves: it has its
//! models loaded where they go, hottest first, and each invocation that comes for one of those, or for
//! one that it does not hold, goes there too (`draining`, which a router takes for a hint). Both are
//! best effort within a time: whatever fails costs a load, never an answer.

mod backend;

use crate::{
    actors::{
        heartbeat::{Announced, Heartbeat},
        model_cache::{AcquireError, ModelCache},
    },
    artifact::OnDeleted,
    policy::handover,
    router_client::{MAX_IN_A_ROW, PAUSES, RouterClient, RouterError, Sought},
};
use futures_util::{StreamExt as _, stream};
use shared::{
    address::ArtifactAddress,
    api::{
        membership::InstanceState,
        residents::{Rehomed, Resident, Share},
    },
    telemetry::Chain,
};
use std::{
    collections::HashSet,
    convert::Infallible,
    future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Models that are handed over, or loaded to join, at the same time: enough to fetch some while others
/// are constructed, few enough that the hottest are not slowed down by the rest.
const MAX_AT_ONCE: usize = 4;

/// How often a joining instance asks for its share. What others have loaded meanwhile comes with the
/// second; a third finds what came during that, and then it is better to serve.
const MAX_ROUNDS: usize = 3;

/// Comes and goes.
#[derive(Debug)]
pub struct Lifecycle {
    pub heartbeat: Heartbeat,
    pub cache: ModelCache,
    pub routers: RouterClient,
}

/// Why no more models are handed over.
#[derive(Debug)]
enum End {
    All,
    /// There is nobody to hand over to, or to ask.
    Nobody(RouterError),
}

impl Lifecycle {
    /// Loads this instance's share for as long as `patience`, then serves. Never returns, so that it
    /// can be waited for beside what ends the process.
    pub async fn join(&self, patience: Duration) -> Infallible {
        self.enter(patience).await;
        future::pending().await
    }

    async fn enter(&self, patience: Duration) {
        let began = Instant::now();
        match self.routers.find().await {
            Sought::Found => {
                let entering = async {
                    if self.tell(InstanceState::Joining).await == Announced::Taken {
                        self.load_share().await;
                    }
                };
                if timeout(patience, entering).await.is_err() {
                    warn!(
                        ?patience,
                        "time to join is over; the rest of the share is loaded when invoked"
                    );
                }
            }
            Sought::NoneYet => warn!("no router is found; serving whoever comes"),
            // There is nothing to join.
            Sought::Never => return,
        }
        // For routers that are found later, too.
        self.heartbeat.announce(InstanceState::Serving).await;
        let elapsed_ms = began.elapsed().as_millis();
        info!(elapsed_ms, n_resident = self.cache.n_resident(), "joined");
    }

    /// Tells the routers of a new state until one has taken it. One that is slow is told again for as
    /// long as the caller waits; where there is none, that is soon known.
    async fn tell(&self, state: InstanceState) -> Announced {
        let mut n_refused = 0;
        loop {
            match self.heartbeat.announce(state).await {
                Announced::Late => n_refused = 0,
                Announced::Refused if n_refused + 1 < MAX_IN_A_ROW => n_refused += 1,
                announced => return announced,
            }
            sleep(PAUSES.delay(n_refused)).await;
        }
    }

    async fn load_share(&self) {
        let mut tried = HashSet::new();
        for _ in 0..MAX_ROUNDS {
            let share = match self.routers.share().await {
                Ok(Share { models }) => models,
                Err(error) => {
                    warn!(error = %Chain(&error), "no router tells the share; joining without it");
                    return;
                }
            };
            let new = share.into_iter().filter(|it| tried.insert(it.artifact.clone())).collect();
            let (used, budget) = (self.cache.used_bytes(), self.cache.budget_bytes());
            let models = handover::affordable(new, used, budget);
            if models.is_empty() {
                return;
            }
            info!(n_models = models.len(), "loading the share");
            let loads = stream::iter(models).map(|model| self.load(model));
            loads.buffer_unordered(MAX_AT_ONCE).collect::<()>().await;
        }
    }

    /// Loads a model of the share. One that does not load does not stand in the way of the others.
    async fn load(&self, model: Resident) {
        let Ok(address) = model.artifact.parse::<ArtifactAddress>() else { return };
        // Sizes were measured elsewhere; what counts is what is used here.
        if self.cache.used_bytes() > handover::fill_bytes(self.cache.budget_bytes()) {
            return;
        }
        let wish = if model.serves_stale { OnDeleted::ServeStale } else { OnDeleted::Refuse };
        let loaded: Result<_, AcquireError> = self.cache.acquire_as(&address, wish).await;
        if let Err(error) = loaded {
            debug!(%address, error = %Chain(&error), "model of the share did not load");
        }
    }

    /// Hands over models for as long as `patience`. Until the goodbye, what is not handed over yet is
    /// served here.
    pub async fn hand_over(&self, patience: Duration) {
        let began = Instant::now();
        let handing_over = async {
            // Whoever has no router, or a launcher that ended it first, waits for nothing.
            if self.tell(InstanceState::Draining).await != Announced::Taken {
                return None;
            }
            self.cache.leave();
            Some(self.rehome_all().await)
        };
        let end = timeout(patience, handing_over).await;
        let (elapsed_ms, n_left) = (began.elapsed().as_millis(), self.cache.n_resident());
        match end {
            Ok(None) => {}
            Ok(Some(End::All)) => info!(elapsed_ms, n_left, "models are handed over"),
            Ok(Some(End::Nobody(error))) => {
                info!(n_left, error = %Chain(&error), "models go nowhere");
            }
            Err(_) => warn!(elapsed_ms, n_left, "time to hand over models is over"),
        }
    }

    async fn rehome_all(&self) -> End {
        let mut tried = HashSet::new();
        loop {
            let is_new = |it: &Resident| !it.is_bound && tried.insert(it.artifact.clone());
            let models: Vec<_> = self.cache.residents().models.into_iter().filter(is_new).collect();
            // Loads that were under way have brought more meanwhile.
            if models.is_empty() {
                return End::All;
            }
            if let Some(error) = self.rehome_each(models).await {
                return End::Nobody(error);
            }
        }
    }

    /// Has models warm elsewhere. Returns why no more of them were: there is nobody. What was under way
    /// then is not given up.
    async fn rehome_each(&self, models: Vec<Resident>) -> Option<RouterError> {
        let (is_over, mut nobody) = (AtomicBool::new(false), None);
        let rehome = |model: Resident| async {
            if is_over.load(Ordering::Relaxed) {
                return None;
            }
            let rehomed = self.routers.rehome(&model).await;
            Some((model, rehomed))
        };
        let moves = stream::iter(models).map(rehome);
        let mut moves = pin!(moves.buffer_unordered(MAX_AT_ONCE));
        while let Some(moved) = moves.next().await {
            match moved {
                Some((model, Ok(rehomed))) => self.let_go(&model, &rehomed),
                Some((_, Err(error @ (RouterError::Nowhere | RouterError::Unreachable(_))))) => {
                    is_over.store(true, Ordering::Relaxed);
                    nobody = Some(error);
                }
                Some((Resident { artifact, .. }, Err(error))) => {
                    warn!(artifact, error = %Chain(&error), "model was not handed over");
                }
                None => {}
            }
        }
        nobody
    }

    /// From now on its invocations are told to go where it is warm.
    fn let_go(&self, model: &Resident, rehomed: &Rehomed) {
        let Ok(address) = model.artifact.parse::<ArtifactAddress>() else { return };
        info!(%address, to = %rehomed.instance, "handed over");
        let cache = self.cache.clone();
        // It goes when those who have it are done, which nobody waits for.
        tokio::spawn(async move { cache.unload(&address).await });
    }
}

#[cfg(test)]
mod tests;
