//! Promise: the loss of an instance costs loads, never an answer, and moves its own models alone.

use std::collections::BTreeMap;
use tests::{Cluster, SteadyLoad, eventually};

/// Names of instances and models decide where a model lives, so that this many have homes on each
/// of three workers every time.
const N_MODELS: usize = 12;

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

fn n_at_home(homes: &BTreeMap<String, String>, instance: &str) -> usize {
    homes.values().filter(|home| *home == instance).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_worker_under_load_fails_no_invocation_and_moves_its_models_alone() {
    let cluster = Cluster::builder().workers(3).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let before = homes(&cluster, &models).await;
    for instance in ["worker-0", "worker-1", "worker-2"] {
        assert!(n_at_home(&before, instance) > 0, "{instance} has no model: {before:?}");
    }
    let load = SteadyLoad::start(cluster.client(), &models, 4);
    eventually(async || load.n_answered() > 200).await;

    cluster.worker(0).kill().await;

    let n_before = load.n_answered();
    eventually(async || load.n_answered() > n_before + 500).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());

    eventually(async || cluster.client().n_in_service().await == 2).await;
    let after = homes(&cluster, &models).await;
    assert_eq!(n_at_home(&after, "worker-0"), 0, "{after:?}");
    for (model, home) in before.iter().filter(|(_, home)| *home != "worker-0") {
        assert_eq!(&after[model], home, "{model} moved, although its instance lives");
    }
}

#[tokio::test]
async fn instance_that_comes_back_gets_its_own_models_back() {
    let cluster = Cluster::builder().workers(2).start().await;
    let models = cluster.publish_echo_models(8).await;
    let before = homes(&cluster, &models).await;
    assert!(n_at_home(&before, "worker-0") > 0, "{before:?}");

    cluster.worker(0).restart().await;

    // Until it has joined again its models are answered elsewhere, and it counts as in service:
    // it came back before its lease ended.
    eventually(async || homes(&cluster, &models).await == before).await;
}
