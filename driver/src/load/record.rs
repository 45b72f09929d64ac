//! What is kept of a run while it goes: counts and histograms, whose sizes do not grow with it.

mod tables;

use super::{
    outcome::{Cache, Failure, FailureClass, Outcome},
    plan::Plan,
    popularity::Choice,
    result::{FailureRow, Heat, InstanceRow, Latency, Models, SlotRow, Timeline, Totals, ms},
};
use crate::load::result::ErrorRow;
use hdrhistogram::Histogram;
use std::time::Duration;
use tables::{Errors, HeatMap, Instances, ModelTable};

/// Points of the plots over time while invocations fall due: a screen's width. Also bounds the
/// histograms, of 20 KiB each.
const MAX_SLOTS: u128 = 600;

/// Lengths of a slot, of which the first is taken that makes no more than [`MAX_SLOTS`].
const SLOTS_MS: [u64; 11] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 1_200_000];

/// Above any time-out.
const MAX_LATENCY_MICROS: u64 = 3_600_000_000;

/// More than one would read; with the counts by kind nothing is lost.
const MAX_FAILURES: usize = 1_000;

/// Everything about an invocation that ended. Times are from the start of the run.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) choice: Choice,
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) ended: Duration,
    /// The router that was asked last.
    pub(super) router_idx: usize,
    pub(super) is_retried: bool,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) totals: Totals,
    latency: Histogram<u64>,
    hits: Histogram<u64>,
    misses: Histogram<u64>,
    failed: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
    /// Latencies since the last look at the progress.
    recent: Histogram<u64>,
    /// While invocations fall due: what is answered later is late.
    window: Duration,
    slot: Duration,
    /// What comes later is in the last slot.
    max_slots: usize,
    slots: Vec<Slot>,
    models: ModelTable,
    heat: HeatMap,
    instances: Instances,
    errors: Errors,
    failures: Vec<FailedEvent>,
}

#[derive(Debug, Default)]
struct Slot {
    row: SlotRow,
    /// Made with the slot's first good answer.
    latency: Option<Histogram<u32>>,
}

#[derive(Debug)]
struct FailedEvent {
    due: Duration,
    ended: Duration,
    target: u32,
    router_idx: usize,
    kind: String,
}

/// What a recorder has kept, for the result.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) window: Duration,
    pub(super) totals: Totals,
    pub(super) latency: Latency,
    pub(super) hits: Latency,
    pub(super) misses: Latency,
    pub(super) failed: Latency,
    pub(super) service: Latency,
    pub(super) lag: Latency,
    pub(super) timeline: Timeline,
    pub(super) models: Models,
    pub(super) heat: Heat,
    pub(super) instances: Vec<InstanceRow>,
    pub(super) errors: Vec<ErrorRow>,
    pub(super) failures: Vec<FailureRow>,
}

impl Recorder {
    pub(super) fn new(plan: &Plan) -> Self {
        let histogram = || fine();
        let slot = slot(plan.duration);
        Self {
            totals: Totals::default(),
            latency: histogram(),
            hits: histogram(),
            misses: histogram(),
            failed: histogram(),
            service: histogram(),
            lag: histogram(),
            recent: histogram(),
            window: plan.duration,
            slot,
            max_slots: max_slots(plan, slot),
            slots: Vec::new(),
            models: ModelTable::new(plan.targets.len()),
            heat: HeatMap::new(plan.duration),
            instances: Instances::default(),
            errors: Errors::default(),
            failures: Vec::new(),
        }
    }

    /// Says that nothing falls due any more: what is answered from now on is late.
    pub(super) fn end_window(&mut self, now: Duration) {
        self.window = self.window.min(now);
    }

    /// Counts an invocation that ended, or will never be sent.
    pub(super) fn add(&mut self, event: &Event) {
        self.totals.n_due += 1;
        self.totals.n_cold += u64::from(event.choice.is_cold);
        self.totals.n_retried += u64::from(event.is_retried);
        let row = &mut self.slot_at(event.due).row;
        row.n_due += 1;
        row.n_retried += u64::from(event.is_retried);
        self.models.due(event.choice.target);
        self.heat.due(event.choice.target, event.due);
        match &event.outcome {
            Outcome::Answered { instance, cache, n_bytes } => {
                self.totals.n_bytes_received += n_bytes;
                self.answered(event, instance, *cache);
            }
            Outcome::Failed(failure) => self.failed(event, failure),
        }
    }

    fn answered(&mut self, event: &Event, instance: &str, cache: Cache) {
        let latency = micros(event.ended.saturating_sub(event.due));
        self.totals.n_ok += 1;
        self.totals.n_late += u64::from(event.ended > self.window);
        self.totals.n_retried_ok += u64::from(event.is_retried);
        self.latency.saturating_record(latency);
        self.recent.saturating_record(latency);
        self.service.saturating_record(micros(event.ended.saturating_sub(event.sent)));
        self.lag.saturating_record(micros(event.sent.saturating_sub(event.due)));
        match cache {
            Cache::Hit => {
                self.totals.n_hits += 1;
                self.hits.saturating_record(latency);
            }
            Cache::Miss => {
                self.totals.n_misses += 1;
                self.misses.saturating_record(latency);
            }
            Cache::Unsaid => self.totals.n_unsaid += 1,
        }
        self.models.answered(event.choice.target, cache, latency);
        self.instances.answered(instance, cache, latency);
        let slot = self.slot_at(event.due);
        slot.row.n_ok += 1;
        slot.row.n_hits += u64::from(cache == Cache::Hit);
        slot.row.n_misses += u64::from(cache == Cache::Miss);
        slot.latency.get_or_insert_with(coarse).saturating_record(latency);
        self.slot_at(event.ended).row.n_answered += 1;
    }

