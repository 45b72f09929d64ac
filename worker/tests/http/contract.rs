//! SageMaker's container contract, and `POST /invocations`.

use crate::worker::Worker;
use reqwest::Method;
use serde_json::json;
use std::fs;

#[tokio::test]
async fn a_model_is_loaded_listed_invoked_and_unloaded_by_name() {
    let worker = Worker::start(&[]).await;
    assert_eq!(worker.names("").await, (vec![], None));

    assert_eq!(worker.load("a").await.0, 200);
    let (status, model) = worker.json(worker.call(Method::GET, "/models/a")).await;
    let url = worker.model("a");
    assert_eq!(
        (status.as_u16(), &model["modelName"], &model["modelUrl"]),
        (200, &json!("a"), &json!(url))
    );

    let invoke = worker.call(Method::POST, "/models/a/invoke").body("hello");
    let answer = invoke.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "hello");

    let (status, _) = worker.json(worker.call(Method::DELETE, "/models/a")).await;
    assert_eq!(status, 200);
    assert_eq!(worker.names("").await, (vec![], None));
}

#[tokio::test]
async fn a_second_load_of_a_name_is_a_conflict() {
    let worker = Worker::start(&[]).await;
    worker.load("a").await;
    let (status, body) = worker.load("a").await;
    let expected = json!({
        "code": 409, "type": "ConflictStatusException", "message": "Model a is already registered."
    });
    assert_eq!((status.as_u16(), body), (409, expected));
}

#[tokio::test]
async fn what_is_not_loaded_is_not_found() {
    let worker = Worker::start(&[]).await;
    let calls = [
        worker.call(Method::GET, "/models/x"),
        worker.call(Method::DELETE, "/models/x"),
        worker.call(Method::POST, "/models/x/invoke"),
    ];
    for call in calls {
        let (status, body) = worker.json(call).await;
        assert_eq!((status.as_u16(), &body["message"]), (404, &json!("Model not found: x")));
    }
}

#[tokio::test]
async fn a_failed_load_leaves_the_name_free() {
    let worker = Worker::start(&[]).await;
    let url = worker.models.path().join("absent");
    let body = json!({ "model_name": "a", "url": url });
    let (status, _) = worker.json(worker.call(Method::POST, "/models").json(&body)).await;
    assert_eq!(status, 404);
    assert_eq!(worker.load("a").await.0, 200);
}

#[tokio::test]
async fn lists_come_in_pages_and_an_exactly_full_last_page_ends_them() {
    let worker = Worker::start(&[]).await;
    for name in ["a", "b", "c", "d"] {
        worker.load(name).await;
    }
    let (names, token) = worker.names("?limit=2").await;
    assert_eq!((names, token.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some("2")));
    let (names, token) = worker.names("?limit=2&next_page_token=2").await;
    assert_eq!((names, token), (vec!["c".to_owned(), "d".to_owned()], None));
}

#[tokio::test]
async fn a_load_that_finds_no_room_is_507() {
    let worker = Worker::start(&["--memory-budget", "1000"]).await;
    let model = worker.model("large");
    let hint = "[model]\nfile = \"model.pt\"\nmemory_bytes = 5000\n";
    fs::write(model.join("manifold.toml"), hint).unwrap();
    // A zip file without entries.
    fs::write(model.join("model.pt"), [&b"PK\x05\x06"[..], &[0; 18]].concat()).unwrap();
    let body = json!({ "model_name": "large", "url": model });
    let (status, body) = worker.json(worker.call(Method::POST, "/models").json(&body)).await;
    assert_eq!((status.as_u16(), &body["type"]), (507, &json!("InternalServerException")));
}

#[tokio::test]
async fn an_artifact_with_two_names_stays_until_both_are_gone() {
    let worker = Worker::start(&[]).await;
    let url = worker.model("shared");
    for name in ["a", "b"] {
        let body = json!({ "model_name": name, "url": url });
        assert_eq!(worker.json(worker.call(Method::POST, "/models").json(&body)).await.0, 200);
    }
    assert_eq!(worker.json(worker.call(Method::DELETE, "/models/a")).await.0, 200);

    let answer = worker.call(Method::POST, "/models/b/invoke").body("x").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["x-manifold-cache"].as_bytes()),
        (200, &b"hit"[..])
    );

    assert_eq!(worker.json(worker.call(Method::DELETE, "/models/b")).await.0, 200);
    let metrics = worker.call(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("worker_failed_loads_total 0"), "{metrics}");
    assert!(worker.names("").await.0.is_empty());
}

