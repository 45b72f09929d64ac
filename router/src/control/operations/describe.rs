//! `DescribeEndpoint`: all that a client can know of an endpoint.

use super::{
    Context, Outcome, endpoints,
    input::{Input, is_true, text},
};
use crate::control::{
    catalog::{Catalog, DeployedVariant, Deployment, Endpoint, EndpointStatus},
    error::ControlError,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// SageMaker's bound for `FailureReason`.
const MAX_REASON_CHARS: usize = 1024;

pub(super) fn describe(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let endpoint = endpoints::find(catalog, ctx, input)?;
    let mut output = Map::new();
    let mut show = |member: &str, value: Value| output.insert(member.to_owned(), value);
    show("EndpointName", json!(endpoint.name.as_str()));
    show("EndpointArn", json!(endpoint.arn));
    show("EndpointConfigName", json!(endpoint.config_name));
    show("EndpointStatus", json!(endpoint.status.as_str()));
    show("CreationTime", json!(endpoint.created.seconds()));
    show("LastModifiedTime", json!(endpoint.modified.seconds()));
    if let Some(reason) = &endpoint.failure_reason {
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        show("FailureReason", json!(reason));
    }
    if let Some(policy) = endpoint.input.get("DeploymentConfig") {
        show("LastDeploymentConfig", policy.clone());
    }
    if let Some(active) = &endpoint.active {
        let variants = active.variants.iter().map(|it| serving(endpoint, active, it)).collect();
        show("ProductionVariants", variants);
    }
    if let Some(deployment) = endpoint.active.as_ref().or(endpoint.pending.as_ref()) {
        if let Some(config) = &deployment.async_inference {
            show("AsyncInferenceConfig", config.clone());
        }
        for (member, value) in &deployment.shown {
            match value.as_object().filter(|_| member == "DataCaptureConfig") {
                Some(capture) => show(member, capture_summary(capture)),
                None => show(member, value.clone()),
            };
        }
    }
    if let Some(pending) = endpoint.pending.as_ref().filter(|_| is_changing(endpoint)) {
        show("PendingDeploymentSummary", pending_summary(endpoint, pending));
    }
    Ok(Outcome::read(Value::Object(output)))
}

fn is_changing(endpoint: &Endpoint) -> bool {
    use EndpointStatus::{Creating, RollingBack, Updating};
    matches!(endpoint.status, Creating | Updating | RollingBack)
}

/// A variant that serves. What is desired of it is in the pending deployment, if that keeps its
/// fleet.
fn serving(endpoint: &Endpoint, active: &Deployment, variant: &DeployedVariant) -> Value {
    let mut pending = endpoint.pending.iter().flat_map(|pending| &pending.variants);
    let desired = pending.find(|it| it.fleet == variant.fleet);
    let status = match endpoint.status {
        EndpointStatus::Updating | EndpointStatus::RollingBack if desired.is_some() => {
            Some("Updating")
        }
        EndpointStatus::Deleting => Some("Deleting"),
        // The last stage that it went through: SageMaker has no word for a settled one.
        _ => variant.note.is_some().then_some("ActivatingTraffic"),
    };
    Value::Object(summary(active, variant, desired.unwrap_or(variant), status))
}

fn pending_summary(endpoint: &Endpoint, pending: &Deployment) -> Value {
    let variants = pending.variants.iter().map(|variant| {
        let mut active = endpoint.active.iter().flat_map(|active| &active.variants);
        let kept = active.find(|it| it.fleet == variant.fleet);
        let status = if kept.is_some() { "Updating" } else { "Creating" };
        let mut summary = summary(pending, kept.unwrap_or(variant), variant, Some(status));
        if let Some(instance_type) = &variant.instance_type {
            summary.insert("InstanceType".to_owned(), json!(instance_type));
        }
        Value::Object(summary)
    });
    json!({
        "EndpointConfigName": pending.config_name,
        "ProductionVariants": variants.collect::<Vec<_>>(),
        "StartTime": pending.started.seconds(),
    })
}

/// Shows one variant: what it has, and what is desired of it.
fn summary(
    deployment: &Deployment,
    current: &DeployedVariant,
    desired: &DeployedVariant,
    status: Option<&str>,
) -> Map<String, Value> {
    let started = deployment.started.seconds();
    let mut summary = Map::new();
    let mut show = |member: &str, value: Value| summary.insert(member.to_owned(), value);
    show("VariantName", json!(current.name.as_str()));
    if !current.image.is_empty() {
        let image = json!({
            "SpecifiedImage": current.image,
            "ResolvedImage": resolved(&current.image),
            "ResolutionTime": started,
        });
        show("DeployedImages", json!([image]));
    }
    show("CurrentWeight", json!(current.weight));
    show("DesiredWeight", json!(desired.weight));
    show("CurrentInstanceCount", json!(current.current_instances));
    show("DesiredInstanceCount", json!(desired.n_instances));
    if let Some(status) = status {
        let mut entry = json!({ "Status": status, "StartTime": started });
        if let Some(note) = current.note.as_ref().or(desired.note.as_ref()) {
            entry["StatusMessage"] = json!(note);
        }
        show("VariantStatus", json!([entry]));
    }
    summary
}

/// Returns an image in digest form. No registry is asked, since no image is run: the digest is that
/// of the name, so that equal names have equal ones.
fn resolved(image: &str) -> String {
    if image.contains("@sha256:") {
        return image.to_owned();
    }
    // A colon in the last part begins the tag; one before it, a port.
    let start_of_last = image.rfind('/').map_or(0, |at| at + 1);
    let end = image[start_of_last..].find(':').map_or(image.len(), |at| start_of_last + at);
    let mut resolved = format!("{}@sha256:", &image[..end]);
    for byte in Sha256::digest(image.as_bytes()) {
        write!(resolved, "{byte:02x}").expect("a string takes all");
    }
    resolved
}

/// Capture is stored and shown, and not done: it never says `Started`.
fn capture_summary(capture: &Input) -> Value {
    json!({
        "EnableCapture": is_true(capture, "EnableCapture"),
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": capture.get("InitialSamplingPercentage"),
        "DestinationS3Uri": text(capture, "DestinationS3Uri"),
        "KmsKeyId": text(capture, "KmsKeyId"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_resolve_to_a_digest() {
        let digest = resolved("localhost:5000/repo/image:1.0");
        let (name, hex) = digest.split_once("@sha256:").unwrap();
        assert_eq!((name, hex.len()), ("localhost:5000/repo/image", 64));
        assert_ne!(digest, resolved("localhost:5000/repo/image:1.1"));
        assert_eq!(resolved("i@sha256:00"), "i@sha256:00");
        assert!(resolved("image").starts_with("image@sha256:"));
    }
}
