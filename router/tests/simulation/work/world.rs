//! Clients, routers and instances as a discrete-event simulation.

use super::{
    instance::{Instance, Job},
    router::Router,
};
use crate::chance::{Zipf, rng, until_next};
use rand::{RngExt as _, rngs::StdRng};
use router::group::hot::Wish;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

const N_SLOTS: usize = 2;

/// What an invocation does on a slot, and what a load takes beside them: a ResNet-18.
const SERVICE: Duration = Duration::from_millis(40);
const LOAD: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) n_instances: usize,
    pub(super) n_routers: usize,
    pub(super) n_models: u32,
    /// Of the models' popularity.
    pub(super) exponent: f64,
    /// The part of all slots that is needed.
    pub(super) utilization: f64,
    /// Before anything is measured: replicas come, averages fill.
    pub(super) warm_up_s: u64,
    pub(super) measured_s: u64,
    pub(super) has_replicas: bool,
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "some figures are only printed")]
pub(super) struct Measured {
    pub(super) n_served: usize,
    /// Work of the busiest instance, relative to the mean.
    pub(super) served_max_to_mean: f64,
    /// Replicas for each model that was used at all, from the beginning.
    pub(super) copies_per_model: f64,
    /// More than one: a replica was loaded twice.
    pub(super) loads_per_copy: f64,
    /// Replicas beyond the first that one of the routers wishes for.
    pub(super) n_further: usize,
    pub(super) n_spilled: u64,
    /// Invocations that were not served within a minute: of the first moments, in which nothing has
    /// replicas and clients ask as if all had.
    pub(super) n_given_up: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

pub(super) struct World {
    scenario: Scenario,
    rng: StdRng,
    zipf: Zipf,
    started: Instant,
    now_us: u64,
    /// By time; the number keeps the order of those at the same time.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    routers: Vec<Router>,
    instances: Vec<Instance>,
    /// Who waits for a load that was wished for.
    wishes: HashMap<(usize, u32), Vec<Wisher>>,
    numbers: HashMap<Arc<str>, u32>,
    latencies: Vec<Duration>,
}

/// A router, and what it wishes for.
type Wisher = (usize, Wish);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrived,
    Served {
        instance: usize,
        slot: usize,
    },
    Loaded {
        instance: usize,
        model: u32,
    },
    /// An instance's heartbeat.
    Heard {
        instance: usize,
    },
    /// A router's second.
    Decide {
        router: usize,
    },
}

impl World {
    pub(super) fn run(scenario: Scenario) -> Measured {
        let Scenario { n_instances, n_routers, n_models, exponent, seed, .. } = scenario;
        let mut world = Self {
            scenario,
            rng: rng(seed),
            zipf: Zipf::new(n_models, exponent),
            started: Instant::now(),
            now_us: 0,
            events: BinaryHeap::new(),
            n_events: 0,
            routers: (0..n_routers).map(|_| Router::new(n_instances, N_SLOTS)).collect(),
            instances: (0..n_instances).map(|_| Instance::new(N_SLOTS)).collect(),
            wishes: HashMap::new(),
            numbers: HashMap::new(),
            latencies: Vec::new(),
        };
        world.begin();
        while world.now_us < world.end_us() {
            let Some(Reverse((at_us, _, event))) = world.events.pop() else { break };
            if world.now_us < world.warm_up_us() && at_us >= world.warm_up_us() {
                world.forget();
            }
            world.now_us = at_us;
            world.happens(event);
        }
        world.measured()
    }

    fn begin(&mut self) {
        self.at(0, Event::Arrived);
        for instance in 0..self.scenario.n_instances {
            let phase = self.rng.random_range(0..1_000_000);
            self.at(phase, Event::Heard { instance });
        }
        for router in 0..self.scenario.n_routers {
            let phase = self.rng.random_range(0..1_000_000);
            self.at(phase, Event::Decide { router });
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrived => self.arrived(),
            Event::Served { instance, slot } => self.served(instance, slot),
            Event::Loaded { instance, model } => self.loaded(instance, model),
            Event::Heard { instance } => self.heard(instance),
            Event::Decide { router } => self.decide(router),
        }
    }

    fn arrived(&mut self) {
        let slots = (self.scenario.n_instances * N_SLOTS) as f64;
        let rate = self.scenario.utilization * slots / SERVICE.as_secs_f64();
        let next = until_next(rate, &mut self.rng);
        self.after(Duration::from_secs_f64(next), Event::Arrived);

        let model = u32::try_from(self.zipf.pick(&mut self.rng)).expect("a million fits");
        let router = self.rng.random_range(0..self.scenario.n_routers);
        let turn = self.rng.random();
        let instance = self.routers[router].place(&name(self.scenario.seed, model), || turn);
        let job = Job::begin(self.routers[router].instances[instance], model, self.now_us);
        if self.instances[instance].take(job) {
            self.after(LOAD, Event::Loaded { instance, model });
        }
        self.fill(instance);
    }

