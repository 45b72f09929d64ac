//! Every metric the router exports, in one place. See `docs/metrics.md`.

use crate::group::Affinity;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use shared::{
    id::{EndpointName, VariantName},
    metrics::{Histogram, LATENCY_BUCKETS},
};

/// Seconds that the router adds: from a few microseconds to what a retry costs.
const OVERHEAD_BUCKETS: [f64; 8] = [0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01, 0.1, 1.0];

/// How an invocation ended. A bounded label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The request was wrong: every 4xx but those below.
    ClientError,
    /// 424.
    ModelError,
    /// The model still loads at the deadline.
    NotReady,
    /// 503 for any other reason.
    Unavailable,
    /// 500: our bug.
    InternalFailure,
    /// The answer broke after its head, so the client's connection was cut.
    Cut,
    /// The client left before the end of its answer.
    Abandoned,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::ClientError,
        Self::ModelError,
        Self::NotReady,
        Self::Unavailable,
        Self::InternalFailure,
        Self::Cut,
        Self::Abandoned,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client-error",
            Self::ModelError => "model-error",
            Self::NotReady => "not-ready",
            Self::Unavailable => "unavailable",
            Self::InternalFailure => "internal-failure",
            Self::Cut => "cut",
            Self::Abandoned => "abandoned",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InvocationLabels {
    endpoint: String,
    variant: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AffinityLabel {
    affinity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    pub state: &'static str,
}

/// The counters of one variant, looked up once: the hot path only increments.
#[derive(Clone, Debug, Default)]
pub struct VariantMetrics {
    outcomes: [Counter; Outcome::ALL.len()],
}

impl VariantMetrics {
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }
}

#[derive(Clone, Debug, Default)]
pub struct EndpointMetrics {
    /// Invocations by endpoint, variant and outcome.
    invocations: Family<InvocationLabels, Counter>,
}

impl EndpointMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "invocations",
            "Invocations by endpoint, variant and outcome",
            metrics.invocations.clone(),
        );
        metrics
    }

    /// Makes the counters of a configured variant. Never call it with names from a request.
    pub fn of(&self, endpoint: &EndpointName, variant: &VariantName) -> VariantMetrics {
        self.labelled(endpoint.as_str(), variant.as_str())
    }

    /// Drops the counters of a variant that is gone.
    pub fn forget(&self, endpoint: &EndpointName, variant: &VariantName) {
        for outcome in Outcome::ALL {
            self.invocations.remove(&labels(endpoint.as_str(), variant.as_str(), outcome));
        }
    }

    /// The counters for what names no configured variant.
    pub fn of_unknown(&self) -> VariantMetrics {
        self.labelled("", "")
    }

    fn labelled(&self, endpoint: &str, variant: &str) -> VariantMetrics {
        let outcomes = Outcome::ALL.map(|outcome| {
            self.invocations.get_or_create_owned(&labels(endpoint, variant, outcome))
        });
        VariantMetrics { outcomes }
    }
}

fn labels(endpoint: &str, variant: &str, outcome: Outcome) -> InvocationLabels {
    let (endpoint, variant) = (endpoint.to_owned(), variant.to_owned());
    InvocationLabels { endpoint, variant, outcome: outcome.as_str() }
}

#[derive(Clone, Debug)]
pub struct InvocationMetrics {
    /// From the request's head to the end of its answer.
    pub latency: Histogram,
    /// From the whole request to the answer's head, less the wait for the instance that answered.
    pub overhead: Histogram,
    pub in_flight: Gauge,
    /// Bytes reserved for request bodies.
    pub body_bytes: Gauge,
    retries: Family<ReasonLabel, Counter>,
    /// Answered by the preferred instance, or one of the replicas.
    placements_first: Counter,
    /// Answered by another one.
    placements_other: Counter,
    /// Answered by the next one, since waiting would have cost more than a load.
    placements_spilled: Counter,
}

