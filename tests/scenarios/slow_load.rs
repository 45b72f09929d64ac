//! Promise: an invocation waits for its model; if that takes too long the load goes on, and the
//! answer is one that stock clients repeat.

use tests::{Cluster, Fault, archives, eventually};

async fn stalled(router_flags: &[&str]) -> Cluster {
    let flags = [&["--deadline-ms", "1500"][..], router_flags].concat();
    let cluster = Cluster::builder().flaky_store().router_flags(&flags).start().await;
    cluster.publish("slow.tar.gz", archives::echo()).await;
    cluster.break_store(Fault::Stall);
    cluster
}

#[tokio::test]
async fn a_model_that_still_loads_at_the_deadline_is_503_with_a_retry_hint_and_goes_on_loading() {
    let cluster = stalled(&[]).await;

    let answer = cluster.client().invoke("slow.tar.gz", b"x").await;

    answer.expect_error(503, "ServiceUnavailable");
    let retry_after: u64 = answer.header("x-amz-retry-after").parse().expect("milliseconds");
    assert!(retry_after > 0);
    cluster.break_store(Fault::None);
    eventually(async || cluster.client().invoke("slow.tar.gz", b"x").await.status == 200).await;
}

#[tokio::test]
async fn a_flag_gives_awss_own_answer_instead() {
    let cluster = stalled(&["--answer-model-not-ready"]).await;
    let answer = cluster.client().invoke("slow.tar.gz", b"x").await;
    answer.expect_error(429, "ModelNotReadyException");
}
