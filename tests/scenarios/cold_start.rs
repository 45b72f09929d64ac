//! Promise: a model is served from its first invocation on; nobody has to load it.

use futures_util::future::join_all;
use tests::{Cluster, archives};

#[tokio::test]
async fn first_invocation_waits_for_the_load_and_is_answered() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("tenant/model.tar.gz", archives::echo()).await;

    let cold = cluster.client().invoke("tenant/model.tar.gz", b"hello").await;

    assert_eq!((cold.status, cold.text().as_str()), (200, "hello"));
    assert_eq!(cold.header("x-manifold-cache"), "miss");
    assert!(cold.header("x-manifold-load-ms").parse::<f64>().is_ok(), "{:?}", cold.headers);
    assert_eq!(cold.instance(), cluster.worker(0).id());
}

#[tokio::test]
async fn model_uploaded_later_is_served_without_touching_the_endpoint() {
    let cluster = Cluster::builder().start().await;
    let before = cluster.client().invoke("later.tar.gz", b"").await;
    before.expect_error(400, "ValidationError");

    cluster.publish("later.tar.gz", archives::echo()).await;

    let after = cluster.client().invoke("later.tar.gz", b"now").await;
    assert_eq!((after.status, after.text().as_str()), (200, "now"));
}

#[tokio::test]
async fn concurrent_first_invocations_are_all_answered_by_one_replica() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("model.tar.gz", archives::echo_with_padding(4 << 20)).await;

    let invocations = (0..16).map(|_| cluster.client().invoke("model.tar.gz", b"x"));
    let answers = join_all(invocations).await;

    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    for once in ["worker_artifact_fetch_seconds_count", "worker_model_load_seconds_count"] {
        let n_times = cluster.worker_metric(once).await;
        assert!((n_times - 1.0).abs() < f64::EPSILON, "{once} is {n_times}");
    }
}

#[tokio::test]
async fn concurrent_first_invocations_at_two_routers_are_all_answered_by_one_replica() {
    let cluster = Cluster::builder().workers(2).routers(2).start().await;
    cluster.publish("model.tar.gz", archives::echo_with_padding(4 << 20)).await;

    let clients = cluster.clients();
    let invocations = (0..16).map(|idx| clients[idx % 2].invoke("model.tar.gz", b"x"));
    let answers = join_all(invocations).await;

    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let n_loads = cluster.worker_metric("worker_model_load_seconds_count").await;
    assert!((n_loads - 1.0).abs() < f64::EPSILON, "{n_loads} loads");
}
