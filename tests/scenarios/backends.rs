//! Promise: a container that is not ours is as good an instance as a worker: its models come, go when it
//! has no room, and come again when it was started anew.

use driver::child::Stopped;
use serde_json::json;
use tests::{Backend, Cluster, archives, eventually};

/// What an echo that says so much takes; a backend with this budget has room for three or four of them.
const MODEL_BYTES: usize = 60_000;
const BUDGET: &str = "190000";
const N_MODELS: usize = 8;
const MAX_LOADED: usize = 4;

const SERVICE: &[u8] = b"
import os
def handle(data, context):
    if data is None:
        return
    body = bytes(data[0]['body'])
    if body == b'teapot':
        context.set_response_status(418, 'Teapot', 0)
        return ['short and stout']
    if body == b'missing':
        context.set_response_status(404, 'Not Found', 0)
        return ['no such customer']
    asked = context.get_request_header(0, 'x-amzn-sagemaker-custom-attributes')
    context.set_response_content_type(0, 'text/x-own')
    context.set_response_header(0, 'X-Amzn-SageMaker-Custom-Attributes', 'was ' + str(asked))
    return [body + b' by ' + str(os.getpid()).encode()]
";
const MANIFEST: &[u8] = br#"{"model": {"modelName": "own", "handler": "service.py:handle"}}"#;

fn service() -> Vec<u8> {
    archives::of_files(&[("MAR-INF/MANIFEST.json", MANIFEST), ("service.py", SERVICE)])
}

async fn cluster(backend: &Backend) -> Cluster {
    let flags = backend.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Cluster::builder().worker_flags(&flags).start().await
}

async fn publish(cluster: &Cluster) -> Vec<(String, String)> {
    let mut models = Vec::new();
    for model in 0..N_MODELS {
        let (name, text) = (format!("model-{model}.tar.gz"), model.to_string().repeat(MODEL_BYTES));
        cluster.publish(&name, archives::echo_that_says(&text, 100)).await;
        models.push((name, text));
    }
    models
}

