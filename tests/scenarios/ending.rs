//! Promise: a process that is asked to end, ends, whatever it computes.

use driver::child::Stopped;
use tests::{Cluster, archives, eventually};

const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

#[tokio::test]
async fn worker_that_still_loads_ends_without_an_abort() {
    let no_patience = ["--drain-timeout-s", "0"];
    let cluster =
        Cluster::builder().memory_budget(2 << 30).worker_flags(&no_patience).start().await;
    cluster.publish("slow.tar.gz", archives::zoo("resnet_152.tar.gz")).await;
    let client = cluster.client().clone();
    let invocation = tokio::spawn(async move { client.invoke("slow.tar.gz", CAT).await.status });
    // What follows takes a compute slot for a second or so.
    eventually(async || cluster.worker_log(0).contains("fetched")).await;

    assert_eq!(cluster.worker(0).stop().await, Stopped::Orderly);

    let (status, log) = (cluster.worker(0).exit_status().await, cluster.worker_log(0));
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("drain timed out"), "{log}");
    // Whether the router saw the goodbye first or the end of the connection: nobody can take it.
    let status = invocation.await.expect("the client does not panic");
    assert!(matches!(status, 503 | 424), "{status}");
}
