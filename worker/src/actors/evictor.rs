//! Watches memory and sheds idle models before the system has to.
//!
//! # Invariants
//!
//! - Limits are read anew at every tick: a group's limit may change while the process runs.
//! - It only says how much must go; the model cache knows which models may.
//! - A budget that was set takes the place of the configured one, and is obeyed as far as the limits
//!   allow, as that one is.
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

/// Sheds idle models. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Evictor {
    actor: ActorRef<Message>,
}

/// What the evictor works with.
#[derive(Debug)]
pub struct EvictorParts {
    pub cache: ModelCache,
    pub probe: Box<dyn MemoryProbe>,
    /// `--memory-budget`, until another one is set.
    pub configured_bytes: Option<u64>,
    /// What the process takes without models.
    pub idle_bytes: u64,
    pub metrics: MemoryMetrics,
}

impl Evictor {
    pub async fn spawn(parts: EvictorParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, EvictorActor, parts, supervisor).await?;
        Ok(Self { actor })
    }

    /// Sets how many bytes models may take, as `--memory-budget` does at the start.
    pub fn set_budget(&self, bytes: u64) {
        // A stopping evictor needs no budget.
        let _ = self.actor.cast(Message::SetBudget { bytes });
    }
}

// === Messages ===

#[derive(Clone, Debug)]
enum Message {
    Tick,
    /// The allocator has given back what it kept for later.
    Purged,
    SetBudget {
        bytes: u64,
    },
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
        Ok(State { myself, parts, is_purging: false })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => state.tick(),
            Message::Purged => state.purged(),
            Message::SetBudget { bytes } => state.set_budget(bytes),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    myself: ActorRef<Message>,
    parts: EvictorParts,
    is_purging: bool,
}

impl State {
    fn tick(&mut self) {
        let EvictorParts { cache, probe, configured_bytes, idle_bytes, metrics } = &mut self.parts;
        let sample = probe.sample();
        metrics.rss_bytes.set(sample.rss_bytes.cast_signed());
        metrics.resident_bytes.set(cache.used_bytes().cast_signed());
        metrics.resident_models.set(i64::try_from(cache.n_resident()).unwrap_or(i64::MAX));
        cache.set_budget(budget::model_budget(*configured_bytes, sample.limit_bytes, *idle_bytes));
        if budget::shed_bytes(&sample) > 0 && !self.is_purging {
            self.is_purging = true;
            let myself = self.myself.clone();
            tokio::task::spawn_blocking(move || {
                allocator::purge();
                // A stopping evictor purges no more.
                let _ = myself.cast(Message::Purged);
            });
        }
    }

    /// What the allocator kept has gone; models go only if that was not enough.
    fn purged(&mut self) {
        self.is_purging = false;
        let shed_bytes = budget::shed_bytes(&self.parts.probe.sample());
        if shed_bytes > 0 {
            self.parts.cache.relieve(shed_bytes);
        }
    }

    fn set_budget(&mut self, bytes: u64) {
        self.parts.configured_bytes = Some(bytes);
        self.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::model_cache::fixture::{Fixture, MIB},
        memory::{cgroup::Reading, probe::MemorySample},
    };
    use std::{
        collections::VecDeque,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    const LIMIT: u64 = 100 * MIB;

    /// Tells what a test wrote down, one number of used bytes at each look; then nothing is used.
    #[derive(Debug)]
    struct Scripted {
        used: VecDeque<u64>,
        n_looks: Arc<AtomicUsize>,
    }

    impl MemoryProbe for Scripted {
        fn sample(&mut self) -> MemorySample {
            self.n_looks.fetch_add(1, Ordering::SeqCst);
            let used_bytes = self.used.pop_front().unwrap_or(0);
            let fullest = Reading { limit_bytes: LIMIT, used_bytes };
            MemorySample { limit_bytes: LIMIT, fullest, ..MemorySample::default() }
        }
    }

    /// Starts an evictor with a budget of 3 MiB that is shown these numbers, and counts its looks.
    async fn evictor(fixture: &Fixture, used: &[u64]) -> (Evictor, Arc<AtomicUsize>) {
        let n_looks = Arc::new(AtomicUsize::new(0));
        let used = used.iter().copied().collect();
        let parts = EvictorParts {
            cache: fixture.cache.clone(),
            probe: Box::new(Scripted { used, n_looks: Arc::clone(&n_looks) }),
            configured_bytes: Some(3 * MIB),
            idle_bytes: 0,
            metrics: MemoryMetrics::default(),
        };
        let evictor = Evictor::spawn(parts, fixture.instance.supervisor()).await.unwrap();
        (evictor, n_looks)
    }

    /// Loads an idle model, shows an evictor these numbers, and says whether the model stayed.
    async fn stays(used: &[u64]) -> bool {
        let fixture = Fixture::new().await;
        let model = fixture.model("a");
        fixture.use_once(&model).await;
        let (_evictor, n_looks) = evictor(&fixture, used).await;
        while n_looks.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
        // What the cache was told before, it has done before it answers this.
        fixture.cache.unload(&fixture.model("absent")).await;
        fixture.is_resident(&model)
    }

    #[tokio::test]
    async fn idle_models_go_when_memory_stays_short() {
        assert!(!stays(&[LIMIT, LIMIT]).await);
    }

    #[tokio::test]
    async fn models_stay_when_the_allocator_gave_back_enough() {
        assert!(stays(&[LIMIT, LIMIT / 2]).await);
    }

    #[tokio::test]
    async fn a_budget_that_is_set_sheds_what_is_above_it_and_stays_within_the_limit() {
        let fixture = Fixture::new().await;
        let (old, new) = (fixture.model("a"), fixture.model("b"));
        fixture.use_once(&old).await;
        fixture.use_once(&new).await;
        let (evictor, n_looks) = evictor(&fixture, &[]).await;

        evictor.set_budget(MIB);
        while fixture.is_resident(&old) {
            tokio::task::yield_now().await;
        }
        assert!(fixture.is_resident(&new));

        let n_looks_before = n_looks.load(Ordering::SeqCst);
        evictor.set_budget(2 * LIMIT);
        while fixture.cache.budget_bytes() != LIMIT {
            tokio::task::yield_now().await;
        }
        // The next looks are no return to what was configured.
        while n_looks.load(Ordering::SeqCst) < n_looks_before + 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fixture.cache.budget_bytes(), LIMIT);
    }

    #[tokio::test]
    async fn nothing_goes_while_there_is_memory() {
        assert!(stays(&[LIMIT / 2]).await);
    }
}