#[tokio::test]
async fn failed_invocations_are_counted_by_kind() {
    let worker = Worker::start(&[]).await;
    let call = worker.call(Method::POST, "/models/absent/invoke").body("x");
    assert_eq!(call.send().await.unwrap().status(), 404);
    let metrics = worker.call(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let line = "worker_failed_invocations_total{kind=\"model-not-found\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn malformed_calls_are_told_what_is_wrong() {
    let worker = Worker::start(&[]).await;
    for body in
        ["", "{", "{}", r#"{"model_name":"","url":"/x"}"#, r#"{"model_name":"a","url":"x"}"#]
    {
        let call = worker.call(Method::POST, "/models").body(body);
        assert_eq!(worker.json(call).await.0, 400, "{body}");
    }
    let (status, body) = worker.json(worker.call(Method::POST, "/invocations")).await;
    assert_eq!(status, 400);
    assert_eq!(body["message"], "header `x-manifold-artifact` is missing");
    let refused = worker.call(Method::PATCH, "/models").send().await.unwrap();
    assert_eq!(refused.headers()["x-manifold-error"], "method-not-allowed");
    assert_eq!(refused.status(), 405);
    assert_eq!(worker.json(worker.call(Method::GET, "/nothing")).await.0, 404);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let worker = Worker::start(&["--max-body-bytes", "400"]).await;
    worker.load("a").await;
    for (n_bytes, status) in [(400, 200), (401, 413)] {
        let call = worker.call(Method::POST, "/models/a/invoke").body("x".repeat(n_bytes));
        assert_eq!(call.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn an_invocation_by_address_loads_and_says_hit_or_miss() {
    let worker = Worker::start(&[]).await;
    let address = format!("file://{}", worker.model("a").display());
    for expected in ["miss", "hit"] {
        let call = worker.call(Method::POST, "/invocations").body("hello");
        let answer = call.header("x-manifold-artifact", &address).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-manifold-cache"], expected);
        assert_eq!(answer.headers().contains_key("x-manifold-load-ms"), expected == "miss");
        assert_eq!(answer.text().await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn files_outside_of_the_roots_are_forbidden() {
    let worker = Worker::start(&[]).await;
    std::os::unix::fs::symlink("/etc", worker.models.path().join("link")).unwrap();
    let link = format!("file://{}/link", worker.models.path().display());
    for address in ["file:///etc/passwd", &link] {
        let call = worker.call(Method::POST, "/invocations");
        let (status, body) = worker.json(call.header("x-manifold-artifact", address)).await;
        assert_eq!((status.as_u16(), &body["type"]), (403, &json!("forbidden")), "{address}");
    }
}

#[tokio::test]
async fn bound_wider_only_the_container_contract_is_served() {
    let worker = Worker::start(&["--bind", "0.0.0.0:0", "--allow-unauthenticated"]).await;
    let call = worker.call(Method::POST, "/invocations");
    let address = format!("file://{}", worker.model("a").display());
    let (status, body) = worker.json(call.header("x-manifold-artifact", address)).await;
    assert_eq!((status.as_u16(), &body["type"]), (403, &json!("forbidden")));
    assert_eq!(worker.load("a").await.0, 200);

    let bucket = json!({ "model_name": "b", "url": "s3://any-bucket/model.tar.gz" });
    let (status, _) = worker.json(worker.call(Method::POST, "/models").json(&bucket)).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_model_that_shall_not_be_cached_leaves_memory_and_disk() {
    let worker = Worker::start(&[]).await;
    let address = worker.packed("a.tar");
    assert_eq!(worker.invoke(&address, &[("x-manifold-cache-setting", "disabled")]).await, 200);
    worker.has_on_disk(0).await;
    worker.shows("worker_resident_models 0\n").await;

    assert_eq!(worker.invoke(&address, &[("x-manifold-cache-setting", "off")]).await, 400);
    assert_eq!(worker.invoke(&address, &[("x-manifold-on-deleted", "")]).await, 400);
}

#[tokio::test]
async fn a_deleted_model_answers_those_alone_who_want_it() {
    let worker = Worker::start(&["--revalidate-s", "0"]).await;
    let address = worker.packed("a.tar");
    let stale = [("x-manifold-on-deleted", "serve-stale")];
    assert_eq!(worker.invoke(&address, &stale).await, 200);
    fs::remove_file(worker.models.path().join("a.tar")).unwrap();

    assert_eq!(worker.invoke(&address, &[]).await, 404);
    assert_eq!(worker.invoke(&address, &stale).await, 200);
    worker.shows("worker_revalidations_total{outcome=\"Deleted\"}").await;
}
