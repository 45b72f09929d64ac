//! Updates: when they are refused, what they keep, what they change.

use super::*;

fn update(config: &str) -> Value {
    json!({ "EndpointName": "e", "EndpointConfigName": config })
}

fn capacities(desired: Value) -> Value {
    json!({ "EndpointName": "e", "DesiredWeightsAndCapacities": desired })
}

const WEIGHTS: &str = "UpdateEndpointWeightsAndCapacities";

#[test]
fn an_update_has_fleets_of_its_own_beside_those_that_serve() {
    let mut world = World::with_endpoint();
    world.does("CreateEndpointConfig", config("c2", 3));
    let output = world.does("UpdateEndpoint", update("c2"));
    assert_eq!(output, json!({ "EndpointArn": arn_of("endpoint", "e") }));
    let endpoint = world.endpoint("e");
    assert_eq!(endpoint.status, EndpointStatus::Updating);
    let (active, pending) = (endpoint.active.unwrap(), endpoint.pending.unwrap());
    assert_ne!(active.variants[0].fleet, pending.variants[0].fleet);
    assert_eq!(pending.variants[0].n_instances, 3);
    let output = world.does("DescribeEndpoint", json!({ "EndpointName": "e" }));
    assert_eq!(output["EndpointConfigName"], "c");
    assert_eq!(output["ProductionVariants"][0]["DesiredInstanceCount"], 1);
    let pending = &output["PendingDeploymentSummary"];
    assert_eq!(pending["EndpointConfigName"], "c2");
    assert_eq!(pending["ProductionVariants"][0]["DesiredInstanceCount"], 3);
    assert_eq!(pending["ProductionVariants"][0]["VariantStatus"][0]["Status"], "Creating");
    world.settle("e");
    let output = world.does("DescribeEndpoint", json!({ "EndpointName": "e" }));
    assert_eq!(output["EndpointConfigName"], "c2");
}

#[test]
fn only_endpoints_in_service_are_updated() {
    use EndpointStatus::{Creating, Deleting, Failed, SystemUpdating, Updating};
    let mut world = World::with_endpoint();
    world.does("CreateEndpointConfig", config("c2", 1));
    let desired = capacities(json!([{ "VariantName": "v", "DesiredWeight": 2.0 }]));
    let arn = arn_of("endpoint", "e");
    for status in [Creating, Updating, Deleting, SystemUpdating] {
        world.set_status("e", status);
        let message = format!("Cannot update in-progress endpoint \"{arn}\".");
        world.refuses("UpdateEndpoint", update("c2"), &message);
        world.refuses(WEIGHTS, desired.clone(), &message);
    }
    world.set_status("e", Failed);
    let message = format!(
        "Cannot update endpoint \"{arn}\" with status \"Failed\": only an endpoint with status \
         \"InService\" can be updated."
    );
    world.refuses("UpdateEndpoint", update("c2"), &message);
    world.refuses(WEIGHTS, desired, &message);
}

#[test]
fn an_update_needs_another_configuration_that_is_there() {
    let world = World::with_endpoint();
    world.refuses(
        "UpdateEndpoint",
        update("c"),
        "Cannot update endpoint with the currently in use endpoint configuration.",
    );
    let arn = arn_of("endpoint-config", "c9");
    let message = format!("Could not find endpoint configuration \"{arn}\".");
    world.refuses("UpdateEndpoint", update("c9"), &message);
}

#[test]
fn an_update_counts_beside_what_serves() {
    let mut world = World::with_endpoint();
    world.does("CreateEndpointConfig", config("c7", 7));
    world.does("CreateEndpointConfig", config("c8", 8));
    world.refuses_for_limit(
        "UpdateEndpoint",
        update("c8"),
        "The account-level service limit 'ml.m5.large for endpoint usage' is 8 Instances, with \
         current utilization of 1 Instances and a request delta of 8 Instances.",
    );
    assert!(world.ask("UpdateEndpoint", &update("c7")).is_ok());
}

