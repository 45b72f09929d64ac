//! Step 3 of an invocation: knows the endpoints and picks the variant.
//!
//! # Invariants
//!
//! - Every published endpoint has at least one variant of positive weight.
//! - A variant's URL holds no control characters: with a target model it makes a header value.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

use super::Unavailable;
use crate::{
    metrics::{EndpointMetrics, VariantMetrics},
    policy::weighted,
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use shared::{
    address::ModelDataUrl,
    api::endpoints::Endpoint,
    id::{EndpointName, VariantName},
};
use std::{collections::BTreeMap, sync::Arc};
use tracing::info;

/// Knows the endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoints {
    addr: Addr<EndpointsActor>,
    published: Arc<ArcSwap<Published>>,
}

type Published = BTreeMap<EndpointName, Vec<Arc<Variant>>>;

/// A variant as invocations see it.
#[derive(Debug)]
pub struct Variant {
    pub name: VariantName,
    pub model_data_url: ModelDataUrl,
    pub weight: f64,
    /// Whether an invocation may run again when an instance dies under it.
    pub repeats: bool,
    pub metrics: VariantMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    #[error("endpoint `{0}` not found")]
    UnknownEndpoint(EndpointName),
    #[error("variant `{1}` of endpoint `{0}` not found")]
    UnknownVariant(EndpointName, VariantName),
}

/// Why a set of endpoints was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidEndpoints {
    #[error("endpoint `{0}` is there twice")]
    DuplicateEndpoint(EndpointName),
    #[error("endpoint `{0}` has variant `{1}` twice")]
    DuplicateVariant(EndpointName, VariantName),
    #[error("endpoint `{0}`: weight {1} is not a number from 0 to a billion")]
    Weight(EndpointName, f64),
    #[error("endpoint `{0}` has no variant with a positive weight")]
    NoWeight(EndpointName),
    #[error("endpoint `{0}`: the model data URL holds control characters")]
    Url(EndpointName),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Keeps sums of weights finite.
const MAX_WEIGHT: f64 = 1e9;

impl Endpoints {
    pub fn start(metrics: EndpointMetrics) -> Self {
        let published = Arc::new(ArcSwap::default());
        let actor = EndpointsActor { metrics, published: Arc::clone(&published) };
        Self { addr: actor.start(), published }
    }

    /// Replaces all endpoints; once this returns, invocations see the new ones.
    pub async fn replace(&self, endpoints: Vec<Endpoint>) -> Result<(), InvalidEndpoints> {
        let answer = self.addr.send(Replace { endpoints }).await;
        answer.unwrap_or(Err(Unavailable("endpoints").into()))
    }

    /// Returns the variant that serves an invocation: the one asked for, else one by weight.
    pub fn pick_variant(
        &self,
        endpoint: &EndpointName,
        target: Option<&VariantName>,
    ) -> Result<Arc<Variant>, PickError> {
        let published = self.published.load();
        let variants =
            published.get(endpoint).ok_or_else(|| PickError::UnknownEndpoint(endpoint.clone()))?;
        let picked = match (target, &**variants) {
            (Some(target), variants) => variants
                .iter()
                .find(|variant| variant.name == *target)
                .ok_or_else(|| PickError::UnknownVariant(endpoint.clone(), target.clone()))?,
            (None, [only]) => only,
            (None, variants) => {
                let weights = variants.iter().map(|variant| variant.weight);
                let picked = weighted::pick(weights, rand::random());
                &variants[picked.expect("a published endpoint has weight")]
            }
        };
        Ok(Arc::clone(picked))
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "Result<(), InvalidEndpoints>")]
struct Replace {
    endpoints: Vec<Endpoint>,
}

// === Actor ===

#[derive(Debug)]
struct EndpointsActor {
    metrics: EndpointMetrics,
    published: Arc<ArcSwap<Published>>,
}

impl Actor for EndpointsActor {
    type Context = Context<Self>;
}

// === Handlers, in the order of the messages ===

impl Handler<Replace> for EndpointsActor {
    type Result = Result<(), InvalidEndpoints>;

    fn handle(&mut self, Replace { endpoints }: Replace, _: &mut Self::Context) -> Self::Result {
        let mut published = Published::new();
        for endpoint in endpoints {
            let name = endpoint.name.clone();
            let variants = variants(endpoint, &self.metrics)?;
            info!(endpoint = %name, n_variants = variants.len(), "endpoint in service");
            if published.insert(name.clone(), variants).is_some() {
                return Err(InvalidEndpoints::DuplicateEndpoint(name));
            }
        }
        self.published.store(Arc::new(published));
        Ok(())
    }
}

/// Checks an endpoint and makes its variants.
fn variants(
    endpoint: Endpoint,
    metrics: &EndpointMetrics,
) -> Result<Vec<Arc<Variant>>, InvalidEndpoints> {
    let name = endpoint.name;
    let mut variants: Vec<Arc<Variant>> = Vec::new();
    for variant in endpoint.variants {
        if !(0.0..=MAX_WEIGHT).contains(&variant.weight) {
            return Err(InvalidEndpoints::Weight(name, variant.weight));
        }
        if String::from(variant.model_data_url.clone()).contains(char::is_control) {
            return Err(InvalidEndpoints::Url(name));
        }
        if variants.iter().any(|other| other.name == variant.name) {
            return Err(InvalidEndpoints::DuplicateVariant(name, variant.name));
        }
        variants.push(Arc::new(Variant {
            metrics: metrics.of(&name, &variant.name),
            name: variant.name,
            model_data_url: variant.model_data_url,
            weight: variant.weight,
            repeats: variant.repeats,
        }));
    }
    if !variants.iter().any(|variant| variant.weight > 0.0) {
        return Err(InvalidEndpoints::NoWeight(name));
    }
    Ok(variants)
}

#[cfg(test)]
mod tests;
