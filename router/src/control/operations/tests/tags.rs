//! Tags of the three kinds of resources.

use super::*;

fn tag(key: &str, value: &str) -> Value {
    json!({ "Key": key, "Value": value })
}

fn tags(n: std::ops::Range<usize>) -> Value {
    n.map(|n| tag(&format!("k{n}"), "")).collect()
}

#[test]
fn tags_are_added_changed_and_deleted_on_every_kind() {
    let mut world = World::with_endpoint();
    for arn in [arn_of("model", "m"), arn_of("endpoint-config", "c"), arn_of("endpoint", "e")] {
        let added = json!([tag("a", "1"), tag("b", "")]);
        let output = world.does("AddTags", json!({ "ResourceArn": arn, "Tags": added }));
        assert_eq!(output, json!({ "Tags": added }));
        let input = json!({ "ResourceArn": arn, "Tags": [tag("a", "2"), tag("é", "3")] });
        world.does("AddTags", input);
        let output = world.does("ListTags", json!({ "ResourceArn": arn, "MaxResults": 50 }));
        assert_eq!(output, json!({ "Tags": [tag("a", "2"), tag("b", ""), tag("é", "3")] }));
        let output = world.does("DeleteTags", json!({ "ResourceArn": arn, "TagKeys": ["a", "x"] }));
        assert_eq!(output, json!({}));
        let output = world.does("ListTags", json!({ "ResourceArn": arn }));
        assert_eq!(output, json!({ "Tags": [tag("b", ""), tag("é", "3")] }));
    }
}

#[test]
fn tags_given_at_creation_are_listed() {
    let mut world = World::with_config();
    let mut input = json!({ "EndpointName": "e", "EndpointConfigName": "c" });
    input["Tags"] = json!([tag("a", "1")]);
    world.does("CreateEndpoint", input.clone());
    let output = world.does("ListTags", json!({ "ResourceArn": arn_of("endpoint", "E") }));
    assert_eq!(output, json!({ "Tags": [tag("a", "1")] }));
    input["EndpointName"] = json!("f");
    input["Tags"] = json!([tag("a", "1"), tag("a", "2")]);
    world.refuses("CreateEndpoint", input.clone(), "Duplicate tag key: a");
    input["Tags"] = json!([tag("aws:x", "")]);
    world.refuses(
        "CreateEndpoint",
        input,
        "System prefix 'aws:' reserved for AWS usage in tag key: aws:x",
    );
}

#[test]
fn a_resource_has_at_most_fifty_tags() {
    let mut world = World::with_endpoint();
    let arn = arn_of("endpoint", "e");
    world.does("AddTags", json!({ "ResourceArn": arn, "Tags": tags(0..50) }));
    world.does("AddTags", json!({ "ResourceArn": arn, "Tags": tags(10..20) }));
    world.refuses(
        "AddTags",
        json!({ "ResourceArn": arn, "Tags": tags(50..51) }),
        "The request would give the resource 51 tags, more than 50.",
    );
    let input = json!({ "ResourceArn": arn, "NextToken": "x" });
    world.refuses("ListTags", input, "Invalid pagination token.");
}

#[test]
fn tags_of_unknown_resources_are_refused() {
    let world = World::with_endpoint();
    let unknown = arn_of("endpoint", "f");
    let message = format!("Could not find endpoint \"{unknown}\".");
    world.refuses("ListTags", json!({ "ResourceArn": unknown }), &message);
    world.refuses("AddTags", json!({ "ResourceArn": unknown, "Tags": [] }), &message);
    world.refuses("DeleteTags", json!({ "ResourceArn": unknown, "TagKeys": ["a"] }), &message);
    let elsewhere = arn_of("endpoint", "e").replace("us-east-1", "us-west-2");
    let message = format!("Could not find endpoint \"{elsewhere}\".");
    world.refuses("ListTags", json!({ "ResourceArn": elsewhere }), &message);
    let app = arn_of("app", "x");
    let message = format!("Could not find resource \"{app}\".");
    world.refuses("ListTags", json!({ "ResourceArn": app }), &message);
}
