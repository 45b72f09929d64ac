//! What programs of Multi Model Server's users send, and expect.

use crate::worker::Worker;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::fs;

/// Says what it was given.
const SERVICE: &str = r"
import os
def handle(data, context):
    if data is None:
        return None
    told = [{k: bytes(v).decode() for k, v in it.items()} for it in data]
    return [dict(it, batch=len(data), size=context.system_properties['batch_size'], pid=os.getpid()) for it in told]
";

impl Worker {
    /// A folder whose handler is [`SERVICE`]; nothing in it says so.
    fn service(&self, name: &str) -> String {
        let folder = self.models.path().join(name).join("model");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("service.py"), SERVICE).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    async fn register(&self, name: &str, query: &str) -> (StatusCode, Value) {
        let url = self.service(name);
        let path = format!("/models?model_name={name}&url={url}&handler=service:handle{query}");
        self.json(self.call(Method::POST, &path)).await
    }

    async fn told(&self, call: RequestBuilder) -> Value {
        let (status, told) = self.json(call).await;
        assert_eq!(status, 200, "{told}");
        told
    }

    async fn n_workers(&self, name: &str) -> usize {
        let (_, model) = self.json(self.call(Method::GET, &format!("/models/{name}"))).await;
        model["workers"].as_array().unwrap().len()
    }
}

fn status(text: &str) -> Value {
    json!({ "status": text })
}

#[tokio::test]
async fn a_model_is_registered_by_query_described_and_unregistered() {
    let worker = Worker::start(&[]).await;
    let query = "&batch_size=4&max_batch_delay=20&initial_workers=2&synchronous=true";
    assert_eq!(worker.register("m", query).await, (StatusCode::OK, status("Workers scaled")));

    let model = worker.told(worker.call(Method::GET, "/models/m")).await;
    for (member, expected) in [
        ("modelName", json!("m")),
        ("runtime", json!("python")),
        ("minWorkers", json!(2)),
        ("maxWorkers", json!(2)),
        ("batchSize", json!(4)),
        ("maxBatchDelay", json!(20)),
        ("loadedAtStartup", json!(false)),
    ] {
        assert_eq!(model[member], expected, "{member}");
    }
    let workers = model["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert!(
        workers.iter().all(|it| it["status"] == "READY" && it["memoryUsage"].as_u64() > Some(0))
    );
    assert!(workers[0]["startTime"].as_str().unwrap().ends_with('Z'));

    let gone = worker.json(worker.call(Method::DELETE, "/models/m")).await;
    assert_eq!(gone, (StatusCode::OK, status("Model \"m\" unregistered")));
    assert_eq!(worker.json(worker.call(Method::GET, "/models/m")).await.0, 404);
}

#[tokio::test]
async fn a_model_may_be_invoked_by_each_of_the_paths() {
    let worker = Worker::start(&[]).await;
    worker.register("m", "").await;
    for (path, page) in [
        ("/models/m/invoke?page=7", json!("7")),
        ("/m/predict?page=7", json!("7")),
        ("/invocations?model_name=m&page=7", json!("7")),
        ("/invocations", Value::Null),
        ("/predictions/m?page=7", Value::Null),
    ] {
        let told = worker.told(worker.call(Method::POST, path).body("x")).await;
        assert_eq!((&told["body"], &told["page"]), (&json!("x"), &page), "{path}");
    }
}

#[tokio::test]
async fn a_form_is_taken_apart() {
    let worker = Worker::start(&[]).await;
    worker.register("m", "").await;
    let call = worker.call(Method::POST, "/predictions/m").body("data=a+b&top=5");
    let call = call.header("content-type", "application/x-www-form-urlencoded");
    let told = worker.told(call).await;
    assert_eq!((&told["data"], &told["top"]), (&json!("a b"), &json!("5")));
    assert_eq!(told["body"], Value::Null);
}

