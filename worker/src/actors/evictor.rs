//! Watches memory and sheds idle models before the system has to.
//!
//! # Invariants
//!
//! - Limits are read anew at every tick: a group's limit may change while the process runs.
//! - It only says how much must go; the model cache knows which models may.
//!
//! # When it dies
//!
//! Its supervisor, `Instance`, ends the process: without it pressure goes unseen.

use super::model_cache::ModelCache;
use crate::{
    memory::{allocator, probe::MemoryProbe},
    metrics::MemoryMetrics,
    policy::budget,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use std::time::Duration;

/// How often memory is looked at. A load brings at most some hundred megabytes in that time, which
/// the watermarks leave room for; reading it costs less than a millisecond.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the evictor works with.
#[derive(Debug)]
pub struct EvictorParts {
    pub cache: ModelCache,
    pub probe: Box<dyn MemoryProbe>,
    /// `--memory-budget`.
    pub configured_bytes: Option<u64>,
    /// What the process takes without models.
    pub idle_bytes: u64,
    pub metrics: MemoryMetrics,
}

/// Starts the evictor. It needs no handle: nobody asks it anything.
pub async fn spawn(parts: EvictorParts, supervisor: ActorCell) -> Result<(), SpawnErr> {
    Actor::spawn_linked(None, EvictorActor, parts, supervisor).await?;
    Ok(())
}

// === Messages ===

#[derive(Clone, Debug)]
enum Message {
    Tick,
}

// === Actor ===

#[derive(Debug)]
struct EvictorActor;

impl Actor for EvictorActor {
    type Msg = Message;
    type State = State;
    type Arguments = EvictorParts;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        parts: EvictorParts,
    ) -> Result<State, ActorProcessingErr> {
        myself.send_interval(INTERVAL, || Message::Tick);
        Ok(State { parts })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => state.tick(),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    parts: EvictorParts,
}

impl State {
    fn tick(&mut self) {
        let EvictorParts { cache, probe, configured_bytes, idle_bytes, metrics } = &mut self.parts;
        let sample = probe.sample();
        metrics.rss_bytes.set(sample.rss_bytes.cast_signed());
        metrics.resident_bytes.set(cache.used_bytes().cast_signed());
        metrics.resident_models.set(i64::try_from(cache.n_resident()).unwrap_or(i64::MAX));
        cache.set_budget(budget::model_budget(*configured_bytes, sample.limit_bytes, *idle_bytes));
        let shed_bytes = budget::shed_bytes(&sample);
        if shed_bytes > 0 {
            // What the allocator keeps for later goes first; models go if the next look says so too.
            allocator::purge();
            cache.relieve(shed_bytes);
        }
    }
}
