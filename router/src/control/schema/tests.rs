use super::{operations::*, *};
use crate::control::error::ErrorCode;
use proptest::prelude::*;
use serde_json::{Value, json};

const INPUTS: [&Shape; 12] = [
    &CREATE_MODEL,
    &NAME_MODEL,
    &LIST,
    &CREATE_ENDPOINT_CONFIG,
    &NAME_ENDPOINT_CONFIG,
    &CREATE_ENDPOINT,
    &NAME_ENDPOINT,
    &LIST_ENDPOINTS,
    &UPDATE_ENDPOINT,
    &UPDATE_WEIGHTS_AND_CAPACITIES,
    &ADD_TAGS,
    &LIST_TAGS,
];

#[track_caller]
fn check(shape: &Shape, input: Value, message: &str) {
    let error = validate(shape, input).unwrap_err();
    assert_eq!(error.code, ErrorCode::Validation);
    assert_eq!(error.message, message);
}

#[track_caller]
fn check_type(shape: &Shape, input: Value, message: &str) {
    let error = validate(shape, input).unwrap_err();
    assert_eq!((error.code, &*error.message), (ErrorCode::Serialization, message));
}

#[test]
fn missing_members_must_not_be_null() {
    check(
        &CREATE_ENDPOINT,
        json!({ "EndpointName": null }),
        "2 validation errors detected: Value null at 'endpointName' failed to satisfy constraint: \
         Member must not be null; Value null at 'endpointConfigName' failed to satisfy constraint: \
         Member must not be null",
    );
}

