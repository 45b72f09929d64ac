//! Decides which target models are resident on this instance.
//!
//! Step 7 of an invocation. A warm invocation does not come here: it takes its lease from the
//! snapshot that this actor publishes.
//!
//! # Invariants
//!
//! - Single flight: at most one load per artifact, however many wait.
//! - Handlers never await: loads and unloads run in tasks and come back as one message each.
//! - A leased replica is never evicted ([`Leases`](crate::lease::Leases) decides the race).
//! - What resident models cost plus what loads have reserved stays within the budget, as far as
//!   measurement can tell: a model that turns out larger than reserved sheds others at once.
//!
//! # When it dies
//!
//! Its supervisor, `Instance`, ends the process: without it nothing can be loaded or evicted.

mod load;
mod state;

#[cfg(test)]
pub(crate) mod fixture;

use crate::{
    actors::{fetcher::Fetcher, replica::Replica},
    artifact::FetchError,
    compute::{Compute, ComputeError},
    lease::Lease,
    metrics::{CacheMetrics, ReplicaMetrics},
    policy::budget,
    runtime::{Footprint, Runtime, RuntimeError},
};
use arc_swap::ArcSwap;
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use state::State;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Loads that may wait for the store, for room or for a slot at the same time. Each holds the bodies
/// of up to `max_queued` invocations, so there is a bound; 64 is more than any instance works off in
/// the minute that an invocation waits.
const MAX_LOADS: usize = 64;

/// How long a load waits for a leased replica to become idle when nothing else can go. Longer than
/// most invocations run; short enough that the router still has time to try another instance.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// Decides which target models are resident. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ModelCache {
    actor: ActorRef<Message>,
    snapshot: Snapshot,
    n_slots: usize,
}

/// What the model cache works with.
#[derive(Clone, Debug)]
pub struct ModelCacheParts {
    pub fetcher: Fetcher,
    pub runtime: Arc<dyn Runtime>,
    pub compute: Arc<Compute>,
    pub budget_bytes: u64,
    /// Invocations that may wait for a load, and that may wait for and run on a replica.
    pub max_queued: usize,
    pub metrics: CacheMetrics,
    pub replica_metrics: ReplicaMetrics,
}

/// A replica to run one invocation on.
#[derive(Debug)]
pub struct Acquired {
    pub replica: Replica,
    pub lease: Lease,
    /// How long the invocation waited for the load; `None` if the model was resident.
    pub waited: Option<Duration>,
}

/// Why no replica could be had. `Clone`, because many wait for one load.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AcquireError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(
        "model needs {needed_bytes} bytes of the {budget_bytes} that models may take, and nothing can go"
    )]
    NoRoom { needed_bytes: u64, budget_bytes: u64 },
    #[error("{MAX_LOADS} models are loading already")]
    Overloaded,
    #[error("{0} invocations wait for the model to load already")]
    QueueFull(usize),
    #[error("loading the model failed unexpectedly")]
    LoadPanicked,
    #[error("the model did not load: {0}")]
    Compute(#[from] ComputeError),
    #[error("the instance is stopping")]
    Stopping,
}

impl AcquireError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
            Self::NoRoom { .. } => ErrorKind::InsufficientMemory,
            Self::Overloaded | Self::QueueFull(_) => ErrorKind::Overloaded,
            Self::LoadPanicked | Self::Compute(ComputeError::Panicked(_)) => ErrorKind::BadArtifact,
            Self::Compute(error) => error.kind(),
            Self::Stopping => ErrorKind::Draining,
        }
    }
}

/// Why replicas are evicted; a label of a metric.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelValue,
)]
pub enum Reason {
    /// A load needed the room.
    Room,
    /// Models took more than the budget.
    Budget,
    /// The machine or the control group ran short.
    Pressure,
}

/// What the cache tells the world, without being asked.
#[derive(Debug, Default)]
struct Published {
    residents: HashMap<ArtifactAddress, Replica>,
    budget_bytes: u64,
}

type Snapshot = Arc<ArcSwap<Published>>;

