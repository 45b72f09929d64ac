//! Promise: memory stays within the budget; idle models go, busy ones never.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "metrics are floats; bytes and counts are far below 2^53"
)]

use tests::{BusyModel, Cluster, MemorySampler, TestAnswer, archives, eventually};

const N_MODELS: usize = 10;
const N_INVOCATIONS: usize = 200;
const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

/// So often memory must have been looked at, or its peaks are not known.
const MIN_SAMPLES_PER_SECOND: f64 = 20.0;

/// More than the one compute slot serves at a time.
const N_BUSY_CLIENTS: usize = 4;

/// Of the budget: what the allocator may hold between models beyond what models were promised.
const SLACK: f64 = 1.10;

async fn publish_resnets(cluster: &Cluster) -> Vec<String> {
    let archive = archives::zoo("resnet_18.tar.gz");
    let names: Vec<String> = (0..N_MODELS).map(|model| format!("resnet-{model}.tar.gz")).collect();
    for name in &names {
        cluster.publish(name, archive.clone()).await;
    }
    names
}

async fn invoke(cluster: &Cluster, model: &str) {
    let answer = cluster.client().invoke(model, CAT).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What `n` resident ResNet-18 cost by the worker's own measurement.
async fn cost_bytes(cluster: &Cluster, models: &[String]) -> u64 {
    for model in models {
        invoke(cluster, model).await;
    }
    let mut bytes = 0.0;
    eventually(async || {
        let n_resident = cluster.worker_metric("worker_resident_models").await;
        bytes = cluster.worker_metric("worker_resident_bytes").await;
        n_resident as usize == models.len()
    })
    .await;
    bytes as u64
}

/// What the first resident ResNet-18 costs, workspace included, and what each further one does.
async fn costs_bytes() -> (u64, u64) {
    let cluster = Cluster::builder().memory_budget(2 << 30).start().await;
    let models = publish_resnets(&cluster).await;
    let one = cost_bytes(&cluster, &models[..1]).await;
    let two = cost_bytes(&cluster, &models[..2]).await;
    (one, two - one)
}

/// The process's size without models, after a first forward: loads one by name, runs it, unloads it.
async fn idle_bytes(cluster: &Cluster, model: &str) -> u64 {
    let url = cluster.worker(0).url().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("nothing to fail at");
    let load = serde_json::json!({
        "model_name": "first", "url": format!("s3://manifold-test/models/{model}")
    });
    let answers = [
        client.post(format!("{url}/models")).json(&load).send().await,
        client.post(format!("{url}/models/first/invoke")).body(CAT).send().await,
        client.delete(format!("{url}/models/first")).send().await,
    ];
    for answer in answers {
        assert_eq!(answer.expect("the worker answers").status(), 200);
    }
    cluster.worker(0).rss_bytes().await.expect("the worker runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_models_in_turn_on_a_budget_for_three_never_fail_and_never_exceed_it() {
    let (first, further) = costs_bytes().await;
    let budget = first + 2 * further;
    let cluster = Cluster::builder().memory_budget(budget).start().await;
    let models = publish_resnets(&cluster).await;
    let idle = idle_bytes(&cluster, &models[0]).await;
    let sampler = MemorySampler::start(cluster.worker(0).pid().await.expect("the worker runs"));

    for turn in 0..N_INVOCATIONS {
        invoke(&cluster, &models[turn % N_MODELS]).await;
    }

    let seen = sampler.end();
    let per_second = f64::from(seen.n) / seen.elapsed.as_secs_f64();
    assert!(per_second >= MIN_SAMPLES_PER_SECOND, "{seen:?}");
    let evictions = cluster.worker_metric("worker_evictions_total").await;
    assert!(evictions >= (N_INVOCATIONS - 4) as f64, "{evictions} evictions");
    let models_bytes = seen.highest_bytes.saturating_sub(idle);
    assert!(
        (models_bytes as f64) <= budget as f64 * SLACK,
        "models took {models_bytes} bytes of a budget of {budget}, idle {idle}, {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_models_are_never_evicted() {
    let (first, further) = costs_bytes().await;
    let cluster = Cluster::builder().memory_budget(first + further / 2).start().await;
    let models = publish_resnets(&cluster).await;
    let (busy_model, other) = (&models[0], &models[1]);
    invoke(&cluster, busy_model).await;
    // While one is answered, the others hold the model.
    let busy = BusyModel::keep(cluster.client(), busy_model, CAT, N_BUSY_CLIENTS);
    eventually(async || busy.answers().len() > 2 * N_BUSY_CLIENTS).await;

    // There is room for one, and the one that is there does not go.
    let refused = cluster.client().invoke(other, CAT).await;

    refused.expect_error(424, "ModelError");
    assert_eq!(refused.json()["OriginalStatusCode"], 507, "{}", refused.text());
    let answers = busy.end().await;
    assert!(answers.iter().all(TestAnswer::is_warm), "the busy model was evicted: {answers:?}");
    // Now it is idle.
    invoke(&cluster, other).await;
    let evictions = cluster.worker_metric("worker_evictions_total").await;
    assert!((evictions - 1.0).abs() < f64::EPSILON, "{evictions} evictions");
}

#[tokio::test]
async fn a_model_larger_than_the_budget_is_told_so_and_evicts_nothing() {
    let cluster = Cluster::builder().memory_budget(20 << 20).start().await;
    cluster.publish("small.tar.gz", archives::echo()).await;
    cluster.publish("large.tar.gz", archives::zoo("resnet_18.tar.gz")).await;
    assert_eq!(cluster.client().invoke("small.tar.gz", b"x").await.status, 200);

    let answer = cluster.client().invoke("large.tar.gz", CAT).await;

    let message = answer.expect_error(424, "ModelError");
    assert!(message.contains("507"), "{message}");
    let warm = cluster.client().invoke("small.tar.gz", b"x").await;
    assert_eq!(warm.header("x-manifold-cache"), "hit");
}
