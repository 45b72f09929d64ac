//! Every metric the worker exports, in one place. See `docs/metrics.md`.

use crate::actors::model_cache::{Reason, Revalidation};
use prometheus_client::{
    encoding::EncodeLabelValue,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use shared::metrics::{Histogram, LATENCY_BUCKETS};

/// Seconds. A tiny model from a near disk takes 10 ms, a large one from far away minutes.
const LOAD_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 360.0];

/// Metrics of the whole worker, by component.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub cache: CacheMetrics,
    pub replica: ReplicaMetrics,
    pub memory: MemoryMetrics,
    /// By the kind of their error.
    pub failed_invocations: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.cache.register(registry);
        metrics.replica.register(registry);
        metrics.memory.register(registry);
        let help = "Invocations that were not answered as asked, by kind of error";
        registry.register("failed_invocations", help, metrics.failed_invocations.clone());
        metrics
    }
}

/// Seconds, in the buckets of an invocation.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(pub Histogram);

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self(Histogram::new(LATENCY_BUCKETS))
    }
}

/// Seconds, in the buckets of a load.
#[derive(Clone, Debug)]
pub struct LoadHistogram(pub Histogram);

impl Default for LoadHistogram {
    fn default() -> Self {
        Self(Histogram::new(LOAD_BUCKETS))
    }
}

/// What came of warming a model; a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Warmed {
    Loaded,
    /// It was resident already.
    Resident,
    Failed,
}

#[derive(Clone, Debug, Default)]
pub struct CacheMetrics {
    pub hits: Counter,
    pub misses: Counter,
    pub loading_wait: LatencyHistogram,
    pub fetch: LoadHistogram,
    pub load: LoadHistogram,
    pub failed_loads: Counter,
    pub died_replicas: Counter,
    pub evictions: Family<[(&'static str, Reason); 1], Counter>,
    pub revalidations: Family<[(&'static str, Revalidation); 1], Counter>,
    pub warms: Family<[(&'static str, Warmed); 1], Counter>,
    pub budget_bytes: Gauge,
}

impl CacheMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "Invocations whose model was resident";
        registry.register("model_cache_hits", help, self.hits.clone());
        let help = "Invocations whose model was not resident";
        registry.register("model_cache_misses", help, self.misses.clone());
        let help = "How long invocations waited for a load";
        let histogram = self.loading_wait.0.clone();
        registry.register_with_unit("loading_wait", help, Unit::Seconds, histogram);
        let help = "From asking for an artifact until it is unpacked on disk";
        registry.register_with_unit("artifact_fetch", help, Unit::Seconds, self.fetch.0.clone());
        let help = "Constructing a model, from its turn until it can serve";
        registry.register_with_unit("model_load", help, Unit::Seconds, self.load.0.clone());
        let help = "Loads that ended without a model";
        registry.register("failed_loads", help, self.failed_loads.clone());
        let help = "Replicas that died of a failure of their own";
        registry.register("died_replicas", help, self.died_replicas.clone());
        let help = "Replicas evicted, by reason";
        registry.register("evictions", help, self.evictions.clone());
        let help = "Times that a store was asked whether a resident model is current, by outcome";
        registry.register("revalidations", help, self.revalidations.clone());
        let help = "Models that a router wanted warm, by outcome";
        registry.register("warms", help, self.warms.clone());
        let help = "Memory that models may take";
        registry.register_with_unit("budget", help, Unit::Bytes, self.budget_bytes.clone());
    }
}

#[derive(Clone, Debug, Default)]
pub struct ReplicaMetrics {
    pub queue: LatencyHistogram,
    pub invoke: LatencyHistogram,
}

impl ReplicaMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "How long invocations waited for a compute slot";
        registry.register_with_unit("queue", help, Unit::Seconds, self.queue.0.clone());
        let help = "How long models ran";
        registry.register_with_unit("invoke", help, Unit::Seconds, self.invoke.0.clone());
    }
}

#[derive(Clone, Debug, Default)]
pub struct MemoryMetrics {
    pub rss_bytes: Gauge,
    pub resident_bytes: Gauge,
    pub resident_models: Gauge,
}

impl MemoryMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "Memory of the process";
        registry.register_with_unit("rss", help, Unit::Bytes, self.rss_bytes.clone());
        let help = "Memory that resident models take, with workspace for every slot";
        registry.register_with_unit("resident", help, Unit::Bytes, self.resident_bytes.clone());
        let help = "Models in memory";
        registry.register("resident_models", help, self.resident_models.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("worker"));
        metrics.cache.evictions.get_or_create(&[("reason", Reason::Room)]).inc();

        let text = shared::metrics::encode_text(&registry);
        for line in [
            "worker_model_cache_hits_total 0",
            "worker_evictions_total{reason=\"Room\"} 1",
            "worker_resident_bytes 0",
            "worker_invoke_seconds_count 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let mut registry = Registry::default();
        Metrics::register(registry.sub_registry_with_prefix("worker"));
        let text = shared::metrics::encode_text(&registry);
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            assert!(page.contains(&format!("`{name}")), "{name} is not in docs/metrics.md");
        }
    }
}
