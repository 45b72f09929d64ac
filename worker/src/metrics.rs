//! Every metric the worker exports, in one place. See `docs/metrics.md`.

use crate::actors::model_cache::{Reason, Revalidation};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelValue,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use shared::metrics::{Histogram, LATENCY_BUCKETS};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU64},
};

/// Seconds. A tiny model from a near disk takes 10 ms, a large one from far away minutes.
const LOAD_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 360.0];

/// Metrics of the whole worker, by component.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub cache: CacheMetrics,
    pub replica: ReplicaMetrics,
    pub memory: MemoryMetrics,
    pub handlers: HandlerMetrics,
    /// By the kind of their error.
    pub failed_invocations: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.cache.register(registry);
        metrics.replica.register(registry);
        metrics.memory.register(registry);
        metrics.handlers.register(registry);
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

/// Different metrics of handlers that are told, over all models. Handlers make up their names, and a
/// monitor keeps each of them for weeks.
const MAX_HANDLER_METRICS: usize = 64;

/// The name and unit that a handler gives.
type OfHandler = [(&'static str, String); 2];

#[derive(Clone, Debug, Default)]
pub struct HandlerMetrics {
    pub restarts: Counter,
    sums: Family<OfHandler, Counter<f64, AtomicU64>>,
    observations: Family<OfHandler, Counter>,
    known: Arc<Mutex<HashSet<OfHandler>>>,
}

impl HandlerMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "Handler processes that ended by themselves and were started again";
        registry.register("handler_restarts", help, self.restarts.clone());
        let help = "What handlers measured, added up, by their own name and unit";
        registry.register("handler_metric_sum", help, self.sums.clone());
        let help = "How often handlers measured it";
        registry.register("handler_metric_observations", help, self.observations.clone());
    }

    /// Notes a number that a handler measured.
    pub fn observe(&self, name: &str, unit: &str, value: f64) {
        // A counter goes up.
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let labels = [("name", name.to_owned()), ("unit", unit.to_owned())];
        let mut known = self.known.lock();
        if !known.contains(&labels) {
            if known.len() >= MAX_HANDLER_METRICS {
                return;
            }
            known.insert(labels.clone());
        }
        drop(known);
        self.sums.get_or_create(&labels).inc_by(value);
        self.observations.get_or_create(&labels).inc();
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
    fn handlers_cannot_make_up_metrics_without_end() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("worker"));
        for n in 0..2 * MAX_HANDLER_METRICS {
            metrics.handlers.observe(&format!("name-{n}"), "ms", 1.5);
            metrics.handlers.observe("name-0", "ms", 1.0);
        }
        metrics.handlers.observe("name-0", "ms", -1.0);
        metrics.handlers.observe("name-0", "ms", f64::NAN);

        let text = shared::metrics::encode_text(&registry);
        let sums = text.lines().filter(|it| it.starts_with("worker_handler_metric_sum_total{"));
        assert_eq!(sums.count(), MAX_HANDLER_METRICS);
        assert!(text.contains("_sum_total{name=\"name-0\",unit=\"ms\"} 129.5"), "{text}");
        assert!(text.contains("_observations_total{name=\"name-0\",unit=\"ms\"} 129"), "{text}");
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
