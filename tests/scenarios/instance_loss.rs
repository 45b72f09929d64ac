//! Promise: the loss of an instance costs loads, never an answer.

use tests::{Cluster, SteadyLoad, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_two_workers_under_load_fails_no_invocation() {
    let cluster = Cluster::builder().workers(2).start().await;
    let models = cluster.publish_echo_models(8).await;
    for model in &models {
        let warm = cluster.client().invoke(model, b"warm").await;
        assert_eq!(warm.status, 200, "{}", warm.text());
    }
    let load = SteadyLoad::start(cluster.client(), &models, 4);
    eventually(async || load.n_answered() > 200).await;

    cluster.worker(0).kill().await;

    let n_before = load.n_answered();
    eventually(async || load.n_answered() > n_before + 500).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());

    eventually(async || cluster.client().n_in_service().await == 1).await;
    for model in &models {
        let answer = cluster.client().invoke(model, b"still here").await;
        assert_eq!((answer.status, answer.instance()), (200, "worker-1"), "{}", answer.text());
    }
}

#[tokio::test]
async fn instance_that_comes_back_gets_its_own_models_back() {
    let cluster = Cluster::builder().workers(2).start().await;
    let models = cluster.publish_echo_models(8).await;
    let mut homes = Vec::new();
    for model in &models {
        homes.push(cluster.client().invoke(model, b"x").await.instance().to_owned());
    }

    cluster.worker(0).restart().await;
    eventually(async || cluster.client().n_in_service().await == 2).await;

    for (model, home) in models.iter().zip(&homes) {
        let answer = cluster.client().invoke(model, b"x").await;
        assert_eq!((answer.status, answer.instance()), (200, home.as_str()), "{model}");
    }
}