#[test]
fn variant_properties_are_retained_by_name() {
    let mut world = World::with_endpoint();
    world.does(
        WEIGHTS,
        capacities(
            json!([{ "VariantName": "v", "DesiredWeight": 0.5, "DesiredInstanceCount": 2 }]),
        ),
    );
    world.settle("e");
    let mut input = config("c2", 1);
    input["ProductionVariants"] = json!([variant("v", 1), variant("w", 1)]);
    world.does("CreateEndpointConfig", input);
    let pending = |retain: bool, excluded: Value| {
        let mut input = update("c2");
        input["RetainAllVariantProperties"] = json!(retain);
        input["ExcludeRetainedVariantProperties"] = excluded;
        let outcome = world.ask("UpdateEndpoint", &input).unwrap();
        let Change::PutEndpoint(endpoint) = &outcome.changes[0] else { panic!("an endpoint") };
        let variants = &endpoint.pending.as_ref().unwrap().variants;
        variants.iter().map(|it| (it.weight, it.n_instances)).collect::<Vec<_>>()
    };
    let excluded = |property: &str| json!([{ "VariantPropertyType": property }]);
    assert_eq!(pending(false, json!([])), [(1.0, 1), (1.0, 1)]);
    assert_eq!(pending(true, json!([])), [(0.5, 2), (1.0, 1)]);
    assert_eq!(pending(true, excluded("DesiredWeight")), [(1.0, 2), (1.0, 1)]);
    assert_eq!(pending(true, excluded("DesiredInstanceCount")), [(0.5, 1), (1.0, 1)]);
}

#[test]
fn deployment_policies_last_if_they_are_retained() {
    let mut world = World::with_endpoint();
    let policy = json!({ "AutoRollbackConfiguration": { "Alarms": [{ "AlarmName": "a" }] } });
    for name in ["c2", "c3", "c4"] {
        world.does("CreateEndpointConfig", config(name, 1));
    }
    let shown = |world: &mut World, input: Value| {
        world.does("UpdateEndpoint", input);
        world.settle("e");
        let output = world.does("DescribeEndpoint", json!({ "EndpointName": "e" }));
        output.get("LastDeploymentConfig").cloned()
    };
    let mut input = update("c2");
    input["DeploymentConfig"] = policy.clone();
    assert_eq!(shown(&mut world, input), Some(policy.clone()));
    let mut input = update("c3");
    input["RetainDeploymentConfig"] = json!(true);
    assert_eq!(shown(&mut world, input), Some(policy));
    assert_eq!(shown(&mut world, update("c4")), None);
}

#[test]
fn weights_and_capacities_change_on_the_same_fleet() {
    let mut world = World::with_endpoint();
    let mut endpoint = world.endpoint("e");
    endpoint.failure_reason = Some("of the update before".to_owned());
    world.put(endpoint);
    let desired = json!([{ "VariantName": "v", "DesiredWeight": 0.25, "DesiredInstanceCount": 3 }]);
    world.does(WEIGHTS, capacities(desired));
    let endpoint = world.endpoint("e");
    assert_eq!((endpoint.status, &endpoint.failure_reason), (EndpointStatus::Updating, &None));
    let (active, pending) = (endpoint.active.unwrap(), endpoint.pending.unwrap());
    assert_eq!(active.variants[0].fleet, pending.variants[0].fleet);
    let output = world.does("DescribeEndpoint", json!({ "EndpointName": "e" }));
    let variant = &output["ProductionVariants"][0];
    assert_eq!((&variant["CurrentWeight"], &variant["DesiredWeight"]), (&json!(1.0), &json!(0.25)));
    assert_eq!(variant["CurrentInstanceCount"], 1);
    assert_eq!(variant["DesiredInstanceCount"], 3);
    assert_eq!(variant["VariantStatus"][0]["Status"], "Updating");
    world.settle("e");
    // The fleet counts once: 3 of 8 are in use, and 8 are allowed.
    let all = |n: u32| capacities(json!([{ "VariantName": "v", "DesiredInstanceCount": n }]));
    assert!(world.ask(WEIGHTS, &all(8)).is_ok());
    world.refuses_for_limit(
        WEIGHTS,
        all(9),
        "The account-level service limit 'ml.m5.large for endpoint usage' is 8 Instances, with \
         current utilization of 3 Instances and a request delta of 6 Instances.",
    );
}

#[test]
fn weights_and_capacities_of_unknown_variants_are_refused() {
    let world = World::with_endpoint();
    world.refuses(
        WEIGHTS,
        capacities(json!([{ "VariantName": "w" }])),
        "The variant name(s) \"w\" is/are not present within endpoint configuration \"c\".",
    );
    world.refuses(
        WEIGHTS,
        capacities(json!([{ "VariantName": "v" }, { "VariantName": "v" }])),
        "Variant v is named more than once.",
    );
    world.refuses(
        WEIGHTS,
        capacities(json!([{ "VariantName": "v", "DesiredInstanceCount": 0 }])),
        "1 validation error detected: Value '0' at 'desiredWeightsAndCapacities.1.member.\
         desiredInstanceCount' failed to satisfy constraint: Member must have value greater than or \
         equal to 1",
    );
}
