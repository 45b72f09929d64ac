//! Promise: nothing is computed for clients that have hung up.

use tests::{Cluster, archives};
use tokio::task::JoinSet;

const MODEL: &str = "slow.tar.gz";
const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

const N_CLIENTS: usize = 16;

/// More than what runs, or is just about to, when the clients go; far less than what they asked for.
const MAX_RUN: f64 = 10.0;

#[tokio::test(flavor = "multi_thread")]
async fn invocations_whose_clients_have_gone_do_not_run() {
    let cluster = Cluster::builder().memory_budget(2 << 30).start().await;
    cluster.publish(MODEL, archives::zoo("resnet_152.tar.gz")).await;
    let mut clients = JoinSet::new();
    for _ in 0..N_CLIENTS {
        let client = cluster.client().clone();
        clients.spawn(async move { client.invoke(MODEL, CAT).await.status });
    }
    let first = clients.join_next().await.expect("there are clients");
    assert_eq!(first.expect("a client does not panic"), 200);

    clients.shutdown().await;

    // It is served after whatever is still to run.
    let answer = cluster.client().invoke(MODEL, CAT).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let n_run = cluster.worker_metric("worker_invoke_seconds_count").await;
    assert!(n_run < MAX_RUN, "{n_run} invocations ran");
}
