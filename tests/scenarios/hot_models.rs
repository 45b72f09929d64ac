//! Promise: a model that is asked for more than its instance should do comes to others too, and each
//! holds it before it takes an invocation.

use std::collections::BTreeSet;
use tests::{BusyModel, Cluster, TestAnswer, archives, eventually};

const MODEL: &str = "resnet_18.tar.gz";
const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");
const N_WORKERS: usize = 3;

/// They fill the slot of an instance, which is several times what a replica should do, and so few
/// that none waits for longer than a load takes: nothing goes to an instance that must load first.
const N_CLIENTS: usize = 2;

fn instances(answers: &[TestAnswer]) -> BTreeSet<&str> {
    answers.iter().map(|answer| answer.instance()).collect()
}

/// A cluster with a model that has replicas on all instances, and is kept busy.
async fn busy_on_all() -> (Cluster, BusyModel) {
    let cluster = Cluster::builder().workers(N_WORKERS).start().await;
    cluster.publish(MODEL, archives::zoo(MODEL)).await;
    let first = cluster.client().invoke(MODEL, CAT).await;
    assert_eq!((first.status, first.is_hit()), (200, false), "{}", first.text());
    let busy = BusyModel::keep(cluster.client(), MODEL, CAT, N_CLIENTS);
    eventually(async || instances(&busy.answers()).len() == N_WORKERS).await;
    (cluster, busy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_model_comes_to_more_instances_and_no_invocation_waits_for_its_loads() {
    let (cluster, busy) = busy_on_all().await;

    let answers = busy.end().await;

    assert!(answers.iter().all(TestAnswer::is_warm), "{answers:?}");
    let n_loads = cluster.worker_metric("worker_model_load_seconds_count").await;
    let router = cluster.client();
    let metric = async |name| router.metric(router.router_url(), name).await;
    let [n_further, n_warmed, n_failed] = [
        metric("router_replicas").await,
        metric("router_warms_begun_total").await,
        metric("router_warms_failed_total").await,
    ];
    let counts = [n_loads, n_further, n_warmed, n_failed].map(|count| count.to_string());
    assert_eq!(counts, ["3", "2", "2", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_replica_under_load_costs_no_failure_and_no_load() {
    let (cluster, busy) = busy_on_all().await;
    let n_before = busy.answers().len();

    cluster.worker(0).kill().await;

    // Both that are left answer what it would have.
    eventually(async || busy.answers().len() > n_before + 20).await;
    let answers = busy.end().await;
    assert!(answers.iter().all(TestAnswer::is_warm), "{answers:?}");
    let lost = cluster.worker(0).id();
    assert_eq!(instances(&answers[n_before + N_CLIENTS..]).len(), N_WORKERS - 1, "without {lost}");
}
