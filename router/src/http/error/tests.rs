use super::*;
use crate::config::Config;
use clap::Parser as _;
use serde_json::{Value, json};

fn config(flags: &[&str]) -> Config {
    Config::parse_from(["router"].iter().chain(flags))
}

/// What a client gets for a refusal: status, name, and body.
fn refused(kind: Option<ErrorKind>, status: u16, message: &str) -> (u16, &'static str, Value) {
    let refusal = Refusal { status, kind, message: message.to_owned() };
    of(&InvokeError::Instance(InstanceError::Refused(refusal)), &config(&[]))
}

fn of(error: &InvokeError, config: &Config) -> (u16, &'static str, Value) {
    let subject = Subject {
        endpoint: "demo".parse().unwrap(),
        artifact: "s3://bucket/models/a.tar.gz".parse().unwrap(),
        config: &config.dispatch,
    };
    let error = ApiError::of_invoke(error, &subject, &config.identity);
    (error.status.as_u16(), error.code, serde_json::to_value(&error.body).unwrap())
}

#[track_caller]
fn check_kind(kind: ErrorKind, status: u16, code: &str, original_status: Option<u16>) {
    let (got_status, got_code, body) = refused(Some(kind), kind.status(), "why");
    assert_eq!((got_status, got_code), (status, code), "{kind}");
    assert_eq!(body["OriginalStatusCode"], json!(original_status), "{kind}");
}

#[test]
fn every_kind_has_its_status_and_name() {
    use ErrorKind as K;
    for (kind, status, code, original) in [
        (K::BadRequest, 500, "InternalFailure", None),
        (K::Untrusted, 503, "ServiceUnavailable", None),
        (K::Forbidden, 400, "ValidationError", None),
        (K::ModelNotFound, 500, "InternalFailure", None),
        (K::AlreadyLoaded, 500, "InternalFailure", None),
        (K::ArtifactNotFound, 400, "ValidationError", None),
        (K::BadArtifact, 424, "ModelError", Some(400)),
        (K::StoreUnavailable, 503, "ServiceUnavailable", None),
        (K::InsufficientMemory, 424, "ModelError", Some(507)),
        (K::StillLoading, 503, "ServiceUnavailable", None),
        (K::Overloaded, 503, "ServiceUnavailable", None),
        (K::Draining, 503, "ServiceUnavailable", None),
        (K::BadInput, 424, "ModelError", Some(400)),
        (K::UnsupportedMediaType, 424, "ModelError", Some(415)),
        (K::NotAcceptable, 424, "ModelError", Some(406)),
        (K::ModelFailed, 424, "ModelError", Some(500)),
        (K::TimedOut, 424, "ModelError", Some(0)),
    ] {
        check_kind(kind, status, code, original);
    }
}

#[test]
fn a_model_error_has_its_five_members() {
    let (status, code, body) = refused(Some(ErrorKind::BadInput), 400, "shape is wrong");
    assert_eq!((status, code), (424, "ModelError"));
    let expected = json!({
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
        "LogStreamArn":
            "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/demo",
        "Message":
            "Received client error (400) from primary with message \"shape is wrong\". See \
             https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1\
             #logEventViewer:group=/aws/sagemaker/Endpoints/demo in account 123456789012 for \
             more information.",
        "OriginalMessage": "shape is wrong",
        "OriginalStatusCode": 400,
    });
    assert_eq!(body, expected);
}

#[test]
fn an_error_of_the_models_own_code_is_a_model_error_too() {
    let (status, _, body) = refused(None, 418, "teapot");
    assert_eq!(status, 424);
    assert_eq!(body["OriginalStatusCode"], 418);
    assert_eq!(body["OriginalMessage"], "teapot");
    let (_, _, body) = refused(None, 502, "");
    assert_eq!(body["ErrorCode"], "INTERNAL_FAILURE_FROM_MODEL");
}

#[test]
fn an_endless_error_text_leaves_room_for_where_to_look() {
    let (_, _, body) = refused(None, 500, &"ü".repeat(60_000));
    let message = body["Message"].as_str().unwrap();
    assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
    assert!(message.ends_with("in account 123456789012 for more information."));
    assert_eq!(body["OriginalMessage"].as_str().unwrap().chars().count(), MAX_ORIGINAL_CHARS);
}

#[test]
fn a_time_out_has_sagemakers_text() {
    let error = InvokeError::Instance(InstanceError::TimedOut);
    let (_, _, body) = of(&error, &config(&[]));
    assert_eq!(
        body["OriginalMessage"],
        "Your invocation timed out while waiting for a response from container primary. Review \
         the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try \
         again."
    );
}

#[test]
fn an_absent_object_names_bucket_and_key() {
    let (_, _, body) = refused(Some(ErrorKind::ArtifactNotFound), 404, "");
    let message = "Failed to download model data(bucket: bucket, key: models/a.tar.gz). Please \
                   ensure that there is an object located at the URL and that the role passed to \
                   CreateModel has permissions to download the object.";
    assert_eq!(body, json!({ "Message": message }));
}

#[test]
fn a_loading_model_is_a_503_unless_aws_own_answer_is_asked_for() {
    let kind = Some(ErrorKind::StillLoading);
    let refusal = Refusal { status: 503, kind, message: String::new() };
    let error = InvokeError::Instance(InstanceError::Refused(refusal));
    let (status, code, _) = of(&error, &config(&["--answer-model-not-ready"]));
    assert_eq!((status, code), (429, "ModelNotReadyException"));
}

#[test]
fn a_refused_body_says_the_limit() {
    let error = ApiError::of_body(&BodyError::TooLarge(7), &config(&[]).dispatch);
    assert_eq!((error.status.as_u16(), error.code), (413, "ValidationError"));
    assert!(error.body.message.ends_with("less than or equal to 7"), "{}", error.body.message);
}
