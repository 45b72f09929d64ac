//! Decides which target models are resident on this instance.
//!
//! Step 7 of an invocation. A warm invocation does not come here: it takes its lease from the
//! snapshot that this actor publishes.
//!
//! # Invariants
//!
//! - Single flight: at most one load per artifact, however many wait. A cache that leaves begins none.
//! - Handlers never await: loads and unloads run in tasks and come back as one message each.
//! - A leased replica is never evicted ([`Leases`](crate::lease::Leases) decides the race).
//! - A new version takes the place of an old one in one step: who comes later never gets the old one.
//! - No invocation is served by a version that its store was not asked about within the age, unless
//!   the store does not say; only a definite 404 ends a version.
//! - What resident models cost plus what loads have reserved stays within the budget, as far as
//!   measurement can tell: a model that turns out larger than reserved sheds others at once.
//!
//! # When it dies
//!
//! Its supervisor, `Instance`, ends the process: without it nothing can be loaded or evicted.

mod below;
mod error;
mod load;
mod relief;
mod published;
mod resident;
mod state;

#[cfg(test)]
pub(crate) mod fixture;

pub use below::Below;
pub use error::AcquireError;

use crate::{
    actors::{fetcher::Fetcher, replica::Replica},
    artifact::{ArtifactVersion, FetchError, OnDeleted},
    compute::Compute,
    lease::Lease,
    metrics::{CacheMetrics, ReplicaMetrics},
    policy::freshness::Age,
    runtime::{Footprint, Runtime},
};
use published::{Published, Snapshot};
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use relief::Way;
use resident::{Checked, Resident};
use shared::address::ArtifactAddress;
use state::{Refreshed, State};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Loads that may wait for the store, for room or for a slot at the same time. Each holds the bodies
/// of up to `max_queued` invocations, so there is a bound; 64 is more than any instance works off in
/// the minute that an invocation waits.
const MAX_LOADS: usize = 64;

/// How long a load waits for a leased replica to become idle when nothing else can go. Longer than
/// most invocations run; short enough that the router still has time to try another instance.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// Models outside that are started at the same time. Each imports its libraries on a core of its own, and
/// one that hangs takes a turn for as long as a load may last.
const MAX_OUTSIDE_LOADS: usize = 4;

/// Resident models that stores are asked about at the same time. With a store that answers within
/// 100 ms, 160 a second: 4800 models at the default age.
const MAX_CHECKS: usize = 16;

/// New versions that come at the same time. Nobody waits for them, and others wait for the network
/// and for their turn to construct.
const MAX_REFRESHES: usize = 2;

/// How long an invocation waits for the answer of a store that must be asked first. S3 answers within
/// 200 ms nearly always; one that is slower must not slow down what is resident.
const CHECK_PATIENCE: Duration = Duration::from_secs(1);

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
    /// How old a store's word about a resident model may be.
    pub max_age: Duration,
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
    /// The backend said that it has no room.
    Backend,
}

