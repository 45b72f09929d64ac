//! Models: what is refused, what is shown.

use super::*;

fn with_container(container: Value) -> Value {
    json!({ "ModelName": "m", "PrimaryContainer": container })
}

#[test]
fn a_model_is_shown_as_it_was_created() {
    let mut world = World::new();
    let mut input = multi_model("My-Model");
    input["Tags"] = json!([{ "Key": "k", "Value": "v" }]);
    input["ExecutionRoleArn"] = json!("arn:aws:iam::123456789012:role/service-role/x");
    let arn = arn_of("model", "my-model");
    assert_eq!(world.does("CreateModel", input.clone()), json!({ "ModelArn": arn }));
    let output = world.does("DescribeModel", json!({ "ModelName": "My-Model" }));
    let mut expected = input;
    expected.as_object_mut().unwrap().remove("Tags");
    expected["ModelArn"] = json!(arn);
    expected["CreationTime"] = json!(1000.5);
    expected["EnableNetworkIsolation"] = json!(false);
    assert_eq!(output, expected);
}

#[test]
fn models_are_deleted_and_gone() {
    let mut world = World::with_config();
    assert_eq!(world.does("DeleteModel", json!({ "ModelName": "m" })), json!({}));
    let message = format!("Could not find model \"{}\".", arn_of("model", "m"));
    for operation in ["DeleteModel", "DescribeModel"] {
        world.refuses(operation, json!({ "ModelName": "m" }), &message);
    }
}

#[test]
fn containers_that_mean_nothing_are_refused() {
    let mut world = World::new();
    let multi = json!({ "Image": "i", "Mode": "MultiModel", "ModelDataUrl": "s3://bkt/m/" });
    let single = json!({ "Image": "i", "ModelDataUrl": "s3://bkt/m.tar.gz" });
    for (input, message) in [
        (
            json!({ "ModelName": "m" }),
            "You must provide a PrimaryContainer or at least one container in Containers.",
        ),
        (
            json!({ "ModelName": "m", "Containers": [] }),
            "You must provide a PrimaryContainer or at least one container in Containers.",
        ),
        (
            json!({ "ModelName": "m", "PrimaryContainer": single, "Containers": [single] }),
            "You must provide either PrimaryContainer or Containers, not both.",
        ),
        (
            json!({ "ModelName": "m", "Containers": [multi, single, multi] }),
            "Only one container of a model can have the mode MultiModel.",
        ),
        (
            with_container(json!({ "Image": "i", "Mode": "MultiModel" })),
            "A container with the mode MultiModel must have a ModelDataUrl: the S3 prefix below \
             which its models lie.",
        ),
        (
            with_container(json!({ "ModelDataUrl": "s3://bkt/m" })),
            "A container must have an Image or a ModelPackageName.",
        ),
        (
            with_container(json!({ "Image": "i", "MultiModelConfig": {} })),
            "MultiModelConfig is only supported for a container with the mode MultiModel.",
        ),
        (
            with_container(json!({ "Image": "i", "ModelDataUrl": "https://example.com/bkt/m" })),
            "Could not find model data at https://example.com/bkt/m: `https://example.com/bkt/m` \
             is at no host of S3.",
        ),
    ] {
        world.refuses("CreateModel", input, message);
    }
    world.does("CreateModel", json!({ "ModelName": "p", "Containers": [multi, single] }));
}

#[test]
fn model_data_sources_are_not_for_many_models() {
    let world = World::new();
    let source = json!({
        "S3DataSource": { "S3Uri": "s3://bkt/m/", "S3DataType": "S3Prefix", "CompressionType": "None" },
    });
    let container = json!({ "Image": "i", "Mode": "MultiModel", "ModelDataSource": source });
    world.refuses(
        "CreateModel",
        with_container(container),
        "ModelDataSource is not supported for a container with the mode MultiModel.",
    );
    let both = json!({ "Image": "i", "ModelDataUrl": "s3://bkt/m", "ModelDataSource": source });
    world.refuses(
        "CreateModel",
        with_container(both),
        "A container can have a ModelDataUrl or a ModelDataSource, not both.",
    );
    let alone = json!({ "Image": "i", "ModelDataSource": source });
    assert!(world.ask("CreateModel", &with_container(alone)).is_ok());
}

#[test]
fn environments_have_32_kilobytes() {
    let world = World::new();
    let environment = |n: usize| {
        let pairs = (0..n).map(|n| (format!("K{n:02}"), json!("v".repeat(1021))));
        let environment: Map<String, Value> = pairs.collect();
        let mut input = multi_model("m");
        input["PrimaryContainer"]["Environment"] = Value::Object(environment);
        world.ask("CreateModel", &input)
    };
    assert!(environment(32).is_ok());
    assert_eq!(
        environment(33).unwrap_err().message,
        "The environment of a container has 33792 bytes, more than 32768."
    );
}

#[test]
fn model_data_is_found_before_the_model_is_created() {
    let input = json!({ "ModelName": "m", "Containers": [
        { "Image": "i" },
        { "Image": "i", "ModelDataUrl": "https://s3-us-west-2.amazonaws.com/bkt/a%20b/",
          "Mode": "MultiModel" },
    ]});
    let data = model_data_urls(input.as_object().unwrap(), &[]).unwrap();
    assert_eq!(data.len(), 1);
    assert!(data[0].is_multi_model);
    assert_eq!(String::from(data[0].url.clone()), "s3://bkt/a b/");
    assert_eq!(data[0].given, "https://s3-us-west-2.amazonaws.com/bkt/a%20b/");
}

#[test]
fn models_are_listed() {
    let mut world = World::new();
    for name in ["m1", "m2", "n3"] {
        world.does("CreateModel", multi_model(name));
    }
    let output = world.does("ListModels", json!({ "NameContains": "m", "MaxResults": 1 }));
    let newest = json!({
        "ModelName": "m2", "ModelArn": arn_of("model", "m2"), "CreationTime": 1001.5,
    });
    assert_eq!(output["Models"], json!([newest]));
    let input = json!({ "NameContains": "m", "NextToken": output["NextToken"] });
    let rest = world.does("ListModels", input);
    assert_eq!(rest["Models"][0]["ModelName"], "m1");
    assert_eq!(rest.get("NextToken"), None);
}
