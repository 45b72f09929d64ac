//! Promise: Python handlers are served as their old servers served them, and crash, hang and leak alone.

use futures_util::future::join_all;
use serde_json::json;
use tests::{Cluster, archives, eventually, processes};

/// Says which process it is, or dies, or asks for memory.
const SERVICE: &[u8] = b"
import os
def handle(data, context):
    if data is None:
        return
    body = bytes(data[0]['body'])
    if body == b'die':
        os._exit(7)
    if body == b'memory':
        raise MemoryError()
    if body == b'teapot':
        context.set_response_status(418, 'Teapot', 0)
        return ['short and stout']
    return [json_of(context, body)]

def json_of(context, body):
    return {'pid': os.getpid(), 'body': body.decode(), 'model': context.model_name,
            'attributes': context.get_request_header(0, 'x-amzn-sagemaker-custom-attributes')}
";

const MANIFEST: &[u8] = br#"{"model": {"modelName": "own", "handler": "service.py:handle"}}"#;

const SCRIPT: &[u8] = b"
import os, json
def model_fn(model_dir):
    with open(os.path.join(model_dir, 'factor.txt')) as file:
        return float(file.read())
def input_fn(data, content_type):
    assert content_type == 'application/json'
    return json.loads(data)
def predict_fn(data, model):
    return [it * model for it in data]
def output_fn(prediction, accept):
    return json.dumps(prediction), accept
";

fn service() -> Vec<u8> {
    archives::of_files(&[("MAR-INF/MANIFEST.json", MANIFEST), ("service.py", SERVICE)])
}

#[tokio::test]
async fn a_sagemaker_script_is_served_with_its_own_code_and_files() {
    let cluster = Cluster::builder().start().await;
    for (model, factor) in [("two.tar.gz", &b"2"[..]), ("ten.tar.gz", b"10")] {
        let files = [("code/inference.py", SCRIPT), ("factor.txt", factor)];
        cluster.publish(model, archives::of_files(&files)).await;
    }
    for (model, expected) in
        [("two.tar.gz", json!([2.0, 4.0])), ("ten.tar.gz", json!([10.0, 20.0]))]
    {
        let path = "/endpoints/demo/invocations";
        let headers: [(&str, &[u8]); 2] = [
            ("content-type", b"application/json"),
            ("x-amzn-sagemaker-target-model", model.as_bytes()),
        ];
        let answer = cluster.client().post(path, &headers, b"[1, 2]").await;
        assert_eq!((answer.status, answer.json()), (200, expected), "{}", cluster.logs());
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_handler_that_dies_fails_its_own_invocation_with_the_cause_and_no_other() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("own.mar", service()).await;
    cluster.publish("other.mar", service()).await;
    let other = cluster.client().invoke("other.mar", b"x").await.json();
    let before = cluster.client().invoke("own.mar", b"x").await.json();
    assert_eq!((&before["body"], &before["model"]), (&json!("x"), &json!("own.mar")));

    let died = cluster.client().invoke("own.mar", b"die").await;
    let message = died.expect_error(424, "ModelError");
    assert!(message.contains("the handler process exited with code 7"), "{message}");

    let after = cluster.client().invoke("own.mar", b"x").await;
    assert_eq!(after.status, 200, "{}", after.text());
    assert!(after.is_warm(), "the model stayed");
    assert_ne!(after.json()["pid"], before["pid"]);
    assert_eq!(cluster.client().invoke("other.mar", b"x").await.json()["pid"], other["pid"]);
}

#[tokio::test]
async fn what_a_handler_says_of_its_answer_reaches_the_client_as_from_sagemaker() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("own.mar", service()).await;
    let teapot = cluster.client().invoke("own.mar", b"teapot").await;
    teapot.expect_error(424, "ModelError");
    assert_eq!(teapot.json()["OriginalStatusCode"], 418);
    assert_eq!(teapot.json()["OriginalMessage"], "short and stout");
    let memory = cluster.client().invoke("own.mar", b"memory").await;
    memory.expect_error(424, "ModelError");
    assert_eq!(memory.json()["OriginalStatusCode"], 507);
}

#[tokio::test]
async fn no_handler_outlives_a_killed_worker() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("own.mar", service()).await;
    let answer = cluster.client().invoke("own.mar", b"x").await.json();
    let pid = u32::try_from(answer["pid"].as_u64().expect("it says")).expect("it is a number");
    assert!(processes::rss_bytes(pid).is_some());

    cluster.worker(0).kill().await;

    eventually(async || processes::rss_bytes(pid).is_none()).await;
}

#[tokio::test]
async fn loads_and_unloads_leave_no_process() {
    let cluster = Cluster::builder().start().await;
    let names: Vec<String> = (0..20).map(|idx| format!("model-{idx}.mar")).collect();
    for name in &names {
        cluster.publish(name, service()).await;
    }
    let answers = join_all(names.iter().map(|name| cluster.client().invoke(name, b"x"))).await;
    let pids: Vec<u32> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let pid = answer.json()["pid"].as_u64().expect("it says");
            u32::try_from(pid).expect("it is a number")
        })
        .collect();
    for name in &names {
        cluster.delete(name).await;
    }
    let worker = cluster.worker(0).url().await;
    let below = format!("{worker}/manifold/v1/models?prefix={}", cluster.models_url());
    let unloaded = reqwest::Client::new().delete(below).send().await.expect("the worker answers");
    assert!(unloaded.status().is_success(), "{unloaded:?}");

    eventually(async || pids.iter().all(|pid| processes::rss_bytes(*pid).is_none())).await;
}
