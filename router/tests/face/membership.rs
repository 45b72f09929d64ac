//! How workers come, stay and go.

use crate::{
    instance::{Act, Instance, ok},
    router::{Router, eventually},
};

const PUT: &str = "PUT /manifold/v1/instances/a";

#[actix_web::test]
async fn a_heartbeat_is_answered_with_a_lease() {
    let router = Router::start(&["--lease-ms", "2500"]).await;
    let lease = router.heartbeat("a", "127.0.0.1:1".parse().unwrap(), "serving").await;
    assert_eq!((lease.status, lease.text().as_str()), (200, r#"{"lease_ms":2500}"#));
    let list = router.send("GET /manifold/v1/instances", "", b"").await.json();
    let expected = serde_json::json!([{
        "instance": "a", "address": "127.0.0.1:1", "boot_id": "1", "state": "serving",
        "budget_bytes": 1 << 30, "resident_bytes": 0, "n_resident": 0, "n_in_flight": 0,
        "n_slots": 1, "in_service": true,
    }]);
    assert_eq!(list, expected);
}

#[actix_web::test]
async fn what_is_no_heartbeat_is_refused() {
    let router = Router::start(&[]).await;
    let address = "127.0.0.1:1".parse().unwrap();
    for (line, body) in [
        (PUT, "{}".to_owned()),
        (PUT, "x".repeat(70_000)),
        ("PUT /manifold/v1/instances/a_b", "{}".to_owned()),
    ] {
        let answer = router.send(line, "", body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype")),
            (400, Some("ValidationError"))
        );
    }
    assert_eq!(router.heartbeat("a", "0.0.0.0:1".parse().unwrap(), "serving").await.status, 400);
    assert_eq!(router.heartbeat("a", address, "nonsense").await.status, 400);
    assert_eq!(router.n_in_service().await, 0);
}

#[actix_web::test]
async fn more_instances_than_allowed_wait() {
    let router = Router::start(&["--max-instances", "1"]).await;
    let address = "127.0.0.1:1".parse().unwrap();
    assert_eq!(router.heartbeat("a", address, "serving").await.status, 200);
    assert_eq!(router.heartbeat("b", address, "serving").await.status, 503);
}

#[actix_web::test]
async fn an_instance_that_drains_or_leaves_gets_nothing_new() {
    let instance = Instance::answering("a", Act::Send(ok("", "yes"))).await;
    let router = Router::with(&[], &[&instance]).await;
    assert_eq!(router.invoke("m", b"").await.status, 200);

    router.heartbeat("a", instance.address, "draining").await;
    eventually(async || router.invoke("m", b"").await.status == 503).await;
    router.heartbeat("a", instance.address, "serving").await;
    eventually(async || router.invoke("m", b"").await.status == 200).await;

    assert_eq!(router.send("DELETE /manifold/v1/instances/a", "", b"").await.status, 204);
    eventually(async || router.invoke("m", b"").await.status == 503).await;
}

#[actix_web::test]
async fn an_instance_that_falls_silent_is_lost() {
    let router = Router::start(&["--lease-ms", "50"]).await;
    router.heartbeat("a", "127.0.0.1:1".parse().unwrap(), "serving").await;
    eventually(async || router.n_in_service().await == 0).await;
    let metrics = router.metrics().await;
    assert!(metrics.contains(r#"router_instance_losses_total{reason="lease"} 1"#), "{metrics}");
}
