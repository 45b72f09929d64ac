//! Makes a deployment: a configuration and its models, as they are now.

use super::{
    Context,
    input::{Input, count, structure, structures, text},
    models,
};
use crate::control::{
    arn::ResourceKind,
    catalog::{Catalog, DeployedVariant, Deployment, EndpointConfig},
    error::ControlError,
};
use serde_json::Value;
use shared::{address::ModelDataUrl, id::VariantName};

/// What `DescribeEndpoint` shows of a configuration.
const SHOWN: [&str; 4] =
    ["DataCaptureConfig", "ExplainerConfig", "MetricsConfig", "CrossRegionTrafficConfig"];

/// Returns a deployment of a configuration, each variant with a fleet of its own.
pub(super) fn of_config(
    catalog: &Catalog,
    ctx: &Context<'_>,
    config: &EndpointConfig,
) -> Result<Deployment, ControlError> {
    let variants = structures(&config.input, "ProductionVariants");
    let variants: Result<Vec<_>, _> = variants.map(|it| of_variant(catalog, ctx, it)).collect();
    let shown = config.input.iter().filter(|(member, _)| SHOWN.contains(&member.as_str()));
    Ok(Deployment {
        config_name: config.name.clone(),
        started: ctx.now,
        variants: variants?,
        async_inference: config.input.get("AsyncInferenceConfig").cloned(),
        shown: shown.map(|(member, value)| (member.clone(), value.clone())).collect(),
    })
}

fn of_variant(
    catalog: &Catalog,
    ctx: &Context<'_>,
    variant: &Input,
) -> Result<DeployedVariant, ControlError> {
    let model_name = text(variant, "ModelName");
    let not_found = || ctx.not_found(ResourceKind::Model, model_name);
    let model = catalog.model(model_name).ok_or_else(not_found)?;
    let container = only_container(model_name, &model.input)?;
    let environment = structure(container, "Environment").into_iter().flatten();
    let multi_model = structure(container, "MultiModelConfig");
    let name = VariantName::try_from(text(variant, "VariantName").to_owned());
    Ok(DeployedVariant {
        name: name.map_err(|_| ControlError::internal())?,
        fleet: (ctx.new_fleet)(),
        weight: variant.get("InitialVariantWeight").and_then(Value::as_f64).unwrap_or(1.0),
        // A serverless variant names no number: one instance serves it.
        n_instances: count(variant, "InitialInstanceCount").unwrap_or(1),
        current_instances: 0,
        model_name: model_name.to_owned(),
        image: text(container, "Image").to_owned(),
        model_data_url: String::from(data_url(model_name, container, ctx)?),
        is_multi_model: models::is_multi_model(container),
        is_cache_disabled: multi_model
            .is_some_and(|it| text(it, "ModelCacheSetting") == "Disabled"),
        environment: environment
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        startup_timeout_s: count(variant, "ContainerStartupHealthCheckTimeoutInSeconds"),
        instance_type: instance_type(variant),
        note: Some(note(text(container, "Image"), ctx.launches_images)),
    })
}

/// Whoever names an image expects it to run.
fn note(image: &str, launches_images: bool) -> String {
    if launches_images {
        return format!("Containers of the image {image} are started.");
    }
    format!("Manifold's own worker runs in place of the image {image}.")
}

/// Only the first of the types that a variant would take: all are the same here.
fn instance_type(variant: &Input) -> Option<String> {
    let pools = structures(variant, "InstancePools");
    let mut types = std::iter::once(variant).chain(pools).map(|it| text(it, "InstanceType"));
    types.find(|it| !it.is_empty()).map(str::to_owned)
}

/// A pipeline is refused where it would run, not where it is described: the answer of one of its
/// containers is not that of the pipeline.
fn only_container<'a>(model_name: &str, input: &'a Input) -> Result<&'a Input, ControlError> {
    let mut containers = models::containers(input);
    match (containers.next(), containers.next()) {
        (Some(container), None) => Ok(container),
        _ => Err(ControlError::validation(format!(
            "Model {model_name} has more than one container: pipelines cannot be deployed here."
        ))),
    }
}

fn data_url(
    model_name: &str,
    container: &Input,
    ctx: &Context<'_>,
) -> Result<ModelDataUrl, ControlError> {
    let source = structure(container, "ModelDataSource");
    let source = source.and_then(|source| structure(source, "S3DataSource"));
    let url = match text(container, "ModelDataUrl") {
        "" => source.map(|source| text(source, "S3Uri")).unwrap_or_default(),
        url => url,
    };
    if url.is_empty() {
        return Err(ControlError::validation(format!(
            "Model {model_name} has no model data: an image cannot bring its model along here."
        )));
    }
    ModelDataUrl::parse_sagemaker(url, ctx.own_hosts).map_err(|error| {
        ControlError::validation(format!("Could not find model data at {url}: {error}."))
    })
}