#[tokio::test]
async fn processes_are_added_taken_away_and_none_is_an_answer_too() {
    let worker = Worker::start(&[]).await;
    let idle = worker.register("m", "&initial_workers=0").await;
    assert_eq!(idle, (StatusCode::OK, status("Model \"m\" registered")));
    let invoke = || worker.call(Method::POST, "/models/m/invoke").body("x");
    let (refused, body) = worker.json(invoke()).await;
    assert_eq!((refused.as_u16(), &body["type"]), (503, &json!("ServiceUnavailableException")));
    let scale = async |query: &str| {
        let call = worker.call(Method::PUT, &format!("/models/m?synchronous=true&{query}"));
        assert_eq!(worker.json(call).await, (StatusCode::OK, status("Workers scaled")), "{query}");
        worker.n_workers("m").await
    };
    assert_eq!(scale("min_worker=1").await, 1);
    assert_eq!(scale("min_worker=3").await, 3);
    assert_eq!(scale("min_worker=1&max_worker=2").await, 2);
    worker.told(invoke()).await;
    assert_eq!(scale("min_worker=0").await, 0);
    assert_eq!(worker.json(invoke()).await.0, 503);
    assert_eq!(scale("min_worker=1").await, 1);
    worker.told(invoke()).await;
}

#[tokio::test]
async fn a_load_nobody_waits_for_is_accepted_and_listed_when_it_serves() {
    let worker = Worker::start(&[]).await;
    let accepted = worker.register("m", "&synchronous=false").await;
    assert_eq!(accepted, (StatusCode::ACCEPTED, status("Processing worker updates...")));
    worker.shows("worker_resident_models 1\n").await;
    let scaled = worker.json(worker.call(Method::PUT, "/models/m?min_worker=1")).await;
    assert_eq!(scaled, (StatusCode::ACCEPTED, status("Processing worker updates...")));
}

#[tokio::test]
async fn errors_are_told_by_the_names_that_programs_know() {
    let worker = Worker::start(&[]).await;
    worker.register("m", "").await;
    for (method, path, code, kind, message) in [
        (Method::POST, "/models", 400, "BadRequestException", "Parameter url is required."),
        (Method::GET, "/models/x", 404, "ModelNotFoundException", "Model not found: x"),
        (Method::PUT, "/models/x", 404, "ModelNotFoundException", "Model not found: x"),
        (Method::POST, "/predictions/x", 404, "ModelNotFoundException", "Model not found: x"),
        (
            Method::PUT,
            "/models/m?min_worker=2&max_worker=1",
            400,
            "BadRequestException",
            "max_worker cannot be less than min_worker.",
        ),
        (
            Method::PATCH,
            "/models",
            405,
            "MethodNotAllowedException",
            "Requested method is not allowed, please refer to API document.",
        ),
        (
            Method::GET,
            "/",
            405,
            "MethodNotAllowedException",
            "Requested method is not allowed, please refer to API document.",
        ),
        (
            Method::GET,
            "/nothing/at/all",
            404,
            "ResourceNotFoundException",
            "Requested resource is not found, please refer to API document.",
        ),
    ] {
        let told = worker.json(worker.call(method, path)).await;
        let expected = json!({ "code": code, "type": kind, "message": message });
        assert_eq!((told.0.as_u16(), told.1), (code, expected), "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_does_not_load_says_why_and_leaves_the_name_free() {
    let worker = Worker::start(&[]).await;
    let url = worker.service("m");
    let path = format!("/models?model_name=m&url={url}&handler=absent:handle");
    let (status, told) = worker.json(worker.call(Method::POST, &path)).await;
    assert_eq!((status.as_u16(), &told["type"]), (500, &json!("InternalServerException")));
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("Failed to start workers: "), "{message}");
    assert!(message.contains("absent"), "{message}");
    assert_eq!(worker.register("m", "").await.0, 200);
}

#[tokio::test]
async fn an_artifact_runs_as_its_first_name_wants_until_that_is_gone() {
    let worker = Worker::start(&[]).await;
    worker.register("m", "&batch_size=2").await;
    let url = worker.service("m");
    let path = format!("/models?model_name=n&url={url}&handler=service:handle");
    let (status, told) = worker.json(worker.call(Method::POST, &path)).await;
    assert_eq!((status.as_u16(), &told["type"]), (409, &json!("ConflictStatusException")));
    worker.json(worker.call(Method::DELETE, "/models/m")).await;
    assert_eq!(worker.json(worker.call(Method::POST, &path)).await.0, 200);
}

#[tokio::test]
async fn what_is_served_is_described_as_open_api() {
    let worker = Worker::start(&[]).await;
    for call in [
        worker.call(Method::GET, "/api-description"),
        worker.call(Method::OPTIONS, "/"),
        worker.call(Method::OPTIONS, "/predictions/m"),
    ] {
        let api = worker.told(call).await;
        assert_eq!(api["openapi"], "3.0.1");
        assert!(api["paths"]["/models/{model_name}"]["put"].is_object());
    }
    assert_eq!(worker.told(worker.call(Method::GET, "/ping")).await, status("Healthy"));
}
