//! Promise: a worker that is asked to end hands its models over: nothing fails, and nothing is cold.

use driver::child::Stopped;
use std::collections::BTreeMap;
use tests::{Cluster, Fault, SteadyLoad, eventually, processes};

/// Names of instances and models decide where a model lives, so that this many have homes on each
/// of three workers every time.
const N_MODELS: usize = 12;

const MISSES: &str = "worker_model_cache_misses_total";

/// Invokes each model once and returns the instance of each.
async fn homes(cluster: &Cluster, models: &[String]) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for model in models {
        let answer = cluster.client().invoke(model, b"x").await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        homes.insert(model.clone(), answer.instance().to_owned());
    }
    homes
}

async fn misses_at(cluster: &Cluster, worker_idx: usize) -> f64 {
    cluster.client().metric(&cluster.worker(worker_idx).url().await, MISSES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_a_worker_that_ends_are_warm_elsewhere_before_it_goes() {
    let cluster = Cluster::builder().workers(3).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let before = homes(&cluster, &models).await;
    assert!(before.values().any(|home| home == "worker-0"), "{before:?}");
    let load = SteadyLoad::start(cluster.client(), &models, 4);
    eventually(async || load.n_answered() > 200).await;
    let n_misses = misses_at(&cluster, 1).await + misses_at(&cluster, 2).await;

    assert_eq!(cluster.worker(0).stop().await, Stopped::Orderly);

    let n_before = load.n_answered();
    eventually(async || load.n_answered() > n_before + 500).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());
    let after = homes(&cluster, &models).await;
    for (model, home) in before.iter().filter(|(_, home)| *home != "worker-0") {
        assert_eq!(&after[model], home, "{model} moved, although its instance stayed");
    }
    let n_misses_after = misses_at(&cluster, 1).await + misses_at(&cluster, 2).await;
    assert!(n_misses_after <= n_misses, "an invocation waited for a load");
    assert!(cluster.worker_log(0).contains("models are handed over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_one_worker_after_the_other_under_load_fails_nothing() {
    let cluster = Cluster::builder().workers(3).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let before = homes(&cluster, &models).await;
    let load = SteadyLoad::start(cluster.client(), &models, 4);
    eventually(async || load.n_answered() > 200).await;

    for worker_idx in 0..3 {
        assert_eq!(cluster.worker(worker_idx).stop().await, Stopped::Orderly);
        cluster.worker(worker_idx).restart().await;
        eventually(async || cluster.client().n_in_service().await == 3).await;
        let n_before = load.n_answered();
        eventually(async || load.n_answered() > n_before + 200).await;
    }

    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());
    assert_eq!(homes(&cluster, &models).await, before);
    // Each has counted since its own restart.
    let n_misses = cluster.worker_metric(MISSES).await;
    assert!(n_misses < 1.0, "{n_misses} invocations waited for a load");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_stalls_keeps_a_worker_that_ends_for_its_time_alone() {
    let cluster = Cluster::builder()
        .workers(2)
        .flaky_store()
        .worker_flags(&["--drain-timeout-s", "3"])
        .start()
        .await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    homes(&cluster, &models).await;
    cluster.break_store(Fault::Stall);

    assert_eq!(cluster.worker(0).stop().await, Stopped::Orderly);

    let log = cluster.worker_log(0);
    assert!(log.contains("time to hand over models is over"), "{log}");
    assert!(cluster.worker(0).exit_status().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_a_worker_that_hands_over_for_long() {
    let cluster = Cluster::builder()
        .workers(2)
        .flaky_store()
        .worker_flags(&["--drain-timeout-s", "3600"])
        .start()
        .await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    homes(&cluster, &models).await;
    cluster.break_store(Fault::Stall);
    processes::terminate(cluster.worker(0).pid().await.expect("it runs"));
    eventually(async || cluster.worker_log(0).contains("draining")).await;

    assert_eq!(cluster.worker(0).stop().await, Stopped::Orderly);

    let log = cluster.worker_log(0);
    assert!(log.contains("no more models are handed over"), "{log}");
}
