//! Promise: a store that fails is said to fail, leaves nothing half done, and is asked again.

use std::fs;
use tests::{Cluster, Fault, archives};

/// Larger than any buffer on the way, so that a cut is one in the middle of the body.
const PADDING: usize = 3 << 20;

async fn broken(fault: Fault) -> Cluster {
    let cluster = Cluster::builder().flaky_store().start().await;
    cluster.publish("a.tar.gz", archives::echo_with_padding(PADDING)).await;
    cluster.break_store(fault);

    let answer = cluster.client().invoke("a.tar.gz", b"x").await;

    let message = answer.expect_error(503, "ServiceUnavailable");
    let expected = "The service is unable to handle the request now. Please try again.";
    assert_eq!(message, expected);
    let retry_after: u64 = answer.header("x-amz-retry-after").parse().expect("milliseconds");
    assert!(retry_after > 0);
    cluster
}

async fn heals(cluster: &Cluster) {
    cluster.break_store(Fault::None);
    let answer = cluster.client().invoke("a.tar.gz", b"x").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_store_that_answers_500_is_unavailable_and_asked_again() {
    let cluster = broken(Fault::InternalError).await;
    heals(&cluster).await;
}

#[tokio::test]
async fn a_truncated_download_is_never_served_and_leaves_no_file() {
    let cluster = broken(Fault::CutAfter(1 << 20)).await;
    let incoming = cluster.cache_folder(0).join("incoming");
    let left = fs::read_dir(incoming).expect("a worker makes its folders as it starts");
    assert_eq!(left.count(), 0);
    heals(&cluster).await;
}

#[tokio::test]
async fn a_store_that_stalls_does_not_hold_other_models() {
    let cluster = Cluster::builder().flaky_store().start().await;
    for model in ["warm.tar.gz", "cold.tar.gz"] {
        cluster.publish(model, archives::echo()).await;
    }
    assert_eq!(cluster.client().invoke("warm.tar.gz", b"x").await.status, 200);
    cluster.break_store(Fault::Stall);
    let client = cluster.client().clone();
    let cold = tokio::spawn(async move { client.invoke("cold.tar.gz", b"x").await });

    for _ in 0..50 {
        assert_eq!(cluster.client().invoke("warm.tar.gz", b"x").await.status, 200);
    }
    assert!(!cold.is_finished(), "the cold one waits for the store");

    cluster.break_store(Fault::None);
    let cold = cold.await.expect("the client does not panic");
    assert_eq!((cold.status, cold.text().as_str()), (200, "x"), "it is asked again by itself");
}