impl ModelCache {
    pub async fn spawn(parts: ModelCacheParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let snapshot = Snapshot::default();
        let n_slots = parts.compute.limits().n_slots;
        let arguments = (parts, Arc::clone(&snapshot));
        let (actor, _) = Actor::spawn_linked(None, ModelCacheActor, arguments, supervisor).await?;
        Ok(Self { actor, snapshot, n_slots })
    }

    /// Returns a leased replica of the artifact, loading it first if need be.
    pub async fn acquire(&self, address: &ArtifactAddress) -> Result<Acquired, AcquireError> {
        if let Some(replica) = self.snapshot.load().residents.get(address)
            && let Some(lease) = replica.leases().lease()
        {
            return Ok(Acquired { replica: replica.clone(), lease, waited: None });
        }
        let address = address.clone();
        ractor::call!(self.actor, |reply| Message::Acquire { address, reply })
            .unwrap_or(Err(AcquireError::Stopping))
    }

    /// Unloads an artifact that nobody has pinned, when its last lease is returned; answers when its
    /// memory is free.
    pub async fn unload(&self, address: &ArtifactAddress) {
        let address = address.clone();
        // A stopping cache has unloaded everything.
        let _ = ractor::call!(self.actor, |reply| Message::Unload { address, reply });
    }

    /// Sets how many bytes models may take, and sheds what is above it.
    pub fn set_budget(&self, budget_bytes: u64) {
        // A stopping cache needs no budget.
        let _ = self.actor.cast(Message::SetBudget { budget_bytes });
    }

    /// Evicts idle replicas until the machine has `bytes` more, or all idle ones if that is not
    /// enough.
    pub fn relieve(&self, bytes: u64) {
        // A stopping cache sheds everything.
        let _ = self.actor.cast(Message::Relieve { bytes });
    }

    pub fn n_resident(&self) -> usize {
        self.snapshot.load().residents.len()
    }

    /// Invocations that run or wait on a resident model.
    pub fn n_in_flight(&self) -> usize {
        self.snapshot.load().residents.values().map(|replica| replica.leases().n_passing()).sum()
    }

    /// What resident models cost now, bytes.
    pub fn used_bytes(&self) -> u64 {
        let snapshot = self.snapshot.load();
        budget::used_bytes(snapshot.residents.values().map(Replica::footprint), self.n_slots)
    }

    /// What models may take, bytes.
    pub fn budget_bytes(&self) -> u64 {
        self.snapshot.load().budget_bytes
    }
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Acquire {
        address: ArtifactAddress,
        reply: Reply,
    },
    /// A load wants room, evicting others if need be.
    Reserve {
        expected: Footprint,
        reply: ReserveReply,
    },
    LoadFinished {
        address: ArtifactAddress,
        outcome: Result<load::Loaded, AcquireError>,
    },
    Unload {
        address: ArtifactAddress,
        reply: RpcReplyPort<()>,
    },
    UnloadFinished {
        size_bytes: u64,
    },
    SetBudget {
        budget_bytes: u64,
    },
    Relieve {
        bytes: u64,
    },
}

type Reply = RpcReplyPort<Result<Acquired, AcquireError>>;
type ReserveReply = RpcReplyPort<Result<load::Reservation, load::NoRoom>>;

// === Actor ===

#[derive(Debug)]
struct ModelCacheActor;

impl Actor for ModelCacheActor {
    type Msg = Message;
    type State = State;
    type Arguments = (ModelCacheParts, Snapshot);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (parts, snapshot): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::new(myself, parts, snapshot))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Acquire { address, reply } => state.acquire(address, reply),
            Message::Reserve { expected, reply } => state.reserve(expected, reply),
            Message::LoadFinished { address, outcome } => state.load_finished(&address, outcome),
            Message::Unload { address, reply } => state.unload(&address, reply),
            Message::UnloadFinished { size_bytes } => state.unload_finished(size_bytes),
            Message::SetBudget { budget_bytes } => state.set_budget(budget_bytes),
            Message::Relieve { bytes } => state.relieve(bytes),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // A replica that stopped was unloaded by us; one that failed is news.
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            state.replica_died(actor.get_id(), &error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
