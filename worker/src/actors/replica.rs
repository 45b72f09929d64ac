//! Runs the invocations of one loaded model, and dies alone.
//!
//! Step 10 of an invocation.
//!
//! # Invariants
//!
//! - Every invocation in the mailbox or running holds a permit, so a slow model cannot pile up
//!   work without bound.
//! - The model is dropped only when its replica gives no lease any more.
//!
//! # When it dies
//!
//! A model that panics takes its actor with it: what it would do next is unknown. The model cache,
//! its supervisor, forgets it, and the next invocation loads it anew.

use crate::{
    compute::{Compute, ComputeError},
    lease::{Lease, Leases},
    memory::allocator,
    metrics::ReplicaMetrics,
    runtime::{Footprint, Model, ModelInput, ModelOutput, RuntimeError},
};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::sync::{Arc, Weak};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// One loaded copy of a target model on this instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replica {
    actor: ActorRef<Message>,
    leases: Arc<Leases>,
    permits: Arc<Semaphore>,
    max_queued: usize,
    /// Weak, so that no snapshot of the cache keeps an evicted model in memory.
    model: Weak<dyn Model>,
}

/// What a replica is made of.
#[derive(Debug)]
pub struct ReplicaParts {
    /// Whose replica it is, for the log.
    pub address: ArtifactAddress,
    pub model: Arc<dyn Model>,
    pub leases: Arc<Leases>,
    pub compute: Arc<Compute>,
    pub metrics: ReplicaMetrics,
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

impl Replica {
    pub async fn spawn(parts: ReplicaParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let leases = Arc::clone(&parts.leases);
        let max_queued = parts.max_queued;
        let permits = Arc::new(Semaphore::new(max_queued));
        let model = Arc::downgrade(&parts.model);
        // Unnamed: ractor's registry is global, and tests run many workers in one process.
        let (actor, _) = Actor::spawn_linked(None, ReplicaActor, parts, supervisor).await?;
        Ok(Self { actor, leases, permits, max_queued, model })
    }

    pub fn id(&self) -> ActorId {
        self.actor.get_id()
    }

    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// What the model costs now; nothing once it is unloaded.
    pub fn footprint(&self) -> Footprint {
        self.model.upgrade().map_or_else(Footprint::default, |model| model.footprint())
    }

    /// Runs one invocation. The lease is returned when the model is done with it, which may be
    /// after the deadline.
    pub async fn invoke(
        &self,
        lease: Lease,
        input: ModelInput,
        deadline: Instant,
    ) -> Result<ModelOutput, InvokeError> {
        let permits = Arc::clone(&self.permits);
        let permit =
            permits.try_acquire_owned().map_err(|_| InvokeError::Overloaded(self.max_queued))?;
        let hold = Hold { _lease: lease, _permit: permit };
        let caller = Arc::new(());
        let abandoned = Arc::downgrade(&caller);
        let answer = ractor::call!(self.actor, |reply| {
            Message::Invoke(Invocation { input, deadline, abandoned, hold, reply })
        });
        drop(caller);
        // Only an invocation that the actor never took up goes without an answer.
        answer.unwrap_or(Err(InvokeError::Died))
    }

    /// Drops the model, gives its memory back, and stops. Close its leases first.
    pub async fn unload(&self) {
        // If the actor is gone already, so is its model.
        let _ = ractor::call!(self.actor, |reply| Message::Unload { reply });
    }
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Invoke(Invocation),
    Panicked { text: String },
    Unload { reply: RpcReplyPort<()> },
}

#[derive(Debug)]
struct Invocation {
    input: ModelInput,
    deadline: Instant,
    /// Dangles once the caller no longer waits: then the model need not run.
    abandoned: Weak<()>,
    hold: Hold,
    reply: Reply,
}

/// What an invocation keeps until the model is done with it.
#[derive(Debug)]
struct Hold {
    _lease: Lease,
    _permit: OwnedSemaphorePermit,
}

type Reply = RpcReplyPort<Result<ModelOutput, InvokeError>>;

// === Actor ===

#[derive(Debug)]
struct ReplicaActor;

impl Actor for ReplicaActor {
    type Msg = Message;
    type State = State;
    type Arguments = ReplicaParts;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        parts: ReplicaParts,
    ) -> Result<State, ActorProcessingErr> {
        let ReplicaParts { address, model, leases, compute, metrics, max_queued: _ } = parts;
        Ok(State { myself, address, model: Some(model), leases, compute, metrics })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Invoke(invocation) => state.invoke(invocation),
            Message::Panicked { text } => {
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
    model: Option<Arc<dyn Model>>,
    leases: Arc<Leases>,
    compute: Arc<Compute>,
    metrics: ReplicaMetrics,
}

impl State {
    fn invoke(&self, invocation: Invocation) {
        let Invocation { input, deadline, abandoned, hold, reply } = invocation;
        let Some(model) = self.model.clone() else {
            return answer(reply, Err(InvokeError::Died));
        };
        let (myself, leases) = (self.myself.clone(), Arc::clone(&self.leases));
        let (compute, metrics) = (Arc::clone(&self.compute), self.metrics.clone());
        tokio::spawn(async move {
            let queued = Instant::now();
            let job = move || {
                // Returned with the answer, or dropped by an unwinding panic: never kept longer.
                let _hold = hold;
                // Before the hold: who finds the replica idle counts on the model being gone.
                let model = model;
                metrics.queue.0.observe(queued.elapsed().as_secs_f64());
                if abandoned.strong_count() == 0 {
                    return Err(InvokeError::TimedOut);
                }
                let started = Instant::now();
                let output = model.invoke(&input);
                metrics.invoke.0.observe(started.elapsed().as_secs_f64());
                output.map_err(InvokeError::from)
            };
            let outcome = compute.invoke(deadline, job).await.unwrap_or_else(|error| match error {
                ComputeError::Panicked(text) => {
                    // From now on the cache loads the model anew for whoever asks.
                    leases.close();
                    // If the actor is gone, another invocation has reported it.
                    let _ = myself.cast(Message::Panicked { text: text.clone() });
                    Err(InvokeError::Panicked(text))
                }
                error => Err(InvokeError::Compute(error)),
            });
            answer(reply, outcome);
        });
    }

    fn unload(&mut self, reply: RpcReplyPort<()>) {
        let model = self.model.take();
        let myself = self.myself.clone();
        tokio::task::spawn_blocking(move || {
            drop(model);
            allocator::purge();
            // Who asked may be gone; the memory is back all the same.
            let _ = reply.send(());
            myself.stop(None);
        });
    }
}

/// A caller that hung up needs no answer.
fn answer(reply: Reply, outcome: Result<ModelOutput, InvokeError>) {
    let _ = reply.send(outcome);
}
