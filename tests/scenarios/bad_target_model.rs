//! Promise: a bad name is refused with the error that SageMaker's clients know, and loads nothing.

use tests::{Cluster, TestAnswer};

const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";

/// Invokes the test endpoint with a target model as raw bytes, or without any.
async fn invoke(cluster: &Cluster, target_model: Option<&[u8]>) -> TestAnswer {
    let headers: Vec<(&str, &[u8])> =
        target_model.into_iter().map(|value| (TARGET_MODEL, value)).collect();
    cluster.client().post("/endpoints/demo/invocations", &headers, b"body").await
}

#[tokio::test]
async fn unknown_endpoint_is_named() {
    let cluster = Cluster::builder().start().await;
    let headers = [(TARGET_MODEL, b"a.tar.gz".as_slice())];

    let answer = cluster.client().post("/endpoints/nobody/invocations", &headers, b"").await;

    let message = answer.expect_error(400, "ValidationError");
    assert_eq!(message, "Endpoint nobody of account 123456789012 not found.");
}

#[tokio::test]
async fn missing_target_model_is_said_to_be_missing() {
    let cluster = Cluster::builder().start().await;

    let answer = invoke(&cluster, None).await;

    let message = answer.expect_error(400, "ValidationError");
    let request_id = answer.header("x-amzn-requestid");
    assert_eq!(message, format!("Request {request_id} is missing a target model header."));
}

#[tokio::test]
async fn malformed_target_models_are_refused_before_anything_is_fetched() {
    let cluster = Cluster::builder().start().await;
    let malformed = [
        ("../x", "it must not climb with `..`"),
        ("a/../../x", "it must not climb with `..`"),
        ("/etc/passwd", "it must be relative to the endpoint's prefix"),
        ("a//b", "it must not have empty or `.` parts"),
    ];
    // What SageMaker forbids, too, is said in its own words.
    let forbidden = [
        (String::new(), "have length greater than or equal to 1"),
        ("x".repeat(1025), "have length less than or equal to 1024"),
        ("a\tb".to_owned(), r"satisfy regular expression pattern: \A\S[\p{Print}]*\z"),
    ];

    for (target_model, reason) in malformed {
        let answer = invoke(&cluster, Some(target_model.as_bytes())).await;
        let message = answer.expect_error(400, "ValidationError");
        assert_eq!(
            message,
            format!("1 validation error detected: invalid target model `{target_model}`: {reason}")
        );
    }
    for (target_model, constraint) in forbidden {
        let answer = invoke(&cluster, Some(target_model.as_bytes())).await;
        let message = answer.expect_error(400, "ValidationError");
        assert_eq!(
            message,
            format!(
                "1 validation error detected: Value '{target_model}' at 'targetModel' failed to \
                 satisfy constraint: Member must {constraint}"
            )
        );
    }
    assert_eq!(cluster.client().instances().await[0].n_resident, 0);
}

#[tokio::test]
async fn target_model_that_is_not_utf8_is_refused() {
    let cluster = Cluster::builder().start().await;

    let answer = invoke(&cluster, Some(b"caf\xe9.tar.gz")).await;

    let message = answer.expect_error(400, "ValidationError");
    let expected = "1 validation error detected: Value at 'targetModel' failed to satisfy \
                    constraint: Member must be valid UTF-8";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn absent_object_is_named_with_its_bucket_and_key() {
    let cluster = Cluster::builder().start().await;

    let answer = invoke(&cluster, Some(b"no/such.tar.gz")).await;

    let message = answer.expect_error(400, "ValidationError");
    let expected = "Failed to download model data(bucket: manifold-test, key: \
                    models/no/such.tar.gz). Please ensure that there is an object located at the \
                    URL and that the role passed to CreateModel has permissions to download the \
                    object.";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn names_beyond_ascii_are_served() {
    let cluster = Cluster::builder().start().await;
    let model = "modèle d'été/モデル.tar.gz";
    cluster.publish(model, tests::archives::echo()).await;

    let answer = invoke(&cluster, Some(model.as_bytes())).await;

    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
}
