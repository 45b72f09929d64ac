//! Metrics as text, a histogram without a lock, and the buckets that router and worker share.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, TypedMetric},
    registry::Registry,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The content type of [`encode_text`]'s answer (`OpenMetrics` 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. Covers a warm invocation of a tiny model (0.1 ms) to a cold start (minutes).
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0,
];

/// Encodes every metric of `registry` in the `OpenMetrics` text format.
pub fn encode_text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("writing into a string cannot fail");
    text
}

/// A histogram of durations that takes no lock: every thread observes on the hot path, and the one
/// of `prometheus_client` is a mutex that all of them would meet at. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Histogram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Upper bounds in seconds, inclusive; the last one is infinite.
    upper_bounds: Vec<f64>,
    /// Observations by bucket, not cumulative.
    counts: Vec<AtomicU64>,
    /// Wraps after 584 years of observed time; Prometheus takes that for a restart.
    sum_ns: AtomicU64,
}

impl Histogram {
    /// `upper_bounds` are in seconds, ascending and finite.
    pub fn new(upper_bounds: impl IntoIterator<Item = f64>) -> Self {
        let upper_bounds: Vec<f64> = upper_bounds.into_iter().chain([f64::INFINITY]).collect();
        let counts = upper_bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { inner: Arc::new(Inner { upper_bounds, counts, sum_ns: AtomicU64::new(0) }) }
    }

    pub fn observe(&self, elapsed: Duration) {
        let Inner { upper_bounds, counts, sum_ns } = &*self.inner;
        let seconds = elapsed.as_secs_f64();
        let bucket = upper_bounds.iter().position(|upper_bound| seconds <= *upper_bound);
        counts[bucket.expect("no duration is above infinity")].fetch_add(1, Relaxed);
        sum_ns.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Inner { upper_bounds, counts, sum_ns } = &*self.inner;
        let counts = counts.iter().map(|count| count.load(Relaxed));
        let buckets: Vec<(f64, u64)> = upper_bounds.iter().copied().zip(counts).collect();
        // Counted from what is encoded: an observation in between must not make the two differ.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(sum_ns.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{metrics::histogram::Histogram as Locked, registry::Unit};

    fn text(histogram: impl prometheus_client::registry::Metric) -> String {
        let mut registry = Registry::default();
        registry.register_with_unit("wait", "Wait", Unit::Seconds, histogram);
        encode_text(&registry)
    }

    #[track_caller]
    fn check_same_as_the_locked_one(observed_ms: &[u64]) {
        let (free, locked) = (Histogram::new(LATENCY_BUCKETS), Locked::new(LATENCY_BUCKETS));
        for elapsed in observed_ms.iter().map(|ms| Duration::from_millis(*ms)) {
            free.observe(elapsed);
            locked.observe(elapsed.as_secs_f64());
        }
        assert_eq!(text(free), text(locked), "{observed_ms:?}");
    }

    #[test]
    fn the_encoding_is_that_of_the_histogram_with_a_lock() {
        check_same_as_the_locked_one(&[]);
        // Sums that both can represent; bounds count as within.
        check_same_as_the_locked_one(&[0, 1, 10, 500, 2_000, 60_000]);
        check_same_as_the_locked_one(&[250, 500, 4_000, 61_000, 3_600_000]);
    }

    #[test]
    fn no_observation_of_several_threads_is_lost() {
        let histogram = Histogram::new([0.5]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| histogram.observe(Duration::from_millis(1))));
            }
        });
        let text = text(histogram);
        for line in ["wait_seconds_sum 4.0", "wait_seconds_count 4000"] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