#[test]
fn names_have_a_length_and_a_pattern() {
    check(
        &NAME_ENDPOINT,
        json!({ "EndpointName": "a_b" }),
        "1 validation error detected: Value 'a_b' at 'endpointName' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    );
    let long = "x".repeat(64);
    let error = validate(&NAME_ENDPOINT, json!({ "EndpointName": long })).unwrap_err();
    let start = format!(
        "2 validation errors detected: Value '{long}' at 'endpointName' failed to satisfy \
         constraint: Member must have length less than or equal to 63; Value "
    );
    assert!(error.message.starts_with(&start), "{}", error.message);
    assert!(validate(&NAME_ENDPOINT, json!({ "EndpointName": "x".repeat(63) })).is_ok());
}

#[test]
fn members_of_lists_are_named_by_their_place() {
    let variants = json!([
        { "VariantName": "a", "InitialInstanceCount": 0 },
        { "VariantName": "b", "InitialVariantWeight": -0.5, "VolumeSizeInGB": 513 },
    ]);
    check(
        &CREATE_ENDPOINT_CONFIG,
        json!({ "EndpointConfigName": "c", "ProductionVariants": variants }),
        "3 validation errors detected: Value '0' at 'productionVariants.1.member.\
         initialInstanceCount' failed to satisfy constraint: Member must have value greater than or \
         equal to 1; Value '-0.5' at 'productionVariants.2.member.initialVariantWeight' failed to \
         satisfy constraint: Member must have value greater than or equal to 0; Value '513' at \
         'productionVariants.2.member.volumeSizeInGB' failed to satisfy constraint: Member must \
         have value less than or equal to 512",
    );
}

#[test]
fn choices_are_listed() {
    check(
        &CREATE_MODEL,
        json!({ "ModelName": "m", "PrimaryContainer": { "Mode": "multi" } }),
        "1 validation error detected: Value 'multi' at 'primaryContainer.mode' failed to satisfy \
         constraint: Member must satisfy enum value set: [SingleModel, MultiModel]",
    );
    let input = |instance_type| {
        let variant = json!({ "VariantName": "a", "InstanceType": instance_type });
        json!({ "EndpointConfigName": "c", "ProductionVariants": [variant] })
    };
    let error = validate(&CREATE_ENDPOINT_CONFIG, input("ml.big")).unwrap_err();
    assert!(error.message.contains("Value 'ml.big' at 'productionVariants.1.member.instanceType'"));
    assert!(error.message.contains("ml.m5.large, "), "{}", error.message);
    assert!(validate(&CREATE_ENDPOINT_CONFIG, input("ml.m5.large")).is_ok());
}

#[test]
fn lists_have_bounds() {
    check(
        &CREATE_ENDPOINT_CONFIG,
        json!({ "EndpointConfigName": "c", "ProductionVariants": [] }),
        "1 validation error detected: Value '[]' at 'productionVariants' failed to satisfy \
         constraint: Member must have length greater than or equal to 1",
    );
    let tags: Vec<_> = (0..51).map(|n| json!({ "Key": format!("k{n}"), "Value": "" })).collect();
    let input = json!({ "ModelName": "m", "Tags": tags });
    let error = validate(&CREATE_MODEL, input).unwrap_err();
    assert!(error.message.contains(
        "at 'tags' failed to satisfy constraint: Member must have length \
                                    less than or equal to 50"
    ));
}

#[test]
fn plain_members_are_told_with_their_list() {
    let vpc = json!({ "SecurityGroupIds": ["sg-1", "!"], "Subnets": ["subnet-1"] });
    check(
        &CREATE_MODEL,
        json!({ "ModelName": "m", "VpcConfig": vpc }),
        "1 validation error detected: Value '[sg-1, !]' at 'vpcConfig.securityGroupIds' failed to \
         satisfy constraint: Member must satisfy constraint: [Member must have length less than or \
         equal to 32, Member must have length greater than or equal to 0, Member must satisfy \
         regular expression pattern: [-0-9a-zA-Z]+]",
    );
}

#[test]
fn environments_are_told_as_a_whole() {
    let environment = |key: &str, value: Value| {
        let container = json!({ "Environment": { key: value } });
        json!({ "ModelName": "m", "PrimaryContainer": container })
    };
    check(
        &CREATE_MODEL,
        environment("1A", json!("x")),
        "1 validation error detected: Value '{1A=x}' at 'primaryContainer.environment' failed to \
         satisfy constraint: Map keys must satisfy constraint: [Member must have length less than \
         or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy \
         regular expression pattern: [a-zA-Z_][a-zA-Z0-9_]*]",
    );
    let long = validate(&CREATE_MODEL, environment("A", json!("v".repeat(1025)))).unwrap_err();
    assert!(long.message.contains("Map value must satisfy constraint: [Member must have length"));
    check_type(
        &CREATE_MODEL,
        environment("A", json!(1)),
        "NUMBER_VALUE cannot be converted to String",
    );
}

#[test]
fn wrong_types_stop_the_parser() {
    check_type(
        &NAME_MODEL,
        json!({ "ModelName": 1 }),
        "NUMBER_VALUE cannot be converted to String",
    );
    check_type(
        &NAME_MODEL,
        json!({ "ModelName": {} }),
        "Start of structure or map found where not expected",
    );
    check_type(&LIST, json!({ "MaxResults": "1" }), "STRING_VALUE cannot be converted to Integer");
    check_type(&LIST, json!({ "MaxResults": 1.5 }), "DECIMAL_VALUE cannot be converted to Integer");
    let huge = json!({ "MaxResults": 5_000_000_000_u64 });
    check_type(&LIST, huge, "NUMBER_VALUE cannot be converted to Integer");
    let late = json!({ "CreationTimeAfter": true });
    check_type(&LIST, late, "TRUE_VALUE cannot be converted to Timestamp");
    check_type(&CREATE_MODEL, json!([]), "Start of list found where not expected");
    check_type(&CREATE_MODEL, json!("x"), "Unexpected field type");
}

#[test]
fn members_that_are_unknown_are_dropped() {
    let input =
        json!({ "ModelName": "m", "Newer": 1, "PrimaryContainer": { "Newest": [], "Image": "i" } });
    let known = validate(&CREATE_MODEL, input).unwrap();
    assert_eq!(
        Value::Object(known),
        json!({ "ModelName": "m", "PrimaryContainer": { "Image": "i" } })
    );
}

#[test]
fn violations_are_bounded() {
    let variants: Vec<_> = (0..10).map(|_| json!({ "InstanceType": "x".repeat(9999) })).collect();
    let input = json!({ "EndpointConfigName": "c", "ProductionVariants": variants });
    let error = validate(&CREATE_ENDPOINT_CONFIG, input).unwrap_err();
    assert!(error.message.starts_with("10 validation errors detected"));
    assert!(error.message.len() < 64 * 1024, "{}", error.message.len());
}

#[test]
fn patterns_that_look_around_mean_the_same_without() {
    let path = |path: &str| {
        let metrics = json!({ "MetricsEndpoints": [{ "MetricsEndpointPath": path }] });
        let container = json!({ "ContainerMetricsConfig": metrics });
        validate(&CREATE_MODEL, json!({ "ModelName": "m", "PrimaryContainer": container })).is_ok()
    };
    for good in ["/metrics", "/a.b/c", "/.a", "/.", "/a."] {
        assert!(path(good), "{good}");
    }
    for bad in ["/", "metrics", "/a/../b", "/..", "/a.."] {
        assert!(!path(bad), "{bad}");
    }
    let package = |name: &str| {
        let container = json!({ "ModelPackageName": name });
        validate(&CREATE_MODEL, json!({ "ModelName": "m", "PrimaryContainer": container })).is_ok()
    };
    assert!(package("a-b/1") && package("arn:aws:sagemaker:r:123456789012:model-package/p"));
    assert!(!package("a-") && !package("-a") && !package(""));
}

/// Compiles every pattern that the schemas reach.
fn compile_patterns(shape: &Shape) {
    match shape {
        Shape::Text(text) => assert!(text.violated_by("").len() <= 2),
        Shape::Map { key, value, .. } => {
            assert!(key.violated_by("").len() + value.violated_by("").len() <= 4);
        }
        Shape::List { member, .. } => compile_patterns(member),
        Shape::Structure(members) => members.iter().for_each(|it| compile_patterns(it.shape)),
        _ => {}
    }
}

#[test]
fn every_pattern_compiles() {
    INPUTS.into_iter().chain([&DELETE_TAGS]).for_each(compile_patterns);
}

/// Any JSON, with names of members in it, so that the walk gets somewhere.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: &str = "(ModelName|EndpointName|EndpointConfigName|ProductionVariants|VariantName\
        |PrimaryContainer|Containers|Environment|Tags|Key|Value|MaxResults|VpcConfig|Subnets\
        |InitialVariantWeight|DesiredWeightsAndCapacities|ResourceArn|[a-z]{0,3})";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,70}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(NAMES, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_input_makes_the_validator_panic(idx in 0..INPUTS.len(), input in any_json()) {
        if let Ok(known) = validate(INPUTS[idx], input) {
            // What passed once passes again, unchanged.
            let again = validate(INPUTS[idx], Value::Object(known.clone())).unwrap();
            prop_assert_eq!(known, again);
        }
    }
}