/// What came of asking a store about a resident model; a label of a metric.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelValue,
)]
pub enum Revalidation {
    Unchanged,
    /// A new version took its place.
    Replaced,
    Deleted,
    /// The store did not say, or its new version did not come into memory.
    Failed,
}

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
        self.acquire_as(address, OnDeleted::Refuse).await
    }

    /// The same for a caller that may want a model whose object was deleted.
    pub async fn acquire_as(
        &self,
        address: &ArtifactAddress,
        on_deleted: OnDeleted,
    ) -> Result<Acquired, AcquireError> {
        let arrived = Instant::now();
        loop {
            match self.warm(address, on_deleted) {
                Warm::Acquired(acquired) => return Ok(acquired),
                // The check that was under way is over: another one began since the caller came, or
                // begins now.
                Warm::Overdue(resident) if resident.checked(arrived).await == Checked::TooOld => {}
                // Whatever the store says, the actor has acted on it before it answers below.
                Warm::Overdue(_) | Warm::Absent => break,
            }
        }
        let address = address.clone();
        ractor::call!(self.actor, |reply| Message::Acquire { address, on_deleted, reply })
            .unwrap_or(Err(AcquireError::Stopping))
    }

    /// The replica of an artifact, if it is in memory. Loads nothing, and keeps nothing.
    pub fn resident(&self, address: &ArtifactAddress) -> Option<Replica> {
        self.snapshot.load().residents.get(address).map(|it| it.replica.clone())
    }

    /// What the snapshot has for an invocation. Asks nobody; tells the actor what few notice first.
    fn warm(&self, address: &ArtifactAddress, on_deleted: OnDeleted) -> Warm {
        let snapshot = self.snapshot.load();
        let Some(resident) = snapshot.residents.get(address) else { return Warm::Absent };
        let age = resident.age();
        if age != Age::Fresh && resident.begin_check() {
            let (address, resident) = (address.clone(), Arc::clone(resident));
            // A stopping cache checks nothing more.
            let _ = self.actor.cast(Message::Check { address, resident });
        }
        if on_deleted == OnDeleted::ServeStale && resident.want_stale() {
            // A stopping cache keeps nothing for anybody.
            let _ = self.actor.cast(Message::WantStale { address: address.clone() });
        }
        if age == Age::Overdue {
            return Warm::Overdue(Arc::clone(resident));
        }
        resident.lease(on_deleted, None).map_or(Warm::Absent, Warm::Acquired)
    }

    /// From now on loads nothing: what is not resident is somebody else's to load. What is goes on being
    /// served until it is unloaded.
    pub fn leave(&self) {
        // A stopping cache loads nothing either.
        let _ = self.actor.cast(Message::Leave);
    }

    /// Unloads an artifact that nobody has pinned, when its last lease is returned; answers when its
    /// memory is free.
    pub async fn unload(&self, address: &ArtifactAddress) {
        let address = address.clone();
        // A stopping cache has unloaded everything.
        let _ = ractor::call!(self.actor, |reply| Message::Unload { address, reply });
    }

    /// Lets go of every replica that is meant and that nobody has pinned, when its last lease is
    /// returned, and of their files. Answers at once how many go.
    pub async fn unload_below(&self, below: Below) -> usize {
        let unload = ractor::call!(self.actor, |reply| Message::UnloadBelow { below, reply });
        // A stopping cache has none left.
        unload.unwrap_or(0)
    }

    /// Lets an artifact go from memory and disk, unless it is pinned, as soon as no invocation holds
    /// it.
    pub fn discard(&self, address: &ArtifactAddress) {
        // A stopping cache lets everything go.
        let _ = self.actor.cast(Message::Discard { address: address.clone() });
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
}

/// What the snapshot has for an invocation.
enum Warm {
    Acquired(Acquired),
    /// Its store is being asked, which is to be waited for.
    Overdue(Arc<Resident>),
    Absent,
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Acquire {
        address: ArtifactAddress,
        on_deleted: OnDeleted,
        reply: Reply,
    },
    /// A load wants room, evicting others if need be.
    Reserve {
        expected: Footprint,
        reply: ReserveReply,
    },
    /// A backend has no room for a model: another one shall leave.
    MakeWay {
        for_whom: ArtifactAddress,
        reply: RpcReplyPort<Way>,
    },
    LoadFinished {
        address: ArtifactAddress,
        outcome: Result<load::Loaded, AcquireError>,
    },
    /// The instance leaves.
    Leave,
    Unload {
        address: ArtifactAddress,
        reply: RpcReplyPort<()>,
    },
    UnloadFinished {
        size_bytes: u64,
    },
    UnloadBelow {
        below: Below,
        reply: RpcReplyPort<usize>,
    },
    /// An invocation is over whose model shall leave.
    Discard {
        address: ArtifactAddress,
    },
    /// A replica that shall leave was idle a moment ago.
    WasIdle {
        address: ArtifactAddress,
        resident: Arc<Resident>,
    },
    /// An invocation has noticed the age of a resident model, and begun its check.
    Check {
        address: ArtifactAddress,
        resident: Arc<Resident>,
    },
    Checked {
        address: ArtifactAddress,
        resident: Arc<Resident>,
        outcome: Result<ArtifactVersion, FetchError>,
    },
    /// A new version has come into memory, or did not.
    Refreshed(Refreshed),
    /// An invocation wants a model even if its object is deleted.
    WantStale {
        address: ArtifactAddress,
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
            Message::Acquire { address, on_deleted, reply } => {
                state.acquire(address, on_deleted, reply);
            }
            Message::Reserve { expected, reply } => state.reserve(expected, reply),
            Message::MakeWay { for_whom, reply } => state.make_way(&for_whom, reply),
            Message::LoadFinished { address, outcome } => state.load_finished(&address, outcome),
            Message::Leave => state.leave(),
            Message::Unload { address, reply } => state.unload(&address, reply),
            Message::UnloadFinished { size_bytes } => state.unload_finished(size_bytes),
            Message::UnloadBelow { below, reply } => state.unload_below(below, reply),
            Message::Discard { address } => state.discard(address),
            Message::WasIdle { address, resident } => state.was_idle(address, resident),
            Message::Check { address, resident } => state.check(address, resident),
            Message::Checked { address, resident, outcome } => {
                state.checked(&address, &resident, outcome);
            }
            Message::Refreshed(refreshed) => state.refreshed(refreshed),
            Message::WantStale { address } => state.want_stale(address),
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