    /// Gives free slots what waits.
    fn fill(&mut self, instance: usize) {
        while let Some(slot) = self.instances[instance].start(self.now_us) {
            self.after(SERVICE, Event::Served { instance, slot });
        }
    }

    fn served(&mut self, instance: usize, slot: usize) {
        let took = self.instances[instance].end(slot, SERVICE, self.now_us);
        self.latencies.push(took);
        self.fill(instance);
    }

    fn loaded(&mut self, instance: usize, model: u32) {
        self.instances[instance].loaded(model, LOAD);
        let now = self.now();
        for (router, wish) in self.wishes.remove(&(instance, model)).unwrap_or_default() {
            self.routers[router].warmed(&wish, now);
        }
        self.fill(instance);
    }

    fn heard(&mut self, instance: usize) {
        let seed = self.scenario.seed;
        let hot = self.instances[instance].hot(|model| name(seed, model));
        for router in &mut self.routers {
            router.hear(instance, hot.clone(), self.instances[instance].n_in_flight());
        }
        self.after(Duration::from_secs(1), Event::Heard { instance });
    }

    fn decide(&mut self, router: usize) {
        if self.scenario.has_replicas {
            let now = self.now();
            let wishes = self.routers[router].decide(now);
            for wish in wishes {
                self.warm(router, wish);
            }
        }
        self.after(Duration::from_secs(1), Event::Decide { router });
    }

    fn warm(&mut self, router: usize, wish: Wish) {
        let model = self.number(&wish.artifact);
        let instance = self.routers[router].number(&wish.instance);
        if self.instances[instance].is_resident(model) {
            let now = self.now();
            self.routers[router].warmed(&wish, now);
            return;
        }
        if self.instances[instance].load(model) {
            self.after(LOAD, Event::Loaded { instance, model });
        }
        self.wishes.entry((instance, model)).or_default().push((router, wish));
    }

    fn number(&mut self, name: &Arc<str>) -> u32 {
        let parse = || name.rsplit('/').next().and_then(|it| it.parse().ok()).expect("our name");
        *self.numbers.entry(Arc::clone(name)).or_insert_with(parse)
    }

    fn measured(self) -> Measured {
        let work: Vec<f64> = self.instances.iter().map(|it| it.work.as_secs_f64()).collect();
        let mean = work.iter().sum::<f64>() / work.len() as f64;
        let mut n_copies = 0_u64;
        let mut used = vec![false; self.scenario.n_models as usize];
        for model in self.instances.iter().flat_map(Instance::resident) {
            n_copies += 1;
            used[model as usize] = true;
        }
        let n_used = used.iter().filter(|is_used| **is_used).count();
        let mut latencies = self.latencies;
        latencies.sort_unstable();
        Measured {
            n_served: latencies.len(),
            served_max_to_mean: work.iter().copied().fold(0.0, f64::max) / mean,
            copies_per_model: n_copies as f64 / n_used as f64,
            loads_per_copy: self.instances.iter().map(|it| it.n_loads).sum::<u64>() as f64
                / n_copies as f64,
            n_further: self.routers[0].n_further(),
            n_spilled: self.routers.iter().map(|router| router.n_spilled).sum(),
            n_given_up: self.instances.iter().map(|it| it.n_given_up).sum(),
            p50: latencies[latencies.len() / 2],
            p99: latencies[latencies.len() * 99 / 100],
        }
    }

    /// From here on it is measured.
    fn forget(&mut self) {
        self.latencies.clear();
        for instance in &mut self.instances {
            instance.work = Duration::ZERO;
        }
    }

    fn warm_up_us(&self) -> u64 {
        self.scenario.warm_up_s * 1_000_000
    }

    fn end_us(&self) -> u64 {
        self.warm_up_us() + self.scenario.measured_s * 1_000_000
    }

    fn now(&self) -> Instant {
        self.started + Duration::from_micros(self.now_us)
    }

    fn after(&mut self, delay: Duration, event: Event) {
        let delay = u64::try_from(delay.as_micros()).expect("minutes");
        self.at(self.now_us + delay, event);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.n_events += 1;
        self.events.push(Reverse((at_us, self.n_events, event)));
    }
}

/// Other models for each seed: else all seeds would have the same ones on the same instances.
fn name(seed: u64, model: u32) -> String {
    let mut name = String::with_capacity(48);
    write!(name, "s3://bucket/{seed}/models/{model}").expect("a string takes all");
    name
}
