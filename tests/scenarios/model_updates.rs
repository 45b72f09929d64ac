//! Promise: an overwritten model is served in its new version after a short while and never in the
//! old one again; a deleted one is not served; a store that fails ends neither.

use std::time::Duration;
use tests::{Client, Cluster, Fault, archives, eventually};
use tokio::{task::JoinSet, time::Instant};

const MODEL: &str = "a.tar.gz";

/// Checks soon enough for a test, and not at every invocation.
const FLAGS: [&str; 2] = ["--revalidate-s", "1"];
const AGE: Duration = Duration::from_secs(1);

/// Archives of a few megabytes, so that a switch takes a while.
const PADDING: usize = 4 << 20;

fn version(name: &str) -> Vec<u8> {
    archives::echo_that_says(name, PADDING)
}

/// What version answers, or which error.
async fn answer(client: &Client) -> String {
    let answer = client.invoke(MODEL, b"").await;
    if answer.status == 200 {
        answer.text()
    } else {
        format!("{} {}", answer.status, answer.text())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwritten_model_is_switched_to_without_a_failure_or_a_step_back() {
    let cluster = Cluster::builder().worker_flags(&FLAGS).start().await;
    cluster.publish(MODEL, version("1")).await;
    assert_eq!(answer(cluster.client()).await, "1");

    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let client = cluster.client().clone();
        clients.spawn(async move {
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last| last != "3") {
                let text = answer(&client).await;
                if seen.last() != Some(&text) {
                    seen.push(text);
                }
            }
            seen
        });
    }
    for name in ["2", "3"] {
        cluster.publish(MODEL, version(name)).await;
        eventually(async || answer(cluster.client()).await == name).await;
    }

    for seen in clients.join_all().await {
        // A client that was slow may have missed one, but none goes back or fails.
        let expected = [vec!["1", "2", "3"], vec!["1", "3"], vec!["2", "3"], vec!["3"]];
        assert!(expected.contains(&seen.iter().map(String::as_str).collect()), "{seen:?}");
    }
    eventually(async || n_artifacts(&cluster) == 1).await;
    let loads = cluster.worker_metric("worker_model_load_seconds_count").await;
    assert!(loads < 3.5, "{loads} loads of three versions");
}

#[tokio::test]
async fn a_deleted_model_is_refused_within_the_age_and_comes_back() {
    let cluster = Cluster::builder().worker_flags(&FLAGS).start().await;
    cluster.publish(MODEL, version("1")).await;
    assert_eq!(answer(cluster.client()).await, "1");

    cluster.delete(MODEL).await;
    let deleted = Instant::now();
    // Nobody asks in between: the first one to come after the age gets what is true then.
    tokio::time::sleep_until(deleted + AGE).await;

    let refused = cluster.client().invoke(MODEL, b"").await;
    let message = refused.expect_error(400, "ValidationError");
    assert!(message.starts_with("Failed to download model data"), "{message}");
    eventually(async || n_artifacts(&cluster) == 0).await;
    cluster.publish(MODEL, version("2")).await;
    assert_eq!(answer(cluster.client()).await, "2");
}

#[tokio::test]
async fn a_broken_new_version_leaves_the_old_one_serving() {
    let cluster = Cluster::builder().worker_flags(&FLAGS).start().await;
    cluster.publish(MODEL, version("1")).await;
    assert_eq!(answer(cluster.client()).await, "1");
    cluster.publish(MODEL, b"no archive".to_vec()).await;

    eventually(async || {
        assert_eq!(answer(cluster.client()).await, "1");
        cluster.worker_metric("worker_revalidations_total").await > 2.5
    })
    .await;

    let log = cluster.worker_log(0);
    assert_eq!(log.matches("new version did not load").count(), 1, "it is told once\n{log}");
    cluster.publish(MODEL, version("2")).await;
    eventually(async || answer(cluster.client()).await == "2").await;
}

#[tokio::test]
async fn a_store_that_is_out_ends_no_version_in_memory_or_on_disk() {
    let cluster = Cluster::builder().flaky_store().worker_flags(&FLAGS).start().await;
    cluster.publish(MODEL, version("1")).await;
    assert_eq!(answer(cluster.client()).await, "1");
    // A restart finds what was safely on disk.
    eventually(async || {
        let artifacts = cluster.cache_folder(0).join("artifacts");
        let mut artifacts = std::fs::read_dir(artifacts).expect("a worker has a cache");
        artifacts.any(|it| it.is_ok_and(|it| it.path().join("record.json").exists()))
    })
    .await;
    cluster.break_store(Fault::InternalError);

    let checked = async || cluster.worker_metric("worker_revalidations_total").await;
    eventually(async || {
        assert_eq!(answer(cluster.client()).await, "1");
        checked().await > 0.5
    })
    .await;

    cluster.worker(0).restart().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;
    eventually(async || answer(cluster.client()).await == "1").await;
    assert!(cluster.worker_log(0).contains("serving the last version from disk"));
}

fn n_artifacts(cluster: &Cluster) -> usize {
    let artifacts = cluster.cache_folder(0).join("artifacts");
    std::fs::read_dir(artifacts).expect("a worker has a cache").count()
}
