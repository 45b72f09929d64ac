//! How workers come, stay and go.

use crate::{
    instance::{Act, Instance, ok},
    router::{Router, eventually},
};
use shared::api::membership::MAX_HOT;

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
        (PUT, "x".repeat(170_000)),
        ("PUT /manifold/v1/instances/a_b", "{}".to_owned()),
    ] {
        let answer = router.send(line, "", body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype")),
            (400, Some("ValidationError"))
        );
    }
    assert_eq!(router.heartbeat("a", "127.0.0.1:0".parse().unwrap(), "serving").await.status, 400);
    assert_eq!(router.heartbeat("a", address, "nonsense").await.status, 400);
    assert_eq!(router.n_in_service().await, 0);
}

#[actix_web::test]
async fn a_heartbeat_with_as_many_hot_models_as_there_may_be_is_taken_whatever_their_names() {
    let router = Router::start(&[]).await;
    let hot = |n: usize, length: usize| {
        serde_json::json!({
            "artifact": format!("s3://bucket/{n:02}{}", r"\".repeat(length)),
            "fast_millicores": u32::MAX, "slow_millicores": u32::MAX,
        })
    };
    for (n_hot, length, status) in [(MAX_HOT, 511, 200), (MAX_HOT + 1, 1, 400)] {
        let hot: Vec<_> = (0..n_hot).map(|n| hot(n, length)).collect();
        let heartbeat = serde_json::json!({
            "instance": "a", "address": "127.0.0.1:1", "boot_id": "1", "state": "serving",
            "budget_bytes": 1 << 30, "resident_bytes": 0, "n_resident": 0, "n_in_flight": 0,
            "n_slots": 1, "hot": hot,
        });
        let answer = router.send(PUT, "", heartbeat.to_string().as_bytes()).await;
        assert_eq!(answer.status, status, "{n_hot}: {}", answer.text());
    }
}

#[actix_web::test]
async fn more_instances_than_allowed_wait() {
    let router = Router::start(&["--max-instances", "1"]).await;
    let address = "127.0.0.1:1".parse().unwrap();
    assert_eq!(router.heartbeat("a", address, "serving").await.status, 200);
    assert_eq!(router.heartbeat("b", address, "serving").await.status, 503);
}

#[actix_web::test]
async fn an_instance_gets_nothing_before_it_has_joined_and_after_it_has_left() {
    let instance = Instance::answering("a", Act::Send(ok("", "yes"))).await;
    let router = Router::with(&[], &[&instance]).await;
    router.heartbeat("a", instance.address, "joining").await;
    eventually(async || router.invoke("m", b"").await.status == 503).await;
    router.heartbeat("a", instance.address, "serving").await;
    eventually(async || router.invoke("m", b"").await.status == 200).await;
    router.heartbeat("a", instance.address, "draining").await;
    let metrics = async || router.metrics().await;
    eventually(async || metrics().await.contains(r#"router_instances{state="draining"} 1"#)).await;
    assert_eq!(router.invoke("m", b"").await.status, 200);

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

/// Otherwise anybody could have the router send requests into a network that only it can reach.
#[actix_web::test]
async fn nobody_registers_another_s_address() {
    let (foreign, router) = ("192.0.2.1:80".parse().unwrap(), Router::start(&[]).await);
    let text = "The heartbeat comes from 127.0.0.1 but registers 192.0.2.1. Where addresses are \
                translated, the router needs --allow-foreign-addresses.";
    let answer = router.heartbeat("a", foreign, "serving").await;
    answer.check_error(403, "AccessDeniedException", text);
    assert_eq!(router.n_in_service().await, 0);
    // The same address, as IPv6 writes it.
    let mapped = "[::ffff:127.0.0.1]:80".parse().unwrap();
    assert_eq!(router.heartbeat("a", mapped, "serving").await.status, 200);

    let router = Router::start(&["--allow-foreign-addresses"]).await;
    assert_eq!(router.heartbeat("a", foreign, "serving").await.status, 200);
}

#[actix_web::test]
async fn heartbeats_get_in_while_no_body_does() {
    let instance = Instance::answering("a", Act::Hold(ok("", "yes"))).await;
    let flags = ["--max-body", "1000", "--body-budget", "1000"];
    let router = Router::with(&flags, &[&instance]).await;
    let invoke = async { router.invoke("m", &[b'x'; 1000]).await };
    let beat = async {
        eventually(async || !instance.received().is_empty()).await;
        assert_eq!(router.invoke("m", &[b'x'; 1000]).await.status, 503);
        let status = router.heartbeat("a", instance.address, "serving").await.status;
        instance.release();
        status
    };
    let (served, status) = tokio::join!(invoke, beat);
    assert_eq!((served.status, status), (200, 200));
}

/// Else each restart of a router without etcd would fail invocations for a second.
#[actix_web::test]
async fn a_router_that_has_just_started_waits_for_the_first_heartbeats() {
    let instance = Instance::answering("a", Act::Send(ok("", "yes"))).await;
    let router = Router::start(&[]).await;
    let (served, _) = tokio::join!(router.invoke("m", b"x"), async {
        tokio::task::yield_now().await;
        router.heartbeat("a", instance.address, "serving").await
    });
    assert_eq!(served.status, 200, "{}", served.text());
}

/// A file each, and an instance that restarts often leaves many.
#[actix_web::test]
async fn connections_to_an_address_that_is_gone_are_closed() {
    let (before, after) = (
        Instance::answering("a", Act::Send(ok("", "before"))).await,
        Instance::answering("a", Act::Send(ok("", "after"))).await,
    );
    let router = Router::with(&[], &[&before]).await;
    assert_eq!(router.invoke("m", b"").await.text(), "before");
    assert_eq!(before.n_open(), 1);

    router.heartbeat("a", after.address, "serving").await;
    eventually(async || before.n_open() == 0).await;
    assert_eq!(router.invoke("m", b"").await.text(), "after");
    assert_eq!(after.n_open(), 1);
}
