//! Decides which artifacts are being fetched to this instance's disk.
//!
//! # Invariants
//!
//! - Single flight: an artifact is fetched once at a time, however many ask for it; they share
//!   the outcome. Whoever asks after that starts anew, so that an artifact uploaded a moment ago,
//!   or replaced, is found: failures are not remembered.
//! - Handlers never await: a fetch runs in its own task and comes back as `FetchFinished`, also
//!   when it panics.
//!
//! # When it dies
//!
//! Its supervisor is told. Callers get [`FetchError::Interrupted`]; artifacts on disk and leases
//! stay as they are. Stopped in order, it also breaks off what is being downloaded.

use crate::artifact::{
    ArtifactVersion, FetchError, Otherwise,
    ingest::{Fetched, Ingest, STOPPING},
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use shared::{address::ArtifactAddress, telemetry::Chain};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument as _, debug, info, info_span};

/// Callers that wait at the same time. Each is a model that is being loaded: a worker that has so
/// many to load is minutes behind, and another instance is the better choice.
const MAX_WAITING: usize = 256;

/// Brings artifacts to this instance's disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    actor: ActorRef<Message>,
    permits: Arc<Semaphore>,
    ingest: Ingest,
}

impl Fetcher {
    pub async fn spawn(ingest: Ingest, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        // Unnamed: ractor's registry is global, and tests run many workers in one process.
        let arguments = ingest.clone();
        let (actor, _) = Actor::spawn_linked(None, FetcherActor, arguments, supervisor).await?;
        Ok(Self { actor, permits: Arc::new(Semaphore::new(MAX_WAITING)), ingest })
    }

    /// Returns the current version of an artifact, leased on disk, or what may be given otherwise. Who
    /// joins a fetch gets what its first caller may be given.
    ///
    /// Whoever stops waiting does not stop the fetch: the next one to ask gains from it.
    pub async fn fetch(
        &self,
        address: ArtifactAddress,
        otherwise: Otherwise,
    ) -> Result<Fetched, FetchError> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(FetchError::Overloaded(address));
        };
        let asked = address.clone();
        let answer = ractor::call!(self.actor, |reply| {
            Message::Fetch { address, otherwise, waiting: Waiting { reply, _permit: permit } }
        });
        answer.unwrap_or(Err(FetchError::Interrupted(asked, STOPPING)))
    }

    /// Returns which version an address stands for now. Nothing is decided, so nobody is asked but
    /// the store.
    pub async fn locate(&self, address: &ArtifactAddress) -> Result<ArtifactVersion, FetchError> {
        self.ingest.locate(address).await
    }

    /// Deletes artifacts from the disk, leased ones when their last lease is dropped.
    pub fn discard(
        &self,
        is_to_go: impl Fn(&ArtifactAddress, &ArtifactVersion) -> bool + Send + 'static,
    ) {
        let ingest = self.ingest.clone();
        tokio::spawn(async move { ingest.discard(is_to_go).await });
    }
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Fetch { address: ArtifactAddress, otherwise: Otherwise, waiting: Waiting },
    FetchFinished { address: ArtifactAddress, outcome: Result<Fetched, FetchError> },
}

type Reply = RpcReplyPort<Result<Fetched, FetchError>>;

// === Actor ===

struct FetcherActor;

impl Actor for FetcherActor {
    type Msg = Message;
    type State = State;
    type Arguments = Ingest;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        ingest: Ingest,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { myself, ingest, flights: HashMap::new() })
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.ingest.stop();
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Fetch { address, otherwise, waiting } => {
                state.fetch(address, otherwise, waiting);
            }
            Message::FetchFinished { address, outcome } => state.fetch_finished(&address, &outcome),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    myself: ActorRef<Message>,
    ingest: Ingest,
    /// What is being fetched, and who waits for it.
    flights: HashMap<ArtifactAddress, Vec<Waiting>>,
}

/// A caller, and its place among [`MAX_WAITING`].
#[derive(Debug)]
struct Waiting {
    reply: Reply,
    _permit: OwnedSemaphorePermit,
}

impl State {
    fn fetch(&mut self, address: ArtifactAddress, otherwise: Otherwise, waiting: Waiting) {
        match self.flights.entry(address) {
            Entry::Occupied(mut flight) => flight.get_mut().push(waiting),
            Entry::Vacant(flight) => {
                let address = flight.key().clone();
                flight.insert(vec![waiting]);
                self.start_fetch(address, otherwise);
            }
        }
    }

    fn fetch_finished(&mut self, address: &ArtifactAddress, outcome: &Result<Fetched, FetchError>) {
        match outcome {
            Ok(it) if it.downloaded => {
                info!(%address, elapsed_ms = it.elapsed.as_millis(), "fetched");
            }
            Ok(_) => debug!(%address, "found on disk"),
            // Whoever wanted it says so.
            Err(error) => debug!(%address, error = %Chain(error), "fetch failed"),
        }
        let waiting = self.flights.remove(address);
        debug_assert!(waiting.is_some(), "only a flight finishes");
        for Waiting { reply, .. } in waiting.into_iter().flatten() {
            // A caller that hung up needs no answer; its copy of the lease is dropped with it.
            let _ = reply.send(outcome.clone());
        }
    }

    fn start_fetch(&self, address: ArtifactAddress, otherwise: Otherwise) {
        let (myself, ingest) = (self.myself.clone(), self.ingest.clone());
        let span = info_span!("fetch", %address);
        let flight = {
            let (ingest, address) = (ingest.clone(), address.clone());
            let fetch = async move { ingest.fetch(&address, otherwise).await };
            tokio::spawn(fetch.instrument(span))
        };
        tokio::spawn(async move {
            // A panic must come back too, or its callers would wait for ever.
            let outcome = flight.await.unwrap_or_else(|_| {
                Err(FetchError::Interrupted(address.clone(), "fetching it panicked"))
            });
            let fetched = outcome.as_ref().ok().filter(|it| it.downloaded);
            let new_version = fetched.map(|it| it.version.clone());
            // If the fetcher has stopped, its callers are gone too.
            let _ = myself.cast(Message::FetchFinished { address: address.clone(), outcome });
            if let Some(version) = new_version {
                ingest.persist(address, version).await;
            }
        });
    }
}

#[cfg(test)]
mod tests;