impl InvocationMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let latency = Histogram::new(LATENCY_BUCKETS);
        let overhead = Histogram::new(OVERHEAD_BUCKETS);
        let (in_flight, body_bytes) = (Gauge::default(), Gauge::default());
        let retries = Family::<ReasonLabel, Counter>::default();
        let placements = Family::<AffinityLabel, Counter>::default();
        let unit = Unit::Seconds;
        let help = "Time from the request's head to the end of its answer";
        registry.register_with_unit("invocation_latency", help, unit, latency.clone());
        let help = "What the router adds before the head of an answer, retries included";
        registry.register_with_unit("invocation_overhead", help, Unit::Seconds, overhead.clone());
        registry.register("invocations_in_flight", "Invocations now", in_flight.clone());
        let help = "Bytes reserved for request bodies";
        registry.register_with_unit("body_reserved", help, Unit::Bytes, body_bytes.clone());
        registry.register("retries", "Attempts that were sent again", retries.clone());
        let help = "Answers by whether the preferred instance gave them";
        registry.register("placements", help, placements.clone());
        let placed = |affinity| placements.get_or_create_owned(&AffinityLabel { affinity });
        let (placements_first, placements_other) = (placed("first"), placed("other"));
        let placements_spilled = placed("spilled");
        Self {
            latency,
            overhead,
            in_flight,
            body_bytes,
            retries,
            placements_first,
            placements_other,
            placements_spilled,
        }
    }

    pub fn retried(&self, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub fn placed(&self, affinity: Affinity) {
        let counter = match affinity {
            Affinity::First => &self.placements_first,
            Affinity::Other => &self.placements_other,
            Affinity::Spilled => &self.placements_spilled,
        };
        counter.inc();
    }
}

#[derive(Clone, Debug, Default)]
pub struct MembershipMetrics {
    /// Instances by state.
    pub instances: Family<StateLabel, Gauge>,
    /// Instances lost, by how it was noticed.
    pub losses: Family<ReasonLabel, Counter>,
}

impl MembershipMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("instances", "Instances by state", metrics.instances.clone());
        let help = "Instances lost, by how it was noticed";
        registry.register("instance_losses", help, metrics.losses.clone());
        metrics
    }
}

#[derive(Clone, Debug, Default)]
pub struct ClusterMetrics {
    /// Whether etcd can be asked: 1 or 0.
    pub reachable: Gauge,
}

impl ClusterMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Whether etcd can be asked: 1 or 0; 0 also where there is none";
        registry.register("cluster_reachable", help, metrics.reachable.clone());
        metrics
    }
}

#[derive(Clone, Debug, Default)]
pub struct PlacementMetrics {
    /// Changes of the ring.
    pub ring_changes: Counter,
    /// Instances that the ring places invocations on.
    pub ring_instances: Gauge,
    /// Replicas of hot models beyond the first of each.
    pub replicas: Gauge,
    /// Replicas that were begun to be warmed.
    pub warms_begun: Counter,
    /// Replicas that could not be warmed.
    pub warms_failed: Counter,
}

impl PlacementMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("ring_changes", "Changes of the ring", metrics.ring_changes.clone());
        let help = "Instances that the ring places invocations on";
        registry.register("ring_instances", help, metrics.ring_instances.clone());
        let help = "Replicas of hot models beyond the first of each";
        registry.register("replicas", help, metrics.replicas.clone());
        let help = "Replicas that were begun to be warmed";
        registry.register("warms_begun", help, metrics.warms_begun.clone());
        let help = "Replicas that could not be warmed";
        registry.register("warms_failed", help, metrics.warms_failed.clone());
        metrics
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub endpoints: EndpointMetrics,
    pub invocations: InvocationMetrics,
    pub membership: MembershipMetrics,
    pub placement: PlacementMetrics,
    pub cluster: ClusterMetrics,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("router");
        Self {
            endpoints: EndpointMetrics::register(registry),
            invocations: InvocationMetrics::register(registry),
            membership: MembershipMetrics::register(registry),
            placement: PlacementMetrics::register(registry),
            cluster: ClusterMetrics::register(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let variant = metrics.endpoints.of(&"demo".parse().unwrap(), &"v1".parse().unwrap());
        variant.count(Outcome::ModelError);
        metrics.invocations.placed(Affinity::First);
        metrics.invocations.retried("died");

        let text = shared::metrics::encode_text(&registry);
        for line in [
            r#"router_invocations_total{endpoint="demo",variant="v1",outcome="model-error"} 1"#,
            r#"router_placements_total{affinity="first"} 1"#,
            r#"router_retries_total{reason="died"} 1"#,
            "router_invocation_latency_seconds_count 0",
            "router_invocation_overhead_seconds_count 0",
            "router_invocations_in_flight 0",
            "router_body_reserved_bytes 0",
            "router_ring_changes_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let mut registry = Registry::default();
        Metrics::register(&mut registry);
        let text = shared::metrics::encode_text(&registry);
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            assert!(page.contains(&format!("`{name}")), "{name} is not in docs/metrics.md");
        }
    }

    #[test]
    fn outcomes_index_their_own_counter() {
        for (idx, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, idx);
        }
    }
}
