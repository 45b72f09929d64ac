//! Endpoints: created, described, listed, deleted.

use super::*;

fn named(name: &str) -> Value {
    json!({ "EndpointName": name })
}

fn create(name: &str) -> Value {
    json!({ "EndpointName": name, "EndpointConfigName": "c" })
}

#[test]
fn a_new_endpoint_is_creating_and_shows_what_it_will_be() {
    let mut world = World::with_config();
    let arn = arn_of("endpoint", "my-e");
    assert_eq!(world.does("CreateEndpoint", create("My-E")), json!({ "EndpointArn": arn }));
    let output = world.does("DescribeEndpoint", named("My-E"));
    let image = output["PendingDeploymentSummary"]["ProductionVariants"][0]["DeployedImages"][0]
        ["ResolvedImage"]
        .clone();
    assert!(image.as_str().unwrap().starts_with("repo/worker@sha256:"));
    let variant = json!({
        "VariantName": "v",
        "DeployedImages": [{
            "SpecifiedImage": "repo/worker:1", "ResolvedImage": image, "ResolutionTime": 1002.5,
        }],
        "CurrentWeight": 1.0, "DesiredWeight": 1.0,
        "CurrentInstanceCount": 0, "DesiredInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "VariantStatus": [{ "Status": "Creating", "StartTime": 1002.5 }],
    });
    let expected = json!({
        "EndpointName": "My-E", "EndpointArn": arn, "EndpointConfigName": "c",
        "EndpointStatus": "Creating", "CreationTime": 1002.5, "LastModifiedTime": 1002.5,
        "PendingDeploymentSummary": {
            "EndpointConfigName": "c", "StartTime": 1002.5, "ProductionVariants": [variant],
        },
    });
    assert_eq!(output, expected);
}

#[test]
fn an_endpoint_in_service_shows_what_serves() {
    let mut world = World::with_endpoint();
    let mut endpoint = world.endpoint("e");
    endpoint.active.as_mut().unwrap().variants[0].note = Some("runs our own worker".to_owned());
    world.put(endpoint);
    let output = world.does("DescribeEndpoint", named("e"));
    assert_eq!(output["EndpointStatus"], "InService");
    assert_eq!(output.get("PendingDeploymentSummary"), None);
    assert_eq!(output.get("FailureReason"), None);
    let variant = &output["ProductionVariants"][0];
    assert_eq!(variant["CurrentInstanceCount"], 1);
    assert_eq!(variant["VariantStatus"][0]["StatusMessage"], "runs our own worker");
    assert_eq!(variant.get("InstanceType"), None);
}

#[test]
fn a_deployment_is_a_snapshot_of_its_model() {
    let mut world = World::with_config();
    world.does("CreateEndpoint", create("e"));
    let deployment = world.endpoint("e").pending.unwrap();
    let variant = &deployment.variants[0];
    assert_eq!(variant.model_data_url, "s3://bkt/models/");
    assert_eq!(variant.environment["LEVEL"], "3");
    assert!(variant.is_multi_model && !variant.is_cache_disabled);
    assert_eq!(variant.fleet.as_str(), "fleet-1");
    assert_eq!(variant.instance_type.as_deref(), Some("ml.m5.large"));
}

#[test]
fn what_cannot_run_is_not_deployed() {
    let mut world = World::new();
    let multi = json!({ "Image": "i", "Mode": "MultiModel", "ModelDataUrl": "s3://bkt/m/" });
    world.does("CreateModel", json!({ "ModelName": "m", "Containers": [multi, { "Image": "i" }] }));
    world.does("CreateEndpointConfig", config("c", 1));
    world.refuses(
        "CreateEndpoint",
        create("e"),
        "Model m has more than one container: pipelines cannot be deployed here.",
    );
    world.does("DeleteModel", json!({ "ModelName": "m" }));
    let message = format!("Could not find model \"{}\".", arn_of("model", "m"));
    world.refuses("CreateEndpoint", create("e"), &message);
    world.does("CreateModel", json!({ "ModelName": "m", "PrimaryContainer": { "Image": "i" } }));
    world.refuses(
        "CreateEndpoint",
        create("e"),
        "Model m has no model data: an image cannot bring its model along here.",
    );
}

#[test]
fn unknown_and_taken_names_are_refused() {
    let world = World::with_endpoint();
    let taken = format!("Cannot create already existing endpoint \"{}\".", arn_of("endpoint", "e"));
    world.refuses("CreateEndpoint", create("E"), &taken);
    let input = json!({ "EndpointName": "f", "EndpointConfigName": "Other" });
    let arn = arn_of("endpoint-config", "other");
    let no_config = format!("Could not find endpoint configuration \"{arn}\".");
    world.refuses("CreateEndpoint", input, &no_config);
    let unknown = format!("Could not find endpoint \"{}\".", arn_of("endpoint", "f"));
    for operation in ["DescribeEndpoint", "DeleteEndpoint"] {
        world.refuses(operation, named("f"), &unknown);
    }
}

