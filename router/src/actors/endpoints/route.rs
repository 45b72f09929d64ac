//! Endpoints as invocations see them: made from the catalog whenever that changes.

use crate::{
    control::catalog::{Catalog, DeployedVariant, Endpoint, EndpointStatus},
    metrics::{EndpointMetrics, VariantMetrics},
};
use shared::{
    address::{ArtifactAddress, InvalidAddress, ModelDataUrl},
    id::{EndpointName, FleetId, TargetModel, VariantName},
};
use std::{collections::BTreeMap, sync::Arc};
use tracing::warn;

/// An option of ours in a model's environment, for which SageMaker has no member: whether an
/// invocation may run again when an instance dies under it. Inference is a function, so by default
/// it may.
const REPEATS: &str = "MANIFOLD_REPEATS";

/// Another one: whether a model is served on when its object was deleted.
const SERVE_STALE: &str = "MANIFOLD_SERVE_STALE";

/// Every endpoint that can be invoked.
#[derive(Clone, Debug, Default)]
pub struct Routes(BTreeMap<EndpointName, Route>);

#[derive(Clone, Debug)]
struct Route {
    /// What it was made from, to see whether it is still the same.
    endpoint: Arc<Endpoint>,
    variants: Vec<Arc<Variant>>,
}

/// A variant as invocations see it.
#[derive(Debug)]
pub struct Variant {
    pub name: VariantName,
    /// Whose instances serve it, unless all are one pool.
    pub fleet: FleetId,
    pub artifacts: Artifacts,
    pub weight: f64,
    /// Whether an invocation may run again when an instance dies under it.
    pub repeats: bool,
    /// Whether models leave memory and disk after each invocation (`ModelCacheSetting`).
    pub is_cache_disabled: bool,
    /// Whether a model is served on when its object was deleted.
    pub serves_stale: bool,
    pub metrics: VariantMetrics,
}

/// What a variant serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// Any model below a prefix (Mode `MultiModel`).
    Below(ModelDataUrl),
    /// One model (Mode `SingleModel`).
    Only(ArtifactAddress),
}

impl Routes {
    pub fn variants(&self, endpoint: &EndpointName) -> Option<&[Arc<Variant>]> {
        self.0.get(endpoint).map(|route| &*route.variants)
    }

    /// Returns the routes of another state of the catalog. What did not change is not made again.
    #[must_use]
    pub fn changed_to(&self, catalog: &Catalog, metrics: &EndpointMetrics) -> Self {
        let mut routes = BTreeMap::new();
        for endpoint in catalog.endpoints.values() {
            let known = self.0.get(&endpoint.name);
            let route = match known.filter(|known| Arc::ptr_eq(&known.endpoint, endpoint)) {
                Some(known) => Some(known.clone()),
                None => route(endpoint, metrics),
            };
            if let Some(route) = route {
                routes.insert(endpoint.name.clone(), route);
            }
        }
        let routes = Self(routes);
        for (name, route) in &self.0 {
            for variant in &route.variants {
                let now = routes.variants(name).unwrap_or_default();
                if !now.iter().any(|it| it.name == variant.name) {
                    // Or names that clients make up would fill the metrics.
                    metrics.forget(name, &variant.name);
                }
            }
        }
        routes
    }
}

/// Returns how an endpoint is invoked, if it can be.
fn route(endpoint: &Arc<Endpoint>, metrics: &EndpointMetrics) -> Option<Route> {
    if endpoint.status == EndpointStatus::Deleting {
        return None;
    }
    let deployment = endpoint.active.as_ref()?;
    let mut variants = Vec::new();
    for deployed in &deployment.variants {
        match variant(endpoint, deployed, metrics) {
            Ok(variant) => variants.push(Arc::new(variant)),
            // It was checked when it was made: a record of an older version, or one that was edited.
            Err(error) => {
                warn!(endpoint = %endpoint.name, variant = %deployed.name, %error, "variant cannot be served");
            }
        }
    }
    Some(Route { endpoint: Arc::clone(endpoint), variants })
}

fn variant(
    endpoint: &Endpoint,
    deployed: &DeployedVariant,
    metrics: &EndpointMetrics,
) -> Result<Variant, InvalidVariant> {
    let url = deployed.model_data_url.clone();
    if url.contains(char::is_control) {
        return Err(InvalidVariant::ControlCharacters);
    }
    let artifacts = if deployed.is_multi_model {
        Artifacts::Below(ModelDataUrl::try_from(url)?)
    } else {
        Artifacts::Only(url.parse()?)
    };
    let says = |name: &str, value: &str| {
        deployed.environment.get(name).is_some_and(|it| it.eq_ignore_ascii_case(value))
    };
    Ok(Variant {
        name: deployed.name.clone(),
        fleet: deployed.fleet.clone(),
        artifacts,
        weight: deployed.weight,
        repeats: !says(REPEATS, "false"),
        is_cache_disabled: deployed.is_cache_disabled,
        serves_stale: says(SERVE_STALE, "true"),
        metrics: metrics.of(&endpoint.name, &deployed.name),
    })
}

/// Why a deployed variant cannot be invoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum InvalidVariant {
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// With a target model it makes a header value.
    #[error("its model data URL holds control characters")]
    ControlCharacters,
}

impl Artifacts {
    /// Returns the artifact that an invocation means; `None` if it names a model where there is only
    /// one, or none where there are many.
    pub fn address(
        &self,
        target_model: Option<&TargetModel>,
    ) -> Option<Result<ArtifactAddress, InvalidAddress>> {
        match (self, target_model) {
            (Self::Below(url), Some(target_model)) => Some(url.join(target_model)),
            (Self::Only(address), None) => Some(Ok(address.clone())),
            (Self::Below(_), None) | (Self::Only(_), Some(_)) => None,
        }
    }
}