    fn failed(&mut self, event: &Event, failure: &Failure) {
        let row = &mut self.slot_at(event.due).row;
        match failure.class {
            FailureClass::Failed | FailureClass::Abandoned => row.n_failed += 1,
            FailureClass::Unavailable => row.n_unavailable += 1,
            FailureClass::NotSent => row.n_not_sent += 1,
        }
        match failure.class {
            FailureClass::Failed => self.totals.n_failed += 1,
            FailureClass::Unavailable => self.totals.n_unavailable += 1,
            FailureClass::NotSent => self.totals.n_not_sent += 1,
            FailureClass::Abandoned => self.totals.n_abandoned += 1,
        }
        if failure.class != FailureClass::NotSent {
            self.failed.saturating_record(micros(event.ended.saturating_sub(event.due)));
            self.lag.saturating_record(micros(event.sent.saturating_sub(event.due)));
        }
        self.models.failed(event.choice.target);
        self.errors.add(failure, event.due);
        if self.failures.len() < MAX_FAILURES {
            let Event { due, ended, router_idx, .. } = *event;
            let (target, kind) = (event.choice.target, failure.kind.clone());
            self.failures.push(FailedEvent { due, ended, target, router_idx, kind });
        }
    }

    fn slot_at(&mut self, at: Duration) -> &mut Slot {
        let idx = at.as_nanos() / self.slot.as_nanos();
        let idx = usize::try_from(idx).unwrap_or(usize::MAX).min(self.max_slots - 1);
        if self.slots.len() <= idx {
            self.slots.resize_with(idx + 1, Slot::default);
        }
        &mut self.slots[idx]
    }

    /// Returns the median and the 99th percentile of the latencies since the last call.
    pub(super) fn take_recent(&mut self) -> (f64, f64) {
        let at = |quantile| ms(self.recent.value_at_quantile(quantile));
        let recent = (at(0.5), at(0.99));
        self.recent.reset();
        recent
    }

    pub(super) fn kept(self, plan: &Plan) -> Kept {
        let model = |target: u32| plan.targets[target as usize].as_str().to_owned();
        let failures = self.failures.into_iter().map(|event| FailureRow {
            due_ms: ms(micros(event.due)),
            ended_ms: ms(micros(event.ended)),
            model: model(event.target),
            router: plan.routers[event.router_idx].clone(),
            kind: event.kind,
        });
        let models = self.models.rows(&plan.targets);
        Kept {
            window: self.window,
            totals: self.totals,
            latency: Latency::of(&self.latency),
            hits: Latency::of(&self.hits),
            misses: Latency::of(&self.misses),
            failed: Latency::of(&self.failed),
            service: Latency::of(&self.service),
            lag: Latency::of(&self.lag),
            timeline: timeline(self.slot, &self.slots),
            heat: self.heat.rows(&plan.targets),
            models,
            instances: self.instances.rows(),
            errors: self.errors.rows(),
            failures: failures.collect(),
        }
    }
}

fn timeline(slot: Duration, slots: &[Slot]) -> Timeline {
    let slot_ms = slot.as_secs_f64() * 1e3;
    let rows = slots.iter().enumerate().map(|(idx, Slot { row, latency })| {
        let latency = latency.as_ref();
        let at = |quantile| latency.map_or(0.0, |it| ms(it.value_at_quantile(quantile)));
        SlotRow {
            at_ms: slot_ms * f64::from(u32::try_from(idx).expect("there are few")),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: latency.map_or(0.0, |it| ms(it.max())),
            ..*row
        }
    });
    Timeline { slot_ms, slots: rows.collect() }
}

fn slot(duration: Duration) -> Duration {
    let slots = SLOTS_MS.map(Duration::from_millis);
    let fits = |slot: &Duration| duration.as_nanos().div_ceil(slot.as_nanos()) <= MAX_SLOTS;
    slots.into_iter().find(fits).unwrap_or(slots[slots.len() - 1])
}

/// As many as there may be until the last answer: late ones pile up in no slot. Those after the window
/// have no histogram, and are there only if answers come as late.
fn max_slots(plan: &Plan, slot: Duration) -> usize {
    let last = plan.duration.saturating_add(plan.answer_timeout);
    usize::try_from(last.as_nanos() / slot.as_nanos()).unwrap_or(usize::MAX).saturating_add(1)
}

/// Three digits: for the whole run.
fn fine() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, 3).expect("the bounds are in order")
}

/// Two digits: for a slot.
fn coarse() -> Histogram<u32> {
    Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, 2).expect("the bounds are in order")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