async fn answers(cluster: &Cluster, model: &str) {
    let answer = cluster.client().invoke(model, b"x").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn models_leave_a_backend_that_has_no_room_and_come_again() {
    let backend = Backend::start(&["--memory-budget", BUDGET]).await;
    let cluster = cluster(&backend).await;
    let models = publish(&cluster).await;
    for _ in 0..3 {
        for (name, text) in &models {
            let answer = cluster.client().invoke(name, b"x").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().starts_with(&**text), "{name} is another model");
        }
    }
    let n_evicted = cluster.worker_metric("worker_evictions_total{reason=\"Backend\"}").await;
    assert!(n_evicted >= 12.0, "{n_evicted} left");
    let listed = backend.listed().await;
    assert!((1..=MAX_LOADED).contains(&listed.len()), "{listed:?}");
    eventually(async || backend.laid_out().len() == listed.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_want_more_models_than_fit_are_all_answered() {
    let backend = Backend::start(&["--memory-budget", BUDGET]).await;
    let cluster = cluster(&backend).await;
    let models = publish(&cluster).await;
    let invoke = async |client: usize| {
        for round in 0..10 {
            let (name, text) = &models[(client * 3 + round) % N_MODELS];
            let answer = cluster.client().invoke(name, b"x").await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert!(answer.text().starts_with(&**text), "{name} is another model");
        }
    };
    futures_util::future::join_all((0..3).map(invoke)).await;
}

#[tokio::test]
async fn what_a_model_of_a_backend_says_reaches_the_client_as_from_sagemaker() {
    let backend = Backend::start(&[]).await;
    let cluster = cluster(&backend).await;
    cluster.publish("own.mar", service()).await;
    let headers: [(&str, &[u8]); 2] = [
        ("x-amzn-sagemaker-custom-attributes", b"mine"),
        ("x-amzn-sagemaker-target-model", b"own.mar"),
    ];
    let answer = cluster.client().post("/endpoints/demo/invocations", &headers, b"hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().starts_with("hello by "), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/x-own");
    assert_eq!(answer.header("x-amzn-sagemaker-custom-attributes"), "was mine");
    for (body, status, text) in
        [("teapot", 418, "short and stout"), ("missing", 404, "no such customer")]
    {
        let failed = cluster.client().invoke("own.mar", body.as_bytes()).await;
        failed.expect_error(424, "ModelError");
        let said = failed.json();
        assert_eq!(
            (&said["OriginalStatusCode"], &said["OriginalMessage"]),
            (&json!(status), &json!(text))
        );
    }
    assert!(
        cluster.client().invoke("own.mar", b"x").await.is_warm(),
        "no model was taken for lost"
    );
}

#[tokio::test]
async fn a_model_that_its_backend_refuses_is_told_so_and_leaves_nothing() {
    let backend = Backend::start(&[]).await;
    let cluster = cluster(&backend).await;
    cluster.publish("broken.tar.gz", archives::of_files(&[("notes.txt", b"no model")])).await;
    let message =
        cluster.client().invoke("broken.tar.gz", b"x").await.expect_error(424, "ModelError");
    assert!(message.contains("the backend did not load the model (400)"), "{message}");
    eventually(async || backend.laid_out().is_empty()).await;
    assert!(backend.listed().await.is_empty());

    let gone = cluster.client().invoke("gone.tar.gz", b"x").await;
    gone.expect_error(400, "ValidationError");
}

#[tokio::test]
async fn a_backend_that_was_started_anew_in_between_loses_no_invocation() {
    let backend = Backend::start(&[]).await;
    let cluster = cluster(&backend).await;
    let models = cluster.publish_echo_models(3).await;
    for model in &models {
        answers(&cluster, model).await;
    }
    // Sooner than anybody looks.
    backend.restart().await;
    for model in &models {
        answers(&cluster, model).await;
        assert!(cluster.client().invoke(model, b"x").await.is_warm());
    }
    assert_eq!(backend.listed().await.len(), 3);
    eventually(async || backend.laid_out().len() == 3).await;
}

#[tokio::test]
async fn an_instance_serves_for_as_long_as_its_backend_does() {
    let backend = Backend::start(&[]).await;
    let cluster = cluster(&backend).await;
    let models = cluster.publish_echo_models(2).await;
    answers(&cluster, &models[0]).await;

    backend.kill().await;
    eventually(async || cluster.client().n_in_service().await == 0).await;
    let ping = reqwest::get(format!("{}/ping", cluster.worker(0).url().await)).await;
    assert_eq!(ping.expect("the agent answers").status(), 503);
    let refused = cluster.client().invoke(&models[0], b"x").await;
    refused.expect_error(503, "ServiceUnavailable");

    backend.restart().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;
    for model in &models {
        answers(&cluster, model).await;
    }

    backend.freeze().await;
    eventually(async || cluster.client().n_in_service().await == 0).await;
    backend.thaw().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;
    let answer = cluster.client().invoke(&models[1], b"x").await;
    assert!(answer.is_warm(), "one that hung has its models still: {}", answer.text());
}

#[tokio::test]
async fn an_agent_that_leaves_leaves_no_model_and_one_that_was_killed_is_tidied_up_after() {
    let backend = Backend::start(&[]).await;
    let cluster = cluster(&backend).await;
    let models = cluster.publish_echo_models(3).await;
    for model in &models {
        answers(&cluster, model).await;
    }
    cluster.worker(0).kill().await;
    assert_eq!((backend.listed().await.len(), backend.laid_out().len()), (3, 3));
    cluster.worker(0).restart().await;
    cluster.all_in_service().await;
    eventually(async || backend.listed().await.is_empty() && backend.laid_out().is_empty()).await;

    answers(&cluster, &models[0]).await;
    assert_eq!((backend.listed().await.len(), backend.laid_out().len()), (1, 1));
    assert_eq!(cluster.worker(0).stop().await, Stopped::Orderly);
    assert!(
        backend.listed().await.is_empty() && backend.laid_out().is_empty(),
        "{}",
        backend.log()
    );
}
