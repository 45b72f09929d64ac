//! Promise: a worker that joins takes its share of the models warm.

use driver::child::Stopped;
use tests::{Cluster, SteadyLoad, binaries, eventually};
use tokio::process::Command;

/// Names of instances and models decide where a model lives, so that this many have homes on each
/// of three workers every time.
const N_MODELS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn models_of_a_worker_that_joins_under_load_are_hits_from_the_first_on() {
    let cluster = Cluster::builder().workers(3).start().await;
    // It comes again when there are models, and knows none of them.
    assert_eq!(cluster.worker(2).stop().await, Stopped::Orderly);
    let models = cluster.publish_echo_models(N_MODELS).await;
    for model in &models {
        assert_eq!(cluster.client().invoke(model, b"x").await.status, 200);
    }
    let load = SteadyLoad::start(cluster.client(), &models, 4);
    eventually(async || load.n_answered() > 200).await;

    cluster.worker(2).restart().await;

    eventually(async || cluster.client().n_in_service().await == 3).await;
    let n_before = load.n_answered();
    eventually(async || load.n_answered() > n_before + 500).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());
    let metric = async |name| cluster.client().metric(&cluster.worker(2).url().await, name).await;
    assert!(metric("worker_model_cache_hits_total").await > 0.0, "it takes no share");
    assert!(
        metric("worker_model_cache_misses_total").await < 1.0,
        "an invocation waited for a load"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_a_name_finds_the_routers_behind_it() {
    let cluster = Cluster::builder().start().await;
    let cache = tempfile::tempdir().expect("there is room for temporary files");
    let (_, port) = cluster.router(0).url().rsplit_once(':').expect("it has a port");
    let _worker = Command::new(binaries().worker)
        .args(["--bind", "127.0.0.1:0", "--instance-id", "told-a-name"])
        .args(["--s3-endpoint", "http://127.0.0.1:9", "--s3-region", "us-east-1"])
        .args(["--router-dns", &format!("localhost:{port}"), "--cache-dir"])
        .arg(cache.path())
        .kill_on_drop(true)
        .spawn()
        .expect("the worker can be started");
    eventually(async || cluster.client().n_in_service().await == 2).await;
}
