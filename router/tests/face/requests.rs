//! Requests that say something wrong, and the exact answers.

use crate::{
    instance::{Act, Instance, ok},
    router::Router,
};

const INVOKE: &str = "POST /endpoints/demo/invocations";

async fn check(line: &str, headers: &str, expected: (u16, &str, &str)) {
    let router = Router::start(&[]).await;
    let (status, code, message) = expected;
    router.send(line, headers, b"body").await.check_error(status, code, message);
}

async fn check_target_model(value: &[u8], message: &str) {
    let router = Router::start(&[]).await;
    let head = format!("{INVOKE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n");
    let header = [b"x-amzn-sagemaker-target-model: ", value, b"\r\n"].concat();
    let request = [head.as_bytes(), &header, b"connection: close\r\n\r\nbody"].concat();
    router.send_raw(&request).await.check_error(400, "ValidationError", message);
}

#[actix_web::test]
async fn an_unknown_endpoint_is_named() {
    let text = "Endpoint nowhere of account 123456789012 not found.";
    let header = "x-amzn-sagemaker-target-model: a\r\n";
    let line = "POST /endpoints/nowhere/invocations";
    check(line, header, (400, "ValidationError", text)).await;
    // Also where the rest is wrong, too.
    check(line, "", (400, "ValidationError", text)).await;
}

#[actix_web::test]
async fn an_endpoint_name_is_decoded_before_it_is_judged() {
    let header = "x-amzn-sagemaker-target-model: a\r\n";
    let line = "POST /endpoints/a%2Fb%20c_%3F/invocations";
    let text = "1 validation error detected: Value 'a/b c_?' at 'endpointName' failed to satisfy \
                constraint: Member must satisfy regular expression pattern: \
                ^[a-zA-Z0-9](-*[a-zA-Z0-9])*";
    check(line, header, (400, "ValidationError", text)).await;
    let text = "1 validation error detected: Value '' at 'endpointName' failed to satisfy \
                constraint: Member must have length greater than or equal to 1";
    check("POST /endpoints//invocations", header, (400, "ValidationError", text)).await;

    let instance = Instance::answering("a", Act::Send(ok("", "yes"))).await;
    let router = Router::with(&[], &[&instance]).await;
    let answer = router.send("POST /endpoints/%64em%6F/invocations", header, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "yes"));
}

#[actix_web::test]
async fn a_missing_target_model_names_the_request() {
    let router = Router::start(&[]).await;
    let answer = router.send(INVOKE, "", b"body").await;
    let id = answer.header("x-amzn-requestid").unwrap();
    let text = format!("Request {id} is missing a target model header.");
    answer.check_error(400, "ValidationError", &text);
}

#[actix_web::test]
async fn a_malformed_target_model_is_refused_with_its_reason() {
    let detected = "1 validation error detected: ";
    let climbs = format!("{detected}invalid target model `../x`: it must not climb with `..`");
    check_target_model(b"../x", &climbs).await;
    let absolute = format!(
        "{detected}invalid target model `/x`: it must be relative to the endpoint's prefix"
    );
    check_target_model(b"/x", &absolute).await;
    let constraint = "at 'targetModel' failed to satisfy constraint: Member must";
    let empty = format!("{detected}Value '' {constraint} have length greater than or equal to 1");
    check_target_model(b"", &empty).await;
    let not_text = format!("{detected}Value {constraint} be valid UTF-8");
    check_target_model(b"caf\xe9.tar.gz", &not_text).await;
    let long = "x".repeat(1025);
    let too_long =
        format!("{detected}Value '{long}' {constraint} have length less than or equal to 1024");
    check_target_model(long.as_bytes(), &too_long).await;
}

/// SageMaker's API model knows one. Whoever repeats the header gets the model of the first, and
/// that one is also what the model sees.
#[actix_web::test]
async fn of_two_target_models_the_first_is_invoked() {
    let instance = Instance::answering("a", Act::Send(ok("", ""))).await;
    let router = Router::with(&[], &[&instance]).await;
    let headers = "x-amzn-sagemaker-target-model: first\r\nx-amzn-sagemaker-target-model: ../x\r\n";
    assert_eq!(router.send(INVOKE, headers, b"").await.status, 200);
    let received = instance.received();
    assert_eq!(received[0].header("x-manifold-artifact"), Some("s3://bucket/models/first"));
    assert_eq!(received[0].header("x-amzn-sagemaker-target-model"), Some("first"));
    assert_eq!(received[0].head.matches("target-model").count(), 1);
}

/// Where a proxy before us and we read different ends, one request would hide in another.
#[actix_web::test]
async fn a_body_with_a_length_and_in_chunks_is_refused() {
    let instance = Instance::answering("a", Act::Send(ok("", ""))).await;
    let router = Router::with(&[], &[&instance]).await;
    let head = format!(
        "{INVOKE} HTTP/1.1\r\nhost: localhost\r\nx-amzn-sagemaker-target-model: m\r\n\
         content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert_eq!(router.send_raw(head.as_bytes()).await.status, 400);
    assert!(instance.received().is_empty());
}

#[actix_web::test]
async fn an_unknown_variant_is_named() {
    let headers = "x-amzn-sagemaker-target-model: a\r\nx-amzn-sagemaker-target-variant: green\r\n";
    let text = "Variant green of endpoint demo of account 123456789012 not found.";
    check(INVOKE, headers, (400, "ValidationError", text)).await;
}

#[actix_web::test]
async fn a_variant_may_be_asked_for() {
    let instance = Instance::answering("a", Act::Send(ok("", ""))).await;
    let router = Router::with(&[], &[&instance]).await;
    let headers = "x-amzn-sagemaker-target-model: a\r\nx-amzn-sagemaker-target-variant: idle\r\n";
    let answer = router.send("POST /endpoints/once/invocations", headers, b"").await;
    assert_eq!(answer.header("x-amzn-invoked-production-variant"), Some("idle"));
}

#[actix_web::test]
async fn what_is_no_operation_says_so() {
    let unknown = "The requested operation is not recognized by the service.";
    check("POST /nonsense", "", (404, "UnknownOperationException", unknown)).await;
    let method = "The requested operation does not allow GET.";
    check("GET /endpoints/demo/invocations", "", (405, "UnknownOperationException", method)).await;
}

#[actix_web::test]
async fn unknown_endpoints_make_no_new_metric() {
    let router = Router::start(&[]).await;
    for n in 0..5 {
        router.invoke_endpoint(&format!("nowhere-{n}"), "a", b"").await;
    }
    let metrics = router.metrics().await;
    assert!(!metrics.contains("nowhere"), "{metrics}");
    let line = r#"router_invocations_total{endpoint="",variant="",outcome="client-error"} 5"#;
    assert!(metrics.contains(line), "{metrics}");
}
