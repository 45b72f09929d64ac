//! Endpoint configurations: what is refused, what is shown.

use super::*;

fn with_variants(variants: &[Value]) -> Value {
    json!({ "EndpointConfigName": "c2", "ProductionVariants": variants })
}

/// A variant with some members changed, or taken away with null.
fn changed(changes: Value) -> Value {
    let mut variant = variant("v", 1);
    for (member, value) in changes.as_object().unwrap() {
        variant[member] = value.clone();
    }
    variant
}

#[test]
fn a_configuration_is_shown_as_it_was_created() {
    let mut world = World::with_config();
    let mut input = config("C-2", 2);
    input["Tags"] = json!([{ "Key": "k", "Value": "v" }]);
    input["AsyncInferenceConfig"] = json!({ "OutputConfig": { "S3OutputPath": "s3://bkt/o" } });
    let arn = arn_of("endpoint-config", "c-2");
    let output = world.does("CreateEndpointConfig", input.clone());
    assert_eq!(output, json!({ "EndpointConfigArn": arn }));
    let output = world.does("DescribeEndpointConfig", json!({ "EndpointConfigName": "C-2" }));
    let mut expected = input;
    expected.as_object_mut().unwrap().remove("Tags");
    expected["EndpointConfigArn"] = json!(arn);
    expected["CreationTime"] = json!(1002.5);
    expected["ProductionVariants"][0]["InitialVariantWeight"] = json!(1.0);
    assert_eq!(output, expected);
}

#[test]
fn configurations_that_cannot_be_deployed_are_refused() {
    let world = World::with_config();
    let null = |path: &str| {
        format!(
            "1 validation error detected: Value null at 'productionVariants.1.member.{path}' \
             failed to satisfy constraint: Member must not be null"
        )
    };
    let unknown = format!("Could not find model \"{}\".", arn_of("model", "other"));
    let serverless = json!({ "MemorySizeInMB": 1024, "MaxConcurrency": 1 });
    let serverless = changed(json!({ "ServerlessConfig": serverless }));
    for (variant, message) in [
        (changed(json!({ "ModelName": "Other" })), &*unknown),
        (changed(json!({ "ModelName": null })), &null("modelName")),
        (changed(json!({ "InitialInstanceCount": null })), &null("initialInstanceCount")),
        (changed(json!({ "InstanceType": null })), &null("instanceType")),
        (serverless, "ServerlessConfig is not supported for a model with the mode MultiModel."),
    ] {
        world.refuses("CreateEndpointConfig", with_variants(&[variant]), message);
    }
    world.refuses(
        "CreateEndpointConfig",
        with_variants(&[variant("v", 1), variant("v", 1)]),
        "Two production variants have the same name: v.",
    );
    let message = format!(
        "Cannot create already existing endpoint configuration \"{}\".",
        arn_of("endpoint-config", "c")
    );
    world.refuses("CreateEndpointConfig", config("C", 1), &message);
}

#[test]
fn single_models_may_be_serverless() {
    let mut world = World::new();
    let container = json!({ "Image": "i", "ModelDataUrl": "s3://bkt/m.tar.gz" });
    world.does("CreateModel", json!({ "ModelName": "m", "PrimaryContainer": container }));
    let serverless = json!({ "MemorySizeInMB": 1024, "MaxConcurrency": 1 });
    let both = changed(json!({ "ServerlessConfig": serverless }));
    world.refuses(
        "CreateEndpointConfig",
        with_variants(&[both]),
        "A variant can have a ServerlessConfig or instances, not both.",
    );
    let alone = json!({ "VariantName": "v", "ModelName": "m", "ServerlessConfig": serverless });
    world.does("CreateEndpointConfig", with_variants(&[alone]));
    world.does("CreateEndpoint", json!({ "EndpointName": "e", "EndpointConfigName": "c2" }));
    assert_eq!(world.endpoint("e").pending.unwrap().variants[0].n_instances, 1);
}

#[test]
fn configurations_may_be_deleted_while_in_use() {
    let mut world = World::with_endpoint();
    let name = json!({ "EndpointConfigName": "c" });
    let listed = world.does("ListEndpointConfigs", json!({}));
    assert_eq!(
        listed,
        json!({ "EndpointConfigs": [{
            "EndpointConfigName": "c", "EndpointConfigArn": arn_of("endpoint-config", "c"),
            "CreationTime": 1001.5,
        }]})
    );
    world.does("DeleteEndpointConfig", name.clone());
    world.does("DeleteModel", json!({ "ModelName": "m" }));
    let arn = arn_of("endpoint-config", "c");
    let message = format!("Could not find endpoint configuration \"{arn}\".");
    world.refuses("DescribeEndpointConfig", name.clone(), &message);
    world.refuses("DeleteEndpointConfig", name, &message);
    let output = world.does("DescribeEndpoint", json!({ "EndpointName": "e" }));
    assert_eq!(output["ProductionVariants"][0]["VariantName"], "v");
}
