//! How models move when instances leave and join.

use crate::{
    instance::{Act, Instance, ok, refusal},
    router::{Response, Router, eventually, model_preferring},
};
use serde_json::{Value, json};
use shared::api::error::ErrorKind;

async fn rehome(router: &Router, instance: &str, body: &Value) -> Response {
    let line = format!("POST /manifold/v1/instances/{instance}/rehome");
    router.send(&line, "", body.to_string().as_bytes()).await
}

async fn share(router: &Router, instance: &str) -> Response {
    router.send(&format!("GET /manifold/v1/instances/{instance}/share"), "", b"").await
}

fn artifact(model: &str) -> String {
    format!("s3://bucket/models/{model}")
}

fn resident(model: &str, fast_millicores: u32) -> Value {
    json!({
        "artifact": artifact(model), "resident_bytes": 10, "fast_millicores": fast_millicores,
        "slow_millicores": 0, "idle_ms": 5, "serves_stale": false, "is_bound": false,
    })
}

#[actix_web::test]
async fn a_model_of_a_leaving_instance_is_warmed_at_its_next_home() {
    let (leaving, next) = (
        Instance::answering("a", Act::Send(ok("", "a"))).await,
        Instance::answering("b", Act::Send(ok("", ""))).await,
    );
    let router = Router::with(&[], &[&leaving, &next]).await;
    let model = artifact(&model_preferring(&leaving, &[&leaving, &next]));
    router.heartbeat("a", leaving.address, "draining").await;

    let answer = rehome(&router, "a", &json!({"artifact": model, "serves_stale": true})).await;

    assert_eq!((answer.status, answer.json()), (200, json!({"instance": "b"})));
    let [warm] = &next.received()[..] else { panic!("{:?}", next.received()) };
    assert!(warm.head.starts_with("POST /manifold/v1/warm "), "{}", warm.head);
    assert_eq!(warm.header("x-manifold-artifact"), Some(&*model));
    assert_eq!(warm.header("x-manifold-on-deleted"), Some("serve-stale"));
    assert!(warm.header("x-manifold-deadline-ms").is_some());
}

#[actix_web::test]
async fn whoever_leaves_last_is_told_at_once_that_models_go_nowhere() {
    let (a, b) = (
        Instance::answering("a", Act::Send(ok("", ""))).await,
        Instance::answering("b", Act::Send(ok("", ""))).await,
    );
    let router = Router::with(&[], &[&a, &b]).await;
    let model = json!({"artifact": artifact("m")});
    for instance in [&a, &b] {
        router.heartbeat(&instance.id, instance.address, "draining").await;
    }
    eventually(async || router.metrics().await.contains(r#"{state="draining"} 2"#)).await;
    assert_eq!(rehome(&router, "a", &model).await.status, 410);

    assert_eq!(rehome(&router, "stranger", &model).await.status, 404);
    assert_eq!(rehome(&router, "a", &json!({"artifact": "nowhere"})).await.status, 400);
    assert_eq!(rehome(&router, "a", &json!({})).await.status, 400);
    assert!(b.received().is_empty());
}

#[actix_web::test]
async fn a_model_that_its_next_home_does_not_take_is_said_to_stay() {
    let full = refusal(ErrorKind::InsufficientMemory, "no room");
    let (leaving, next) = (
        Instance::answering("a", Act::Send(ok("", ""))).await,
        Instance::answering("b", Act::Send(full)).await,
    );
    let router = Router::with(&[], &[&leaving, &next]).await;
    let answer = rehome(&router, "a", &json!({"artifact": artifact("m")})).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("insufficient-memory"), "{}", answer.text());
}

#[actix_web::test]
async fn an_invocation_follows_its_model_and_spends_no_retry() {
    let gone = refusal(ErrorKind::Draining, "the instance is stopping");
    let leaving = |id: &'static str| Instance::answering(id, Act::Send(gone.clone()));
    let (a, b, c) = (leaving("a").await, leaving("b").await, leaving("c").await);
    let home = Instance::answering("d", Act::Send(ok("", "d"))).await;
    let no_retries = ["--max-tries", "1", "--retry-burst", "0", "--retry-per-second", "0"];
    let router = Router::with(&no_retries, &[&a, &b, &c, &home]).await;
    let model = model_preferring(&a, &[&a, &b, &c, &home]);
    for _ in 0..20 {
        let answer = router.invoke(&model, b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "d"));
    }
}

#[actix_web::test]
async fn a_joining_instance_is_told_what_will_be_its_own_hottest_first() {
    let joining = Instance::answering("b", Act::Send(ok("", ""))).await;
    // Which model is whose, the ring says: all that matters are names.
    let stand_in = Instance::answering("a", Act::Send(ok("", ""))).await;
    let both = [&stand_in, &joining];
    let (hers, his) = (model_preferring(&joining, &both), model_preferring(&stand_in, &both));
    let list = json!({"models": [resident(&his, 900), resident(&hers, 7)]}).to_string();
    let serving =
        Instance::answering("a", Act::Send(ok("content-type: application/json\r\n", &list))).await;
    let silent = Instance::answering("silent", Act::Die).await;

    let router = Router::with(&[], &[&serving]).await;
    router.heartbeat("b", joining.address, "joining").await;
    let answer = share(&router, "b").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"models": [resident(&hers, 7)]})));
    assert!(serving.received()[0].head.starts_with("GET /manifold/v1/models "));

    // One that says nothing takes nothing from the others.
    router.heartbeat("silent", silent.address, "draining").await;
    eventually(async || router.n_in_service().await == 2).await;
    assert_eq!(share(&router, "b").await.json()["models"].as_array().unwrap().len(), 1);
    assert_eq!(share(&router, "stranger").await.status, 404);
}

#[actix_web::test]
async fn the_first_instance_has_no_share() {
    let router = Router::start(&[]).await;
    router.heartbeat("a", "127.0.0.1:1".parse().unwrap(), "joining").await;
    let answer = share(&router, "a").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"models": []})));
}
