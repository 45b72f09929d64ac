//! Promise: a model that shall not be cached leaves memory and disk after its invocations, however
//! many come at once, and harms no other use of the same artifact.

use futures_util::future::join_all;
use std::path::Path;
use tests::{Cluster, archives, eventually};

const ARTIFACT: &str = "s3://manifold-test/models/a.tar.gz";
const PADDING: usize = 1 << 20;

/// Asks a worker as a router does, and says what came back.
async fn invoke(url: &str, body: &'static str, is_cached: bool) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().expect("nothing to fail at");
    let mut call = client.post(format!("{url}/invocations")).body(body);
    call = call.header("x-manifold-artifact", ARTIFACT);
    if !is_cached {
        call = call.header("x-manifold-cache-setting", "disabled");
    }
    let answer = call.send().await.expect("the worker answers");
    (answer.status().as_u16(), answer.text().await.expect("the answer is whole"))
}

fn n_below(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("a worker has a cache").count()
}

/// Waits until nothing of any model is left.
async fn is_empty(cluster: &Cluster) {
    let folder = cluster.cache_folder(0);
    eventually(async || {
        let n_resident = cluster.worker_metric("worker_resident_models").await;
        let n_files = n_below(&folder.join("artifacts")) + n_below(&folder.join("incoming"));
        n_resident < 0.5 && n_files == 0
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_after_one_invocation_or_after_many_at_once() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("a.tar.gz", archives::echo_with_padding(PADDING)).await;
    let url = cluster.worker(0).url().await;

    assert_eq!(invoke(&url, "one", false).await, (200, "one".to_owned()));
    is_empty(&cluster).await;

    for (status, text) in join_all((0..40).map(|_| invoke(&url, "many", false))).await {
        assert_eq!((status, text.as_str()), (200, "many"));
    }
    is_empty(&cluster).await;
}

#[tokio::test]
async fn who_wants_the_same_artifact_cached_gets_every_answer() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("a.tar.gz", archives::echo_with_padding(PADDING)).await;
    let url = cluster.worker(0).url().await;

    for _ in 0..20 {
        let (once, cached) = tokio::join!(invoke(&url, "x", false), invoke(&url, "y", true));
        assert_eq!((once.0, cached.0), (200, 200), "{} {}", once.1, cached.1);
    }

    // Left alone, it stays where it is.
    assert_eq!(invoke(&url, "y", true).await.0, 200);
    let misses = cluster.worker_metric("worker_model_cache_misses_total").await;
    assert_eq!(invoke(&url, "y", true).await.0, 200);
    let misses_after = cluster.worker_metric("worker_model_cache_misses_total").await;
    assert!(misses_after - misses < 1.5, "at most the one reload");
}
