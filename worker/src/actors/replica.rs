//! Owns one loaded model, and dies alone.
//!
//! Step 10 of an invocation. It goes from the handle straight to a compute slot: a mailbox in
//! between would cost two wake-ups and decide nothing. The actor is what owns the model, unloads it,
//! and can die of it.
//!
//! # Invariants
//!
//! - Every invocation that waits or runs holds a permit, so a slow model cannot pile up work
//!   without bound.
//! - The model is dropped only when its replica gives no lease any more.
//!
//! # When it dies
//!
//! A model that panics takes its actor with it: what it would do next is unknown; so does one that its
//! backend has lost. The model cache, its supervisor, forgets it, and the next invocation loads it anew.

mod held;

pub use held::Held;

use crate::{
    compute::{Compute, ComputeError, panic_text},
    lease::{Lease, Leases},
    memory::allocator,
    meter::Meter,
    policy::heat::{Heat, Millicores},
    runtime::{
        Description, Footprint, Model, ModelInput, ModelOutput, Outside, RuntimeError,
        backend::BackendError,
    },
};
use held::Seen;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// One loaded copy of a target model on this instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replica {
    actor: ActorRef<Message>,
    shared: Arc<Shared>,
}

/// Tells replicas apart, those of one artifact too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaId(ActorId);

impl From<ActorId> for ReplicaId {
    fn from(actor: ActorId) -> Self {
        Self(actor)
    }
}

/// What a replica is made of.
#[derive(Debug)]
pub struct ReplicaParts {
    /// Whose replica it is, for the log.
    pub address: ArtifactAddress,
    pub model: Held,
    pub leases: Arc<Leases>,
    pub compute: Arc<Compute>,
    pub meter: Arc<Meter>,
    /// How many invocations may wait and run at once.
    pub max_queued: usize,
}

/// Why a replica did not answer an invocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    #[error("the model's queue is full: {0} invocations wait or run already")]
    Overloaded(usize),
    #[error("the model did not answer in time")]
    TimedOut,
    #[error("the model died of another invocation before this one began")]
    Died,
    #[error("the model panicked: {0}")]
    Panicked(String),
    #[error("the model did not run: {0}")]
    Compute(ComputeError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl InvokeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Overloaded(_) | Self::Died => ErrorKind::Overloaded,
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Panicked(_) => ErrorKind::ModelFailed,
            Self::Compute(error) => error.kind(),
            Self::Runtime(error) => error.kind(),
        }
    }
}

/// What the handles of a replica share.
#[derive(Debug)]
struct Shared {
    address: ArtifactAddress,
    leases: Arc<Leases>,
    permits: Arc<Semaphore>,
    max_queued: usize,
    model: Seen,
    /// Set when the model died: what waits for it must not run any more.
    is_dead: AtomicBool,
    /// Whether it leaves after the invocation that it was loaded for, and nobody else has used it.
    is_passing: AtomicBool,
    meter: Arc<Meter>,
    since: SystemTime,
    /// For whoever reports it; no invocation asks.
    heat: Mutex<Heat>,
    compute: Arc<Compute>,
}

impl Replica {
    pub async fn spawn(parts: ReplicaParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let ReplicaParts { address, model, leases, compute, meter, max_queued } = parts;
        let shared = Arc::new(Shared {
            address: address.clone(),
            leases,
            permits: Arc::new(Semaphore::new(max_queued)),
            max_queued,
            model: model.downgrade(),
            is_dead: AtomicBool::new(false),
            is_passing: AtomicBool::new(false),
            meter,
            since: SystemTime::now(),
            heat: Mutex::new(Heat::new(Instant::now())),
            compute,
        });
        // Unnamed: ractor's registry is global, and tests run many workers in one process.
        let arguments = (address, model);
        let (actor, _) = Actor::spawn_linked(None, ReplicaActor, arguments, supervisor).await?;
        Ok(Self { actor, shared })
    }

    pub fn id(&self) -> ReplicaId {
        ReplicaId(self.actor.get_id())
    }

    /// Whose replica it is.
    pub fn address(&self) -> &ArtifactAddress {
        &self.shared.address
    }

    pub fn leases(&self) -> &Arc<Leases> {
        &self.shared.leases
    }

    /// What the model costs now; nothing once it is unloaded.
    pub fn footprint(&self) -> Footprint {
        self.shared.model.upgrade().map_or_else(Footprint::default, |model| model.footprint())
    }

    /// How the model runs; `None` once it is unloaded.
    pub fn describe(&self) -> Option<Description> {
        Some(match self.shared.model.upgrade()? {
            Held::Inside(model) => Description::inside(self.shared.since, model.footprint()),
            Held::Outside(model) => model.describe(),
        })
    }

    /// Has the model run in `min` to `max` processes, if it runs in processes of its own.
    pub async fn scale(&self, min: usize, max: usize) -> Result<(), InvokeError> {
        match self.shared.model.upgrade().ok_or(InvokeError::Died)? {
            Held::Inside(_) => Ok(()),
            Held::Outside(model) => Ok(model.scale(min, max).await?),
        }
    }

    /// Whether its model runs outside of this process, and wants to know a request's head.
    pub fn is_outside(&self) -> bool {
        matches!(self.shared.model, Seen::Outside(_))
    }

    /// How much work the model causes.
    pub fn heat(&self) -> Millicores {
        let now = Instant::now();
        self.shared.heat.lock().observe(self.shared.meter.busy(now), now)
    }

