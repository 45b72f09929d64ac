//! Endpoint configurations: which variants an endpoint shall have.

use super::{
    Context, Outcome,
    input::{Input, missing, structures, take_tags, text},
    listing::{self, Row},
    models,
};
use crate::control::{
    arn::ResourceKind,
    catalog::{Catalog, Change, EndpointConfig, key},
    error::ControlError,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KIND: ResourceKind = ResourceKind::EndpointConfig;

/// The lists of variants in a configuration, with their names in SageMaker's errors.
const VARIANT_LISTS: [(&str, &str); 2] = [
    ("ProductionVariants", "productionVariants"),
    ("ShadowProductionVariants", "shadowProductionVariants"),
];

pub(super) fn create(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let mut input = input.clone();
    let tags = take_tags(&mut input)?;
    let name = text(&input, "EndpointConfigName").to_owned();
    let mut names = BTreeSet::new();
    for (member, path) in VARIANT_LISTS {
        for (idx, variant) in structures(&input, member).enumerate() {
            check_variant(catalog, ctx, variant, &format!("{path}.{}.member", idx + 1))?;
            let name = text(variant, "VariantName");
            if !names.insert(name.to_owned()) {
                let message = format!("Two production variants have the same name: {name}.");
                return Err(ControlError::validation(message));
            }
        }
    }
    ctx.check_new(catalog, KIND, &name)?;

    let arn = ctx.arn(KIND, &name);
    let output = json!({ "EndpointConfigArn": arn });
    set_defaults(&mut input);
    let config = EndpointConfig { name, arn, created: ctx.now, input, tags };
    Ok(Outcome::change(Change::PutConfig(config), output))
}

fn check_variant(
    catalog: &Catalog,
    ctx: &Context<'_>,
    variant: &Input,
    path: &str,
) -> Result<(), ControlError> {
    // SageMaker allows none for endpoints of inference components, which do not exist here.
    if !variant.contains_key("ModelName") {
        return Err(missing(&format!("{path}.modelName")));
    }
    let name = text(variant, "ModelName");
    let not_found = || ctx.not_found(ResourceKind::Model, name);
    let model = catalog.model(name).ok_or_else(not_found)?;

    let has_type = variant.contains_key("InstanceType") || variant.contains_key("InstancePools");
    if variant.contains_key("ServerlessConfig") {
        if models::containers(&model.input).any(models::is_multi_model) {
            return Err(ControlError::validation(
                "ServerlessConfig is not supported for a model with the mode MultiModel.",
            ));
        }
        if has_type || variant.contains_key("InitialInstanceCount") {
            return Err(ControlError::validation(
                "A variant can have a ServerlessConfig or instances, not both.",
            ));
        }
        return Ok(());
    }
    if !variant.contains_key("InitialInstanceCount") {
        return Err(missing(&format!("{path}.initialInstanceCount")));
    }
    if !has_type {
        return Err(missing(&format!("{path}.instanceType")));
    }
    Ok(())
}

/// Writes down what SageMaker shows of a configuration that did not say it.
fn set_defaults(input: &mut Input) {
    for (member, _) in VARIANT_LISTS {
        let variants = input.get_mut(member).and_then(Value::as_array_mut).into_iter().flatten();
        for variant in variants.filter_map(Value::as_object_mut) {
            variant.entry("InitialVariantWeight").or_insert_with(|| json!(1.0));
        }
    }
}

pub(super) fn describe(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let config = find(catalog, ctx, input)?;
    let mut output = config.input.clone();
    output.insert("EndpointConfigArn".to_owned(), json!(config.arn));
    output.insert("CreationTime".to_owned(), json!(config.created.seconds()));
    Ok(Outcome::read(Value::Object(output)))
}

pub(super) fn list(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let rows = catalog.configs.iter().map(|(key, config)| Row {
        key,
        name: &config.name,
        created: config.created,
        changing: None,
        record: config,
    });
    let page = listing::page("ListEndpointConfigs", rows, input)?;
    Ok(Outcome::read(page.output("EndpointConfigs", |config| {
        json!({
            "EndpointConfigName": config.name,
            "EndpointConfigArn": config.arn,
            "CreationTime": config.created.seconds(),
        })
    })))
}

/// Also while endpoints use it: a deployment is a snapshot.
pub(super) fn delete(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let config = find(catalog, ctx, input)?;
    Ok(Outcome::silent(Change::DeleteConfig(key(&config.name))))
}

/// Returns the configuration that an input names.
pub(super) fn find<'a>(
    catalog: &'a Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<&'a EndpointConfig, ControlError> {
    let name = text(input, "EndpointConfigName");
    Ok(catalog.config(name).ok_or_else(|| ctx.not_found(KIND, name))?)
}
