//! An open load: every invocation is due at a fixed time, and its latency counts from then. What the
//! cluster delays shows up as latency, not as a lower rate.

use crate::client::{Client, TestAnswer};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

/// The same choice of models every time.
const SEED: u64 = 4;

/// How long a client that knows two routers waits for one before it asks the other: longer than the
/// lease, after which a router answers for a silent worker.
pub(super) const PATIENCE_WITH_ROUTER: Duration = Duration::from_secs(5);

/// How long it then asks the other one first, until a single invocation tries the first one again.
const AVOIDANCE: Duration = Duration::from_secs(10);

/// What the load asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Menu {
    /// Asked all the time.
    pub warm: Vec<String>,
    /// Asked once each, in this order.
    pub cold: Vec<String>,
    /// Asked once each while the scenario says so: on disk, not in memory.
    pub on_disk: Vec<String>,
    pub cold_percent: u32,
}

/// What a model was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Warm,
    /// On no instance.
    Cold,
    /// On an instance's disk, in nobody's memory.
    OnDisk,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Served,
    /// 503, and when to ask again.
    Hinted,
    /// Anything else, in words.
    Failed(String),
}

/// One invocation.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub kind: Kind,
    pub due: Instant,
    pub end: Instant,
    pub outcome: Outcome,
    /// Sent once more, to the next router.
    pub retried: bool,
}

impl Record {
    pub(super) fn latency(&self) -> Duration {
        self.end - self.due
    }
}

/// A load that runs until it is told to end.
#[derive(Debug)]
pub(super) struct PacedLoad {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    clients: Vec<Client>,
    records: Mutex<Vec<Record>>,
    is_over: AtomicBool,
    asks_disk: AtomicBool,
    n_asked: AtomicUsize,
    /// A router that did not answer, and until when another one is asked first.
    avoided: Mutex<Option<(usize, Instant)>>,
}

/// Which model is next.
struct Chooser {
    menu: Menu,
    n_cold: usize,
    n_on_disk: usize,
    random: StdRng,
}

impl PacedLoad {
    /// Starts to ask, through every router in turn.
    pub(super) fn start(clients: Vec<Client>, menu: Menu, rate: u32) -> Self {
        let shared = Arc::new(Shared {
            clients,
            records: Mutex::default(),
            is_over: AtomicBool::new(false),
            asks_disk: AtomicBool::new(false),
            n_asked: AtomicUsize::new(0),
            avoided: Mutex::default(),
        });
        let task = tokio::spawn(pace(Arc::clone(&shared), menu, rate));
        Self { shared, task }
    }

    /// Asks every router in turn again, whatever did not answer before.
    pub(super) fn ask_every_router(&self) {
        *self.shared.avoided() = None;
    }

    /// Mixes in the models that are on disk alone, from now on.
    pub(super) fn ask_disk(&self) {
        self.shared.asks_disk.store(true, Ordering::Relaxed);
    }

    /// Asks nothing new, waits for what is under way, and returns every invocation.
    pub(super) async fn end(self) -> Vec<Record> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("the load does not panic");
        std::mem::take(&mut *self.shared.records.lock().expect("nobody panics with the lock"))
    }
}

async fn pace(shared: Arc<Shared>, menu: Menu, rate: u32) {
    let random = StdRng::seed_from_u64(SEED);
    let mut chooser = Chooser { menu, n_cold: 0, n_on_disk: 0, random };
    let interval = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    let mut asking = JoinSet::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        due += interval;
        sleep_until(due).await;
        let (kind, model) = chooser.next(shared.asks_disk.load(Ordering::Relaxed));
        let nth = shared.n_asked.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        asking.spawn(async move { shared.ask(nth, kind, &model, due).await });
        while asking.try_join_next().is_some() {}
    }
    asking.join_all().await;
}

impl Chooser {
    fn next(&mut self, asks_disk: bool) -> (Kind, String) {
        let percent = self.random.random_range(0..100);
        let Menu { warm, cold, on_disk, cold_percent } = &self.menu;
        if percent < *cold_percent && self.n_cold < cold.len() {
            self.n_cold += 1;
            return (Kind::Cold, cold[self.n_cold - 1].clone());
        }
        let is_disks_turn = asks_disk && percent < 2 * cold_percent;
        if is_disks_turn && self.n_on_disk < on_disk.len() {
            self.n_on_disk += 1;
            return (Kind::OnDisk, on_disk[self.n_on_disk - 1].clone());
        }
        (Kind::Warm, warm[self.random.random_range(0..warm.len())].clone())
    }
}

impl Shared {
    async fn ask(&self, nth: usize, kind: Kind, model: &str, due: Instant) {
        let body = format!("{model} {nth}").into_bytes();
        let first = self.first_router(nth);
        let mut answer = self.try_ask(first, model, &body).await;
        // Who knows two routers asks the other one, once.
        let retried = answer.is_err() && self.clients.len() > 1;
        if retried {
            *self.avoided() = Some((first, Instant::now() + AVOIDANCE));
            answer = self.try_ask((first + 1) % self.clients.len(), model, &body).await;
        }
        let outcome = match answer {
            Ok(answer) if answer.status == 200 && *answer.body == *body => Outcome::Served,
            Ok(answer)
                if answer.status == 503 && !answer.header("x-amz-retry-after").is_empty() =>
            {
                Outcome::Hinted
            }
            Ok(answer) => Outcome::Failed(format!("{model}: {} {}", answer.status, answer.text())),
            Err(error) => Outcome::Failed(format!("{model}: {error}")),
        };
        let record = Record { kind, due, end: Instant::now(), outcome, retried };
        self.records.lock().expect("nobody panics with the lock").push(record);
    }

    /// Every router in turn, but for one that did not answer just now.
    fn first_router(&self, nth: usize) -> usize {
        let nth = nth % self.clients.len();
        let now = Instant::now();
        match &mut *self.avoided() {
            Some((it, until)) if *it == nth && now < *until => (nth + 1) % self.clients.len(),
            Some((it, until)) if *it == nth => {
                // This one tries it; nobody else does until it is known what comes of that.
                *until = now + AVOIDANCE;
                nth
            }
            _ => nth,
        }
    }

    fn avoided(&self) -> MutexGuard<'_, Option<(usize, Instant)>> {
        self.avoided.lock().expect("nobody panics with the lock")
    }

    async fn try_ask(&self, router: usize, model: &str, body: &[u8]) -> Result<TestAnswer, String> {
        let asking = self.clients[router].try_invoke(model, body);
        // Who knows one router alone waits as long as the client does.
        let answer = if self.clients.len() == 1 {
            asking.await
        } else {
            let answer = timeout(PATIENCE_WITH_ROUTER, asking).await;
            answer.map_err(|_| "the router does not answer".to_owned())?
        };
        answer.map_err(|error| shared::telemetry::Chain(&error).to_string())
    }
}