    /// Takes over the heat of the version before.
    pub fn succeed(&self, before: &Self) {
        let now = Instant::now();
        before.heat();
        let heat = before.shared.heat.lock().of_successor(now);
        *self.shared.heat.lock() = heat;
    }

    /// Notes that it leaves after the invocation that it was loaded for: it is nothing to keep warm.
    pub fn set_passing(&self) {
        // Looked at first: then hundreds that share it do not fight for the cache line.
        if !self.is_passing() {
            self.shared.is_passing.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that somebody uses it who wants it to stay.
    pub fn set_staying(&self) {
        if self.is_passing() {
            self.shared.is_passing.store(false, Ordering::Relaxed);
        }
    }

    pub fn is_passing(&self) -> bool {
        self.shared.is_passing.load(Ordering::Relaxed)
    }

    /// Runs one invocation. The lease is returned when the model is done with it, which may be
    /// after the deadline. An invocation whose caller has gone does not begin.
    pub async fn invoke(
        &self,
        lease: Lease,
        input: ModelInput,
        deadline: Instant,
    ) -> Result<ModelOutput, InvokeError> {
        let max_queued = self.shared.max_queued;
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned();
        let permit = permit.map_err(|_| InvokeError::Overloaded(max_queued))?;
        let model = match self.shared.model.upgrade().ok_or(InvokeError::Died)? {
            Held::Inside(model) => model,
            Held::Outside(model) => return self.outside(&*model, input, deadline).await,
        };
        let hold = Hold { model, _lease: lease, _permit: permit };
        let (replica, queued) = (self.clone(), Instant::now());
        let job = move || replica.run(&hold, &input, queued);
        let outcome = self.shared.compute.invoke(deadline, job).await;
        outcome.unwrap_or_else(|error| match error {
            ComputeError::Overrun => Err(InvokeError::TimedOut),
            error => Err(InvokeError::Compute(error)),
        })
    }

    /// Drops the model, gives its memory back, and stops. Close its leases first.
    pub async fn unload(&self) {
        // If the actor is gone already, so is its model.
        let _ = ractor::call!(self.actor, |reply| Message::Unload { reply });
    }

    /// On a compute slot.
    fn run(
        &self,
        hold: &Hold,
        input: &ModelInput,
        queued: Instant,
    ) -> Result<ModelOutput, InvokeError> {
        if self.shared.is_dead.load(Ordering::Acquire) {
            return Err(InvokeError::Died);
        }
        let started = Instant::now();
        self.shared.meter.begin(started - queued, started);
        let outcome = catch_unwind(AssertUnwindSafe(|| hold.model.invoke(input)));
        self.shared.meter.end(started, Instant::now());
        match outcome {
            Ok(output) => Ok(output?),
            Err(payload) => {
                let text = panic_text(payload.as_ref());
                self.die(text.clone());
                Err(InvokeError::Panicked(text))
            }
        }
    }

    /// Has an invocation run outside. Its lease is held as long as somebody waits for it: whoever evicts
    /// the model ends what nobody waits for.
    async fn outside(
        &self,
        model: &dyn Outside,
        input: ModelInput,
        deadline: Instant,
    ) -> Result<ModelOutput, InvokeError> {
        match timeout_at(deadline, model.invoke(input, deadline)).await {
            Ok(Err(RuntimeError::Unloaded)) => Err(InvokeError::Died),
            Ok(Err(RuntimeError::Backend(lost @ BackendError::Lost))) => {
                self.die(lost.to_string());
                Err(InvokeError::Died)
            }
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(InvokeError::TimedOut),
        }
    }

    fn die(&self, text: String) {
        self.shared.is_dead.store(true, Ordering::Release);
        // From now on the cache loads the model anew for whoever asks.
        self.shared.leases.close();
        // If the actor is gone, another invocation has reported it.
        let _ = self.actor.cast(Message::Died { text });
    }
}

/// What an invocation keeps until the model is done with it. The model goes first: who finds the
/// replica idle counts on it.
struct Hold {
    model: Arc<dyn Model>,
    _lease: Lease,
    _permit: OwnedSemaphorePermit,
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Died { text: String },
    Unload { reply: RpcReplyPort<()> },
}

// === Actor ===

#[derive(Debug)]
struct ReplicaActor;

impl Actor for ReplicaActor {
    type Msg = Message;
    type State = State;
    type Arguments = (ArtifactAddress, Held);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (address, model): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { myself, address, model: Some(model) })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Died { text } => {
                return Err(format!("{}: {text}", state.address).into());
            }
            Message::Unload { reply } => state.unload(reply),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    myself: ActorRef<Message>,
    address: ArtifactAddress,
    /// `None` once unloaded.
    model: Option<Held>,
}

impl State {
    fn unload(&mut self, reply: RpcReplyPort<()>) {
        let model = self.model.take();
        let myself = self.myself.clone();
        tokio::spawn(async move {
            match model {
                Some(Held::Inside(model)) => free(model).await,
                Some(Held::Outside(model)) => model.unload().await,
                None => {}
            }
            // Who asked may be gone; the memory is back all the same.
            let _ = reply.send(());
            myself.stop(None);
        });
    }
}

/// Gives a model's memory back, which takes a while.
async fn free(model: Arc<dyn Model>) {
    let freed = tokio::task::spawn_blocking(move || {
        drop(model);
        allocator::purge();
    });
    // A destructor that panics has freed what it could.
    let _ = freed.await;
}
