//! An instance: slots, a queue, loads with single flight, and the heat that heartbeats tell.
//!
//! The averages are those of `worker/src/policy/heat.rs`, computed here once a second.

use router::instance::{self as known, InFlight};
use shared::api::membership::{HotModel, MAX_HOT};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

const FAST_HALF_LIFE: f64 = 10.0;
const SLOW_HALF_LIFE: f64 = 300.0;
/// Thousandths of a slot below which nothing is told, and below which it is forgotten here.
const FLOOR: f64 = 50.0;
const FORGOTTEN: f64 = 1.0;

/// How long a client waits: SageMaker's limit. Then it has gone, and is not computed for.
const PATIENCE_US: u64 = 60_000_000;

#[derive(Default)]
pub(super) struct Instance {
    slots: Vec<Option<Job>>,
    queue: VecDeque<Job>,
    resident: HashSet<u32>,
    /// Who waits for which load.
    loading: HashMap<u32, Vec<Job>>,
    heat: HashMap<u32, Heat>,
    /// On slots.
    pub(super) work: Duration,
    pub(super) n_loads: u64,
    /// Invocations whose clients had gone before there was a slot.
    pub(super) n_given_up: u64,
}

/// An invocation, in flight for its router until it is dropped.
pub(super) struct Job {
    in_flight: InFlight<'static>,
    model: u32,
    arrived_us: u64,
    load: Option<Duration>,
}

/// The averages of one model, in thousandths of a slot.
#[derive(Default)]
struct Heat {
    busy: Duration,
    fast: f64,
    slow: f64,
}

impl Job {
    pub(super) fn begin(at: &'static known::Instance, model: u32, now_us: u64) -> Self {
        Self { in_flight: at.begin(), model, arrived_us: now_us, load: None }
    }
}

impl Instance {
    pub(super) fn new(n_slots: usize) -> Self {
        Self { slots: (0..n_slots).map(|_| None).collect(), ..Self::default() }
    }

    /// Takes an invocation; returns whether its model begins to load.
    pub(super) fn take(&mut self, job: Job) -> bool {
        if self.is_resident(job.model) {
            self.queue.push_back(job);
            return false;
        }
        let model = job.model;
        let begins = self.load(model);
        self.loading.entry(model).or_default().push(job);
        begins
    }

    /// Begins to load a model that is not resident; returns false if it does so already.
    pub(super) fn load(&mut self, model: u32) -> bool {
        let is_new = !self.loading.contains_key(&model);
        self.loading.entry(model).or_default();
        self.n_loads += u64::from(is_new);
        is_new
    }

    pub(super) fn loaded(&mut self, model: u32, took: Duration) {
        self.resident.insert(model);
        for mut job in self.loading.remove(&model).expect("it was loading") {
            job.load = Some(took);
            self.queue.push_back(job);
        }
    }

    /// Puts the next of the queue on a free slot, if there are both.
    pub(super) fn start(&mut self, now_us: u64) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        while self.queue.pop_front_if(|job| job.arrived_us + PATIENCE_US < now_us).is_some() {
            self.n_given_up += 1;
        }
        self.slots[slot] = Some(self.queue.pop_front()?);
        Some(slot)
    }

    /// Ends what a slot does, and returns how long it took since it arrived.
    pub(super) fn end(&mut self, slot: usize, service: Duration, now_us: u64) -> Duration {
        let job = self.slots[slot].take().expect("it was at work");
        self.work += service;
        self.heat.entry(job.model).or_default().busy += service;
        let took = Duration::from_micros(now_us - job.arrived_us);
        job.in_flight.served(took, job.load);
        took
    }

    /// What its heartbeat says of its hottest models.
    pub(super) fn hot(&mut self, name: impl Fn(u32) -> String) -> Vec<HotModel> {
        let kept = [FAST_HALF_LIFE, SLOW_HALF_LIFE].map(|half_life| 0.5_f64.powf(1.0 / half_life));
        for heat in self.heat.values_mut() {
            let millicores = std::mem::take(&mut heat.busy).as_secs_f64() * 1000.0;
            let average = |before: f64, kept: f64| before.mul_add(kept, millicores * (1.0 - kept));
            heat.fast = average(heat.fast, kept[0]);
            heat.slow = average(heat.slow, kept[1]);
        }
        self.heat.retain(|_, heat| heat.fast.max(heat.slow) > FORGOTTEN);
        let hot = self.heat.iter().filter(|(_, heat)| heat.fast.max(heat.slow) > FLOOR);
        let mut hot: Vec<HotModel> = hot
            .map(|(model, heat)| HotModel {
                artifact: name(*model),
                fast_millicores: heat.fast as u32,
                slow_millicores: heat.slow as u32,
            })
            .collect();
        hot.sort_by(|a, b| {
            let by = |it: &HotModel| Reverse(it.fast_millicores.max(it.slow_millicores));
            (by(a), &a.artifact).cmp(&(by(b), &b.artifact))
        });
        hot.truncate(MAX_HOT);
        hot
    }

    pub(super) fn n_in_flight(&self) -> usize {
        let n_running = self.slots.iter().flatten().count();
        n_running + self.queue.len() + self.loading.values().map(Vec::len).sum::<usize>()
    }

    pub(super) fn is_resident(&self, model: u32) -> bool {
        self.resident.contains(&model)
    }

    pub(super) fn resident(&self) -> impl Iterator<Item = u32> {
        self.resident.iter().copied()
    }
}
