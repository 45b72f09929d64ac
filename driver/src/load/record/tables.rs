//! Tables of a run by model, instance and kind of failure, each of a bounded size.

use crate::load::{
    outcome::{Cache, Failure, FailureClass},
    result::{ErrorRow, Heat, HeatRow, InstanceRow, ModelRow, Models, ms},
};
use shared::id::TargetModel;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// More than one would read in a report.
const MAX_MODEL_ROWS: usize = 500;

/// What fits on a screen.
const MAX_HEAT_ROWS: usize = 40;

const N_HEAT_COLUMNS: u32 = 60;

/// Heat over time is kept for the models that are asked first: hot ones are among them.
const MAX_HEAT_MODELS: usize = 2_048;

/// More instances than a cluster has. Their names come from whoever answers.
const MAX_INSTANCES: usize = 2_048;

/// More kinds of failure than there are.
const MAX_ERROR_KINDS: usize = 128;

/// Where a table is full.
const OTHERS: &str = "(others)";

/// Forty bytes for each target of the plan.
#[derive(Debug)]
pub(super) struct ModelTable(Vec<ModelCounts>);

#[derive(Clone, Copy, Debug, Default)]
struct ModelCounts {
    n_due: u64,
    n_hits: u64,
    n_misses: u32,
    n_failed: u32,
    sum_micros: u64,
    max_micros: u64,
}

impl ModelTable {
    pub(super) fn new(n_targets: usize) -> Self {
        Self(vec![ModelCounts::default(); n_targets])
    }

    pub(super) fn due(&mut self, target: u32) {
        self.0[target as usize].n_due += 1;
    }

    pub(super) fn answered(&mut self, target: u32, cache: Cache, micros: u64) {
        let counts = &mut self.0[target as usize];
        match cache {
            Cache::Miss => counts.n_misses = counts.n_misses.saturating_add(1),
            // Who does not say has no misses to tell.
            Cache::Hit | Cache::Unsaid => counts.n_hits += 1,
        }
        counts.sum_micros = counts.sum_micros.saturating_add(micros);
        counts.max_micros = counts.max_micros.max(micros);
    }

    pub(super) fn failed(&mut self, target: u32) {
        let counts = &mut self.0[target as usize];
        counts.n_failed = counts.n_failed.saturating_add(1);
    }

    pub(super) fn rows(&self, targets: &[TargetModel]) -> Models {
        let mut asked: Vec<usize> = (0..self.0.len()).filter(|it| self.0[*it].n_due > 0).collect();
        asked.sort_by_key(|target| (Reverse(self.0[*target].n_due), *target));
        let (listed, others) = asked.split_at(asked.len().min(MAX_MODEL_ROWS));
        let row = |target: &usize| self.0[*target].row(targets[*target].as_str());
        let others = others.iter().fold(ModelCounts::default(), |sum, it| sum.plus(self.0[*it]));
        let others = others.row(OTHERS);
        Models { n_asked: asked.len(), listed: listed.iter().map(row).collect(), others }
    }
}

impl ModelCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            n_due: self.n_due + other.n_due,
            n_hits: self.n_hits + other.n_hits,
            n_misses: self.n_misses.saturating_add(other.n_misses),
            n_failed: self.n_failed.saturating_add(other.n_failed),
            sum_micros: self.sum_micros.saturating_add(other.sum_micros),
            max_micros: self.max_micros.max(other.max_micros),
        }
    }

    fn row(self, model: &str) -> ModelRow {
        ModelRow {
            model: model.to_owned(),
            n_due: self.n_due,
            n_hits: self.n_hits,
            n_misses: self.n_misses.into(),
            n_failed: self.n_failed.into(),
            mean_ms: mean_ms(self.sum_micros, self.n_hits + u64::from(self.n_misses)),
            max_ms: ms(self.max_micros),
        }
    }
}

#[derive(Debug)]
pub(super) struct HeatMap {
    column: Duration,
    counts: HashMap<u32, Vec<u32>>,
}

impl HeatMap {
    pub(super) fn new(duration: Duration) -> Self {
        Self { column: duration / N_HEAT_COLUMNS, counts: HashMap::new() }
    }

