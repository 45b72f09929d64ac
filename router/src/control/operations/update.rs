//! Updates of an endpoint: to another configuration, or to other weights and counts.
//!
//! Either makes a pending deployment. The name of the configuration stays that of the one that
//! serves, as SageMaker shows it, until the pending one takes over.

use super::{
    Context, Outcome, configs, deployment, endpoints,
    input::{Input, count, is_true, structures, text},
    instances,
};
use crate::control::{
    catalog::{Catalog, Change, DeployedVariant, Deployment, Endpoint, EndpointStatus},
    error::{ControlError, violation},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const LAST_DEPLOYMENT: &str = "DeploymentConfig";
const DATA_CAPTURE: &str = "DataCaptureConfig";

pub(super) fn update(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let endpoint = endpoints::find(catalog, ctx, input)?;
    let active = check_settled(endpoint)?;
    let config = configs::find(catalog, ctx, input)?;
    if config.name == endpoint.config_name {
        return Err(ControlError::config_in_use());
    }
    let mut pending = deployment::of_config(catalog, ctx, config)?;
    if is_true(input, "RetainAllVariantProperties") {
        retain(&mut pending, active, input);
    }
    instances::check_limit(catalog, ctx, &pending)?;

    let mut endpoint = pending_on(endpoint, pending, ctx);
    if let Some(policy) = input.get(LAST_DEPLOYMENT) {
        endpoint.input.insert(LAST_DEPLOYMENT.to_owned(), policy.clone());
    } else if !is_true(input, "RetainDeploymentConfig") {
        endpoint.input.remove(LAST_DEPLOYMENT);
    }
    let output = json!({ "EndpointArn": endpoint.arn });
    Ok(Outcome::change(Change::PutEndpoint(endpoint), output))
}

/// Keeps what was changed since the configuration was made, by the names of the variants.
fn retain(pending: &mut Deployment, active: &Deployment, input: &Input) {
    let excluded: BTreeSet<&str> = structures(input, "ExcludeRetainedVariantProperties")
        .map(|property| text(property, "VariantPropertyType"))
        .collect();
    for variant in &mut pending.variants {
        let Some(old) = active.variants.iter().find(|old| old.name == variant.name) else {
            continue;
        };
        if !excluded.contains("DesiredInstanceCount") {
            variant.n_instances = old.n_instances;
        }
        if !excluded.contains("DesiredWeight") {
            variant.weight = old.weight;
        }
    }
    if !excluded.contains(DATA_CAPTURE) {
        match active.shown.get(DATA_CAPTURE) {
            Some(capture) => pending.shown.insert(DATA_CAPTURE.to_owned(), capture.clone()),
            None => pending.shown.remove(DATA_CAPTURE),
        };
    }
}

/// The pending deployment keeps the fleets, so that it differs in weights and counts alone.
pub(super) fn update_weights_and_capacities(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let endpoint = endpoints::find(catalog, ctx, input)?;
    let mut pending = check_settled(endpoint)?.clone();
    pending.started = ctx.now;
    let mut changed = BTreeSet::new();
    for (idx, desired) in structures(input, "DesiredWeightsAndCapacities").enumerate() {
        let name = text(desired, "VariantName");
        let variant = pending.variants.iter_mut().find(|variant| variant.name.as_str() == name);
        let variant = variant.ok_or_else(|| unknown_variant(name, endpoint))?;
        if !changed.insert(name) {
            let message = format!("Variant {name} is named more than once.");
            return Err(ControlError::validation(message));
        }
        change(variant, desired, idx + 1)?;
    }
    instances::check_limit(catalog, ctx, &pending)?;
    let endpoint = pending_on(endpoint, pending, ctx);
    let output = json!({ "EndpointArn": endpoint.arn });
    Ok(Outcome::change(Change::PutEndpoint(endpoint), output))
}

fn change(
    variant: &mut DeployedVariant,
    desired: &Input,
    place: usize,
) -> Result<(), ControlError> {
    match count(desired, "DesiredInstanceCount") {
        // The API model allows it, the service only for inference components.
        Some(0) => {
            return Err(ControlError::violations(&[violation(
                "'0'",
                &format!("desiredWeightsAndCapacities.{place}.member.desiredInstanceCount"),
                "Member must have value greater than or equal to 1",
            )]));
        }
        Some(n_instances) => variant.n_instances = n_instances,
        None => {}
    }
    if let Some(weight) = desired.get("DesiredWeight").and_then(Value::as_f64) {
        variant.weight = weight;
    }
    Ok(())
}

fn unknown_variant(name: &str, endpoint: &Endpoint) -> ControlError {
    let config = &endpoint.config_name;
    ControlError::validation(format!(
        "The variant name(s) \"{name}\" is/are not present within endpoint configuration \"{config}\"."
    ))
}

/// Only an endpoint in service can be updated. Returns what serves.
fn check_settled(endpoint: &Endpoint) -> Result<&Deployment, ControlError> {
    if endpoint.status.is_in_progress() {
        return Err(ControlError::in_progress(&endpoint.arn));
    }
    if endpoint.status != EndpointStatus::InService {
        return Err(ControlError::failed(&endpoint.arn, endpoint.status.as_str()));
    }
    endpoint.active.as_ref().ok_or_else(ControlError::internal)
}

/// Returns the endpoint on its way to another deployment. What the last way ended in is forgotten.
fn pending_on(endpoint: &Endpoint, pending: Deployment, ctx: &Context<'_>) -> Endpoint {
    Endpoint {
        status: EndpointStatus::Updating,
        modified: ctx.now,
        failure_reason: None,
        pending: Some(pending),
        ..endpoint.clone()
    }
}
