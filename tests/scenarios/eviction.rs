//! Promise: memory stays within the budget; idle models go, and nobody notices but by waiting.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "metrics are floats; bytes and counts are far below 2^53"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tests::{Cluster, archives, eventually, processes};
use tokio::time::interval;

const N_MODELS: usize = 10;
const N_INVOCATIONS: usize = 200;
const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

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

/// Returns the budget for three: three times what one more costs, and the workspace.
async fn budget_for_three() -> u64 {
    let cluster = Cluster::builder().memory_budget(2 << 30).start().await;
    let models = publish_resnets(&cluster).await;
    let one = cost_bytes(&cluster, &models[..1]).await;
    let two = cost_bytes(&cluster, &models[..2]).await;
    one + 2 * (two - one)
}

/// The process's size without models, after a first forward: loads one by name, runs it, unloads it.
async fn idle_bytes(cluster: &Cluster, model: &str) -> u64 {
    let url = cluster.worker(0).url().await;
    let client = reqwest::Client::new();
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
    let budget = budget_for_three().await;
    let cluster = Cluster::builder().memory_budget(budget).start().await;
    let models = publish_resnets(&cluster).await;
    let idle = idle_bytes(&cluster, &models[0]).await;
    let pid = cluster.worker(0).pid().await.expect("the worker runs");
    let (highest, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sampler = {
        let (highest, is_over) = (Arc::clone(&highest), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut n_samples = 0_u64;
            let mut ticks = interval(Duration::from_millis(10));
            while !is_over.load(Ordering::Relaxed) {
                ticks.tick().await;
                let rss = processes::rss_bytes(pid).expect("the worker runs");
                highest.fetch_max(rss, Ordering::Relaxed);
                n_samples += 1;
            }
            n_samples
        })
    };

    let started = std::time::SystemTime::now();
    for turn in 0..N_INVOCATIONS {
        invoke(&cluster, &models[turn % N_MODELS]).await;
    }

    is_over.store(true, Ordering::Relaxed);
    let n_samples = sampler.await.expect("the sampler does not panic");
    let seconds = started.elapsed().expect("the clock goes on").as_secs_f64();
    assert!(n_samples as f64 >= 20.0 * seconds, "{n_samples} samples in {seconds} s");
    let evictions = cluster.worker_metric("worker_evictions_total").await;
    assert!(evictions >= (N_INVOCATIONS - 4) as f64, "{evictions} evictions");
    let models_bytes = highest.load(Ordering::Relaxed).saturating_sub(idle);
    assert!(
        (models_bytes as f64) <= budget as f64 * SLACK,
        "models took {models_bytes} bytes of a budget of {budget}, idle {idle}"
    );
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