    pub(super) fn due(&mut self, target: u32, due: Duration) {
        if self.counts.len() == MAX_HEAT_MODELS && !self.counts.contains_key(&target) {
            return;
        }
        let column = due.as_nanos() / self.column.as_nanos();
        let column = usize::try_from(column.min(u128::from(N_HEAT_COLUMNS) - 1));
        let counts = self.counts.entry(target).or_insert_with(|| vec![0; N_HEAT_COLUMNS as usize]);
        let count = &mut counts[column.expect("it is small")];
        *count = count.saturating_add(1);
    }

    pub(super) fn rows(&self, targets: &[TargetModel]) -> Heat {
        let sum = |counts: &[u32]| counts.iter().map(|n| u64::from(*n)).sum::<u64>();
        let mut rows: Vec<(&u32, &Vec<u32>)> = self.counts.iter().collect();
        rows.sort_by_key(|(target, counts)| (Reverse(sum(counts)), **target));
        let rows = rows.into_iter().take(MAX_HEAT_ROWS).map(|(target, counts)| HeatRow {
            model: targets[*target as usize].as_str().to_owned(),
            counts: counts.clone(),
        });
        Heat { column_ms: self.column.as_secs_f64() * 1e3, rows: rows.collect() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Instances(BTreeMap<String, InstanceCounts>);

#[derive(Clone, Copy, Debug, Default)]
struct InstanceCounts {
    n_ok: u64,
    n_hits: u64,
    n_misses: u64,
    sum_micros: u64,
}

impl Instances {
    pub(super) fn answered(&mut self, instance: &str, cache: Cache, micros: u64) {
        let is_full = self.0.len() >= MAX_INSTANCES && !self.0.contains_key(instance);
        let instance = if is_full { OTHERS } else { instance };
        if !self.0.contains_key(instance) {
            self.0.insert(instance.to_owned(), InstanceCounts::default());
        }
        let Some(counts) = self.0.get_mut(instance) else { return };
        counts.n_ok += 1;
        counts.n_hits += u64::from(cache == Cache::Hit);
        counts.n_misses += u64::from(cache == Cache::Miss);
        counts.sum_micros = counts.sum_micros.saturating_add(micros);
    }

    pub(super) fn rows(&self) -> Vec<InstanceRow> {
        let n_all: u64 = self.0.values().map(|counts| counts.n_ok).sum();
        let rows = self.0.iter().map(|(instance, counts)| InstanceRow {
            instance: instance.clone(),
            n_ok: counts.n_ok,
            n_hits: counts.n_hits,
            n_misses: counts.n_misses,
            share: ratio(counts.n_ok, n_all),
            mean_ms: mean_ms(counts.sum_micros, counts.n_ok),
        });
        rows.collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Errors(BTreeMap<String, ErrorCounts>);

#[derive(Clone, Debug)]
struct ErrorCounts {
    class: FailureClass,
    n: u64,
    first: Duration,
    last: Duration,
    example: String,
}

impl Errors {
    pub(super) fn add(&mut self, failure: &Failure, due: Duration) {
        let is_full = self.0.len() >= MAX_ERROR_KINDS && !self.0.contains_key(&failure.kind);
        let kind = if is_full { OTHERS } else { &failure.kind };
        if !self.0.contains_key(kind) {
            let example = failure.text.clone();
            let counts = ErrorCounts { class: failure.class, n: 0, first: due, last: due, example };
            self.0.insert(kind.to_owned(), counts);
        }
        let Some(counts) = self.0.get_mut(kind) else { return };
        counts.n += 1;
        counts.first = counts.first.min(due);
        counts.last = counts.last.max(due);
    }

    /// Most first.
    pub(super) fn rows(self) -> Vec<ErrorRow> {
        let row = |(kind, counts): (String, ErrorCounts)| ErrorRow {
            kind,
            class: counts.class,
            n: counts.n,
            first_ms: counts.first.as_secs_f64() * 1e3,
            last_ms: counts.last.as_secs_f64() * 1e3,
            example: counts.example,
        };
        let mut rows: Vec<ErrorRow> = self.0.into_iter().map(row).collect();
        rows.sort_by_key(|row| Reverse(row.n));
        rows
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
fn mean_ms(sum_micros: u64, n: u64) -> f64 {
    if n == 0 { 0.0 } else { sum_micros as f64 / n as f64 / 1e3 }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
