//! Endpoints of a file as records, in service as they are. The file may name folders (`file://`),
//! which the control plane's own calls may not.

use super::{
    arn::{ResourceKind, arn},
    catalog::{
        self, Change, DeployedVariant, Deployment, Endpoint, EndpointConfig, EndpointStatus, Model,
        Timestamp,
    },
};
use serde_json::{Map, Value, json};
use shared::{
    api::endpoints as file,
    id::{EndpointName, FleetId, VariantName},
};
use std::collections::{BTreeMap, BTreeSet};

/// Why a set of endpoints was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidEndpoints {
    #[error("endpoint `{0}` is there twice: names differ in more than case")]
    DuplicateEndpoint(EndpointName),
    #[error("endpoint `{0}` has variant `{1}` twice")]
    DuplicateVariant(EndpointName, VariantName),
    #[error("endpoint `{0}`: weight {1} is not a number from 0 to a billion")]
    Weight(EndpointName, f64),
    #[error("endpoint `{0}` has no variant with a positive weight")]
    NoWeight(EndpointName),
    #[error("endpoint `{0}`: the model data URL holds control characters")]
    Url(EndpointName),
}

/// Keeps sums of weights finite.
const MAX_WEIGHT: f64 = 1e9;

/// Refuses endpoints that could not serve, before any becomes a record.
pub fn check(endpoints: &[file::Endpoint]) -> Result<(), InvalidEndpoints> {
    let mut names = BTreeSet::new();
    for endpoint in endpoints {
        let name = || endpoint.name.clone();
        if !names.insert(catalog::key(endpoint.name.as_str())) {
            return Err(InvalidEndpoints::DuplicateEndpoint(name()));
        }
        let mut variants = BTreeSet::new();
        for variant in &endpoint.variants {
            if !(0.0..=MAX_WEIGHT).contains(&variant.weight) {
                return Err(InvalidEndpoints::Weight(name(), variant.weight));
            }
            if String::from(variant.model_data_url.clone()).contains(char::is_control) {
                return Err(InvalidEndpoints::Url(name()));
            }
            if !variants.insert(&variant.name) {
                return Err(InvalidEndpoints::DuplicateVariant(name(), variant.name.clone()));
            }
        }
        if !endpoint.variants.iter().any(|variant| variant.weight > 0.0) {
            return Err(InvalidEndpoints::NoWeight(name()));
        }
    }
    Ok(())
}

/// What records say of where they are.
#[derive(Clone, Debug)]
pub struct Home<'a> {
    pub region: &'a str,
    pub account_id: &'a str,
    pub now: Timestamp,
}

/// What a record without an image says.
const IMAGE: &str = "manifold";

/// Returns the model of each variant, the configuration and the endpoint.
pub fn changes(
    endpoint: &file::Endpoint,
    home: &Home<'_>,
    mut new_fleet: impl FnMut() -> FleetId,
) -> Vec<Change> {
    let name = endpoint.name.as_str();
    let mut changes = Vec::new();
    let mut variants = Vec::new();
    let mut production_variants = Vec::new();
    for variant in &endpoint.variants {
        let model_name = format!("{name}-{}", variant.name);
        changes.push(Change::PutModel(model(&model_name, variant, home)));
        production_variants.push(json!({
            "VariantName": variant.name, "ModelName": model_name,
            "InitialInstanceCount": 1, "InitialVariantWeight": variant.weight,
        }));
        variants.push(deployed(variant, model_name, new_fleet()));
    }
    let (created, input) = (home.now, json!({"ProductionVariants": production_variants}));
    changes.push(Change::PutConfig(EndpointConfig {
        name: name.to_owned(),
        arn: arn(home.region, home.account_id, ResourceKind::EndpointConfig, name),
        created,
        input: object(input, "EndpointConfigName", name),
        tags: Vec::new(),
    }));
    let deployment = Deployment {
        config_name: name.to_owned(),
        started: created,
        variants,
        async_inference: endpoint.asynchronous.as_ref().map(async_inference),
        shown: Map::new(),
    };
    changes.push(Change::PutEndpoint(Endpoint {
        name: endpoint.name.clone(),
        arn: arn(home.region, home.account_id, ResourceKind::Endpoint, name),
        created,
        modified: created,
        config_name: name.to_owned(),
        status: EndpointStatus::InService,
        failure_reason: None,
        active: Some(deployment),
        pending: None,
        retired: Vec::new(),
        tags: Vec::new(),
        input: object(json!({"EndpointConfigName": name}), "EndpointName", name),
    }));
    changes
}

