//! What routers and launchers ask of a worker besides invocations.

use crate::worker::Worker;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn models_below_a_prefix_are_let_go() {
    let worker = Worker::start(&[]).await;
    for name in ["one-a.tar", "one-b.tar", "two.tar"] {
        assert_eq!(worker.invoke(&worker.packed(name), &[]).await, 200);
    }
    let below = |name: &str| format!("file://{}/{name}", worker.models.path().display());
    let unload = |prefix: String| {
        worker.call(Method::DELETE, &format!("/manifold/v1/models?prefix={prefix}"))
    };

    let (status, body) = worker.json(unload(below("one"))).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "n_unloaded": 2 })));
    worker.has_on_disk(1).await;
    worker.shows("worker_resident_models 1\n").await;

    for prefix in ["", "/", "one", "s3://"] {
        assert_eq!(worker.json(unload(prefix.to_owned())).await.0, 400, "{prefix}");
    }
    assert_eq!(worker.json(worker.call(Method::DELETE, "/manifold/v1/models")).await.0, 400);
    assert_eq!(worker.json(worker.call(Method::PUT, "/manifold/v1/models")).await.0, 405);
}

#[tokio::test]
async fn a_budget_that_is_set_takes_the_place_of_the_flags() {
    let worker = Worker::start(&["--memory-budget", "5000000"]).await;
    let set = |body: Value| worker.call(Method::PUT, "/manifold/v1/budget").json(&body);
    let budget = json!({ "memory_budget_bytes": 3_000_000 });
    assert_eq!(set(budget).send().await.unwrap().status(), 204);
    worker.shows("worker_budget_bytes 3000000\n").await;

    for bad in [
        json!({ "memory_budget_bytes": 1000 }),
        json!({ "memory_budget_bytes": 1_u64 << 51 }),
        json!({ "memory_budget_bytes": -1 }),
        json!({ "memory_budget": 3_000_000 }),
        json!({}),
    ] {
        assert_eq!(worker.json(set(bad.clone())).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn bound_wider_nobody_lists_or_warms_models_lets_them_go_or_sets_the_budget() {
    let worker = Worker::start(&["--bind", "0.0.0.0:0", "--allow-unauthenticated"]).await;
    let budget = json!({ "memory_budget_bytes": 3_000_000 });
    let calls = [
        worker.call(Method::PUT, "/manifold/v1/budget").json(&budget),
        worker.call(Method::DELETE, "/manifold/v1/models?prefix=s3://bucket/"),
        worker.call(Method::POST, "/manifold/v1/warm"),
        worker.call(Method::GET, "/manifold/v1/models"),
    ];
    for call in calls {
        let (status, body) = worker.json(call).await;
        assert_eq!((status.as_u16(), &body["type"]), (403, &json!("forbidden")));
    }
}

#[tokio::test]
async fn a_model_is_warmed_without_being_invoked() {
    let worker = Worker::start(&[]).await;
    let address = worker.packed("a.tar");
    let warm = async |headers: &[(&str, &str)]| {
        let mut call = worker.call(Method::POST, "/manifold/v1/warm");
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        call.send().await.unwrap()
    };
    for expected in ["miss", "hit"] {
        let answer = warm(&[("x-manifold-artifact", &address)]).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-manifold-cache"]),
            (200, &expected.parse().unwrap())
        );
    }
    worker.shows("worker_invoke_seconds_count 0\n").await;
    worker.shows("worker_model_cache_misses_total 0\n").await;
    worker.shows("worker_warms_total{outcome=\"Loaded\"} 1\n").await;

    let absent = address.replace("a.tar", "b.tar");
    let disabled = ("x-manifold-cache-setting", "disabled");
    for (headers, status) in [
        (&[("x-manifold-artifact", &*absent)][..], 404),
        (&[("x-manifold-artifact", &address), disabled], 400),
        (&[("x-manifold-artifact", "nowhere")], 400),
        (&[], 400),
    ] {
        assert_eq!(warm(headers).await.status().as_u16(), status, "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_resident_is_listed() {
    let worker = Worker::start(&[]).await;
    let list = async || worker.json(worker.call(Method::GET, "/manifold/v1/models")).await;
    let (status, body) = list().await;
    assert_eq!((status.as_u16(), body), (200, json!({ "models": [] })));

    let (older, newer) = (worker.packed("a.tar"), worker.packed("b.tar"));
    assert_eq!(worker.invoke(&older, &[("x-manifold-on-deleted", "serve-stale")]).await, 200);
    assert_eq!(worker.invoke(&newer, &[]).await, 200);
    worker.load("named").await;

    let models = list().await.1["models"].as_array().unwrap().clone();
    let find = |name: &str| {
        let has = |it: &&Value| it["artifact"].as_str().unwrap().contains(name);
        models.iter().find(has).unwrap()
    };
    assert_eq!(models.len(), 3);
    assert_eq!(find("a.tar")["artifact"], json!(older));
    assert_eq!(
        (&find("a.tar")["serves_stale"], &find("b.tar")["serves_stale"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&find("named")["is_bound"], &find("a.tar")["is_bound"]),
        (&json!(true), &json!(false))
    );
}
