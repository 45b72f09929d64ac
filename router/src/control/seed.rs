//! Endpoints of a file as records, in service as they are. The file may name folders (`file://`),
//! which the control plane's own calls may not.

use super::{
    arn::{ResourceKind, arn},
    catalog::{
        Change, DeployedVariant, Deployment, Endpoint, EndpointConfig, EndpointStatus, Model,
        Timestamp,
    },
};
use serde_json::{Map, Value, json};
use shared::{api::endpoints as file, id::FleetId};
use std::collections::BTreeMap;

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
