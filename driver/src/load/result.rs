//! What a run came to: the JSON of `manifold load --json`, and what reports and comparisons read.

use super::outcome::FailureClass;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Of this JSON. Results of other formats are not compared.
pub const FORMAT: u32 = 2;

/// Everything that is told of a run. Times are from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    pub format: u32,
    pub version: String,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    pub plan: PlanSummary,
    /// The window within which invocations fall due: the plan's duration, or until it was interrupted,
    /// or until nothing was left to ask.
    pub seconds: f64,
    /// Whether it was ended before its time.
    pub is_interrupted: bool,
    pub totals: Totals,
    /// Good answers that came within the window, a second.
    pub rate: f64,
    /// Entries of a trace with times that were not asked, because the run ended before.
    pub n_left_out: u64,
    /// Of good answers, from when they were due.
    pub latency: Latency,
    pub latency_hits: Latency,
    pub latency_misses: Latency,
    /// Of failures, from when they were due; without those that were not sent.
    pub latency_failed: Latency,
    /// Of good answers, from when they were sent.
    pub service: Latency,
    /// From when invocations were due until they were sent: the driver's own delay.
    pub lag: Latency,
    pub timeline: Timeline,
    pub models: Models,
    pub heat: Heat,
    pub instances: Vec<InstanceRow>,
    pub routers: Vec<RouterRow>,
    pub errors: Vec<ErrorRow>,
    /// The first failures, one by one.
    pub failures: Vec<FailureRow>,
    pub driver: Driver,
}

/// The plan in words and numbers, for people and for comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    pub endpoint: String,
    pub n_routers: usize,
    pub pace: String,
    pub popularity: String,
    pub n_targets: usize,
    pub cold_share: f64,
    /// Targets that are asked by popularity.
    pub n_warm: usize,
    pub bodies: Vec<BodyRow>,
    pub accept: Option<String>,
    pub expects_echo: bool,
    pub duration_s: f64,
    pub seed: u64,
    pub answer_timeout_s: f64,
    pub max_in_flight: usize,
    pub is_signed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRow {
    pub name: String,
    pub n_bytes: usize,
    pub content_type: Option<String>,
}

/// Every invocation, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub n_due: u64,
    pub n_ok: u64,
    /// Good answers that came after the window.
    pub n_late: u64,
    pub n_failed: u64,
    /// 503 with a retry hint.
    pub n_unavailable: u64,
    pub n_not_sent: u64,
    pub n_abandoned: u64,
    pub n_hits: u64,
    pub n_misses: u64,
    /// Good answers that did not say whether the model was resident.
    pub n_unsaid: u64,
    /// Chosen because nobody had asked the model before.
    pub n_cold: u64,
    /// Sent again, to another router, because the first one did not answer.
    pub n_retried: u64,
    pub n_retried_ok: u64,
    pub n_bytes_received: u64,
}

/// Latencies in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub n: u64,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub p9999_ms: f64,
    pub max_ms: f64,
    /// Quantiles and their latencies, closer together towards the end.
    pub curve: Vec<(f64, f64)>,
}