fn async_inference(of_file: &file::Asynchronous) -> Value {
    let file::Asynchronous { output, failure, max_concurrent_per_instance } = of_file;
    json!({
        "OutputConfig": { "S3OutputPath": output, "S3FailurePath": failure },
        "ClientConfig": { "MaxConcurrentInvocationsPerInstance": max_concurrent_per_instance },
    })
}

fn model(name: &str, variant: &file::Variant, home: &Home<'_>) -> Model {
    let container = json!({
        "Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": variant.model_data_url,
        "Environment": environment(variant),
    });
    Model {
        name: name.to_owned(),
        arn: arn(home.region, home.account_id, ResourceKind::Model, name),
        created: home.now,
        input: object(json!({"PrimaryContainer": container}), "ModelName", name),
        tags: Vec::new(),
    }
}

fn deployed(variant: &file::Variant, model_name: String, fleet: FleetId) -> DeployedVariant {
    DeployedVariant {
        name: variant.name.clone(),
        fleet,
        weight: variant.weight,
        n_instances: 1,
        current_instances: 1,
        model_name,
        image: IMAGE.to_owned(),
        model_data_url: variant.model_data_url.clone().into(),
        is_multi_model: true,
        is_cache_disabled: false,
        environment: environment(variant),
        startup_timeout_s: None,
        instance_type: None,
        note: None,
    }
}

fn environment(variant: &file::Variant) -> BTreeMap<String, String> {
    BTreeMap::from([("MANIFOLD_REPEATS".to_owned(), variant.repeats.to_string())])
}

fn object(value: Value, name_member: &str, name: &str) -> Map<String, Value> {
    let Value::Object(mut object) = value else { return Map::new() };
    object.insert(name_member.to_owned(), name.into());
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::api::endpoints::EndpointsFile;

    fn endpoint(name: &str, variants: &[(&str, &str)]) -> String {
        let variants = variants.iter().map(|(name, weight)| {
            format!(
                "[[endpoint.variant]]\nname = \"{name}\"\nweight = {weight}\n\
                 model_data_url = \"s3://bucket/{name}/\"\n"
            )
        });
        format!("[[endpoint]]\nname = \"{name}\"\n{}", variants.collect::<String>())
    }

    #[track_caller]
    fn check_refused(toml: &str, expected: &str) {
        let file: EndpointsFile = toml::from_str(toml).unwrap();
        assert_eq!(check(&file.endpoints).unwrap_err().to_string(), expected, "{toml}");
    }

    #[test]
    fn endpoints_that_could_not_serve_are_refused() {
        let twice = format!("{}{}", endpoint("d", &[("a", "1.0")]), endpoint("D", &[("a", "1.0")]));
        check_refused(&twice, "endpoint `D` is there twice: names differ in more than case");
        let variants = [("a", "1.0"), ("a", "1.0")];
        check_refused(&endpoint("d", &variants), "endpoint `d` has variant `a` twice");
        let none = "endpoint `d` has no variant with a positive weight";
        check_refused(&endpoint("d", &[("a", "0.0")]), none);
        for weight in ["-1.0", "inf", "nan"] {
            let shown: f64 = weight.parse().unwrap();
            let expected =
                format!("endpoint `d`: weight {shown} is not a number from 0 to a billion");
            check_refused(&endpoint("d", &[("a", weight)]), &expected);
        }
        let broken = endpoint("d", &[("a", "1.0")]).replace("s3://bucket/a/", "s3://bucket/a\\n/");
        check_refused(&broken, "endpoint `d`: the model data URL holds control characters");
    }
}