#[test]
fn instances_have_a_limit_over_all_endpoints() {
    let mut world = World::with_endpoint();
    world.does("CreateEndpointConfig", config("big", 7));
    let big = |name: &str| json!({ "EndpointName": name, "EndpointConfigName": "big" });
    world.does("CreateEndpoint", big("f"));
    world.refuses_for_limit(
        "CreateEndpoint",
        create("g"),
        "The account-level service limit 'ml.m5.large for endpoint usage' is 8 Instances, with \
         current utilization of 8 Instances and a request delta of 1 Instances. Please use AWS \
         Service Quotas to request an increase for this quota.",
    );
    // Instances are in use until the driver has taken them down.
    world.does("DeleteEndpoint", named("e"));
    assert!(world.ask("CreateEndpoint", &create("g")).is_err());
    world.catalog.apply(Change::DeleteEndpoint("e".to_owned()));
    assert!(world.ask("CreateEndpoint", &create("g")).is_ok());
}

#[test]
fn endpoints_may_be_deleted_at_any_time_but_once() {
    use EndpointStatus::{Creating, Failed, InService, RollingBack, Updating};
    for status in [Creating, Updating, InService, Failed, RollingBack] {
        let mut world = World::with_endpoint();
        world.set_status("e", status);
        assert_eq!(world.does("DeleteEndpoint", named("e")), json!({}));
        let endpoint = world.endpoint("e");
        assert_eq!(endpoint.status, EndpointStatus::Deleting);
        assert!(endpoint.active.is_some(), "the driver still has to take it down");
        let arn = arn_of("endpoint", "e");
        let message = format!("Cannot update in-progress endpoint \"{arn}\".");
        world.refuses("DeleteEndpoint", named("e"), &message);
        let taken = format!("Cannot create already existing endpoint \"{arn}\".");
        world.refuses("CreateEndpoint", create("e"), &taken);
    }
}

#[test]
fn reasons_of_failure_are_cut() {
    let mut world = World::with_endpoint();
    let mut endpoint = world.endpoint("e");
    endpoint.status = EndpointStatus::Failed;
    endpoint.failure_reason = Some("é".repeat(2000));
    world.put(endpoint);
    let output = world.does("DescribeEndpoint", named("e"));
    assert_eq!(output["FailureReason"].as_str().unwrap().chars().count(), 1024);
}

#[test]
fn what_a_configuration_captures_is_shown_as_stopped() {
    let mut world = World::with_config();
    let mut input = config("c2", 1);
    input["DataCaptureConfig"] = json!({
        "EnableCapture": true, "InitialSamplingPercentage": 50, "DestinationS3Uri": "s3://b",
        "CaptureOptions": [{ "CaptureMode": "Input" }],
    });
    input["AsyncInferenceConfig"] = json!({ "OutputConfig": {} });
    world.does("CreateEndpointConfig", input);
    let policy = json!({ "AutoRollbackConfiguration": { "Alarms": [{ "AlarmName": "a" }] } });
    let input = json!({
        "EndpointName": "e", "EndpointConfigName": "c2", "DeploymentConfig": policy,
    });
    world.does("CreateEndpoint", input);
    let output = world.does("DescribeEndpoint", named("e"));
    assert_eq!(
        output["DataCaptureConfig"],
        json!({
            "EnableCapture": true, "CaptureStatus": "Stopped", "CurrentSamplingPercentage": 50,
            "DestinationS3Uri": "s3://b", "KmsKeyId": "",
        })
    );
    assert_eq!(output["AsyncInferenceConfig"], json!({ "OutputConfig": {} }));
    assert_eq!(output["LastDeploymentConfig"], policy);
}

#[test]
fn endpoints_are_listed_by_state() {
    let mut world = World::with_endpoint();
    world.does("CreateEndpoint", create("f"));
    let output = world.does("ListEndpoints", json!({ "StatusEquals": "Creating" }));
    let f = json!({
        "EndpointName": "f", "EndpointArn": arn_of("endpoint", "f"), "CreationTime": 1003.5,
        "LastModifiedTime": 1003.5, "EndpointStatus": "Creating",
    });
    assert_eq!(output, json!({ "Endpoints": [f] }));
    let output = world.does("ListEndpoints", json!({ "SortBy": "Status" }));
    assert_eq!(output["Endpoints"][0]["EndpointName"], "e");
}