/// The run in slots of time. An invocation is in the slot in which it was due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    pub slot_ms: f64,
    pub slots: Vec<SlotRow>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotRow {
    pub at_ms: f64,
    pub n_due: u64,
    pub n_ok: u64,
    pub n_hits: u64,
    pub n_misses: u64,
    pub n_failed: u64,
    pub n_unavailable: u64,
    pub n_not_sent: u64,
    pub n_retried: u64,
    /// Good answers that came in this slot, whenever they were due.
    pub n_answered: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Models {
    pub n_asked: usize,
    /// The most asked, most first.
    pub listed: Vec<ModelRow>,
    /// All others together.
    pub others: ModelRow,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    pub model: String,
    pub n_due: u64,
    pub n_hits: u64,
    pub n_misses: u64,
    pub n_failed: u64,
    pub mean_ms: f64,
    pub max_ms: f64,
}

/// How often the most asked models were asked in each column of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    pub column_ms: f64,
    pub rows: Vec<HeatRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeatRow {
    pub model: String,
    pub counts: Vec<u32>,
}

/// Good answers of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Empty if answers did not name it.
    pub instance: String,
    pub n_ok: u64,
    pub n_hits: u64,
    pub n_misses: u64,
    pub share: f64,
    pub mean_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterRow {
    pub router: String,
    pub n_sent: u64,
    /// Sent there without an answer.
    pub n_unanswered: u64,
    pub n_connections: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRow {
    pub kind: String,
    pub class: FailureClass,
    pub n: u64,
    /// When the first and the last of them were due.
    pub first_ms: f64,
    pub last_ms: f64,
    /// What the first one said.
    pub example: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRow {
    pub due_ms: f64,
    pub ended_ms: f64,
    pub model: String,
    pub router: String,
    pub kind: String,
}

/// What the driver itself took. If it was near a whole core, it was what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    pub cpu_seconds: f64,
    pub n_cores: usize,
    /// Of one core.
    pub core_share: f64,
    /// Of all cores of the machine.
    pub machine_share: f64,
    pub cpu_seconds_per_100k: f64,
}

impl PlanSummary {
    /// All of it in words, each under its name.
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        // Whatever is planned differently makes a different load: nothing is left out.
        let Self {
            endpoint,
            n_routers,
            pace,
            popularity,
            n_targets,
            cold_share,
            n_warm,
            bodies,
            accept,
            expects_echo,
            duration_s,
            seed,
            answer_timeout_s,
            max_in_flight,
            is_signed,
        } = self;
        let yes_or_no = |it: bool| if it { "yes" } else { "no" }.to_owned();
        let bodies: Vec<_> = bodies.iter().map(BodyRow::text).collect();
        vec![
            ("endpoint", endpoint.clone()),
            ("number of routers", n_routers.to_string()),
            ("pace", pace.clone()),
            ("duration", format!("{duration_s} s")),
            ("popularity", popularity.clone()),
            ("number of models", n_targets.to_string()),
            ("models asked by popularity", n_warm.to_string()),
            ("share of cold invocations", cold_share.to_string()),
            ("bodies", bodies.join(", ")),
            ("accept", accept.clone().unwrap_or_else(|| "anything".to_owned())),
            ("answers compared with bodies", yes_or_no(*expects_echo)),
            ("at most in flight", max_in_flight.to_string()),
            ("time-out", format!("{answer_timeout_s} s")),
            ("signed", yes_or_no(*is_signed)),
            ("seed", seed.to_string()),
        ]
    }
}

impl BodyRow {
    fn text(&self) -> String {
        let content_type = self.content_type.as_deref().unwrap_or("no type");
        format!("{} ({} B, {content_type})", self.name, self.n_bytes)
    }
}

impl Totals {
    /// Whether every invocation is in exactly one count.
    pub fn add_up(&self) -> bool {
        let ended = self.n_ok + self.n_failed + self.n_unavailable + self.n_not_sent;
        ended + self.n_abandoned == self.n_due
            && self.n_late <= self.n_ok
            && self.n_hits + self.n_misses + self.n_unsaid == self.n_ok
    }

    pub fn n_sent(&self) -> u64 {
        self.n_due - self.n_not_sent
    }

    /// All that was not answered well.
    pub fn n_bad(&self) -> u64 {
        self.n_failed + self.n_unavailable + self.n_not_sent + self.n_abandoned
    }
}

impl Latency {
    /// Of a histogram of microseconds.
    pub fn of<T: hdrhistogram::Counter>(histogram: &Histogram<T>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        let curve = histogram.iter_quantiles(CURVE_TICKS);
        let curve = curve.map(|step| (step.quantile(), ms(step.value_iterated_to())));
        Self {
            n: histogram.len(),
            mean_ms: histogram.mean() / 1e3,
            min_ms: ms(histogram.min()),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            p9999_ms: at(0.9999),
            max_ms: ms(histogram.max()),
            curve: curve.collect(),
        }
    }
}

/// Points of a curve for each halving of what is left above it.
const CURVE_TICKS: u32 = 5;

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
pub(super) fn ms(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_those_of_the_histogram() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for micros in 1..=10_000 {
            histogram.record(micros).unwrap();
        }
        let latency = Latency::of(&histogram);
        let near = |a: f64, b: f64| assert!((a - b).abs() <= b * 0.002, "{a} {b}");
        near(latency.p50_ms, 5.0);
        near(latency.p99_ms, 9.9);
        near(latency.max_ms, 10.0);
        near(latency.mean_ms, 5.0);
        assert_eq!(latency.n, 10_000);
        assert!(latency.curve.is_sorted(), "{:?}", latency.curve);
        assert!(latency.curve.len() < 200);
        assert_eq!(Latency::of(&Histogram::<u64>::new(3).unwrap()), Latency::default());
    }
}
