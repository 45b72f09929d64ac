//! Metrics as text, and the buckets that router and worker share.

use prometheus_client::{encoding::text::encode, registry::Registry};

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
