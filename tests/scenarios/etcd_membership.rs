//! Promise: with etcd, workers and routers find each other; losing etcd stops nothing, and its return,
//! even with everything forgotten, heals by itself.

use std::time::Duration;
use tests::{Cluster, Etcd, SteadyLoad, Worker, archives, eventually};
use tokio::time::sleep;

const N_MODELS: usize = 6;

/// Longer than every lease: whoever is only kept by a lease is gone by then.
const BEYOND_LEASES: Duration = Duration::from_secs(5);

/// Longer than a router that etcd does not name counts for its workers, and the lease of a worker at
/// that router after it.
const BEYOND_GRACE: Duration = Duration::from_secs(11);

fn instances_in_etcd(etcd: &Etcd) -> usize {
    n_in_etcd(etcd, "/manifold/instances/")
}

fn n_in_etcd(etcd: &Etcd, prefix: &str) -> usize {
    let listed = etcd.ctl(&["get", "--prefix", "--keys-only", prefix]);
    String::from_utf8_lossy(&listed.stdout).lines().filter(|it| !it.is_empty()).count()
}

fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_etcd_under_load_fails_no_invocation_and_its_return_heals() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let load = SteadyLoad::start(cluster.client(), &models, 2);
    eventually(async || load.n_answered() > 100).await;

    etcd.kill();
    sleep(BEYOND_LEASES).await;
    assert_eq!(cluster.client().n_in_service().await, 2);

    // A loss is noticed although etcd cannot tell.
    cluster.worker(1).kill().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;

    etcd.restart().await;
    cluster.worker(1).restart().await;
    eventually(async || cluster.client().n_in_service().await == 2).await;
    eventually(async || instances_in_etcd(&etcd) == 2).await;
    none(&load.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_hangs_and_goes_on_takes_nobody_with_it() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let load = SteadyLoad::start(cluster.client(), &models, 2);

    etcd.freeze();
    sleep(BEYOND_LEASES).await;
    // It lets all leases end the moment it goes on.
    etcd.thaw();
    eventually(async || instances_in_etcd(&etcd) == 2).await;
    sleep(BEYOND_LEASES).await;
    assert_eq!(cluster.client().n_in_service().await, 2);
    none(&load.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_etcd_gets_its_members_back() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let load = SteadyLoad::start(cluster.client(), &models, 2);

    etcd.wipe();
    etcd.restart().await;
    eventually(async || instances_in_etcd(&etcd) == 2).await;
    assert_eq!(cluster.client().n_in_service().await, 2);

    // Who comes now finds the others there.
    cluster.worker(0).restart().await;
    eventually(async || cluster.client().n_in_service().await == 2).await;
    none(&load.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_deleted_while_leases_live_are_put_back_and_no_invocation_fails() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().routers(2).workers(1).etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(N_MODELS).await;
    let clients = cluster.clients();
    let loads: Vec<_> = clients.iter().map(|it| SteadyLoad::start(it, &models, 1)).collect();
    eventually(async || loads.iter().all(|it| it.n_answered() > 100)).await;

    assert!(etcd.ctl(&["del", "--prefix", "/manifold/"]).status.success());
    eventually(async || n_in_etcd(&etcd, "/manifold/routers/") == 2).await;
    eventually(async || instances_in_etcd(&etcd) == 1).await;
    sleep(BEYOND_GRACE).await;
    cluster.publish("late.tar.gz", archives::echo()).await;
    assert_eq!(cluster.client().invoke("late.tar.gz", b"x").await.status, 200);
    // Heartbeats alone tell how much is resident.
    let n_resident = N_MODELS + 1;
    for client in &clients {
        eventually(async || client.instances().await[0].n_resident == n_resident).await;
        assert_eq!(client.n_in_service().await, 1);
    }
    for load in loads {
        none(&load.end().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_starts_knows_the_instances_from_etcd() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(1).etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(1).await;
    cluster.router(0).restart().await;
    cluster.all_in_service().await;
    assert!(cluster.router_log(0).contains("instance found in etcd"), "it waited for a heartbeat");
    assert_eq!(cluster.client().invoke(&models[0], b"x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_falls_silent_is_out_within_its_lease_although_etcd_knows_it() {
    let Some(etcd) = Etcd::start().await else { return };
    // Leases in etcd that outlast the test.
    let cluster = Cluster::builder().workers(2).worker_flags(&["--cluster-lease-s", "60"]);
    let cluster = cluster.etcd(&etcd).start().await;

    cluster.worker(0).freeze().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;
    assert_eq!(instances_in_etcd(&etcd), 2, "only its heartbeats told");

    cluster.worker(0).thaw().await;
    eventually(async || cluster.client().n_in_service().await == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_in_order_is_gone_from_etcd_too() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).worker_flags(&["--cluster-lease-s", "60"]);
    let cluster = cluster.etcd(&etcd).start().await;
    let leaving: &Worker = cluster.worker(0);
    leaving.stop().await;
    eventually(async || cluster.client().n_in_service().await == 1).await;
    assert_eq!(instances_in_etcd(&etcd), 1);
    sleep(BEYOND_LEASES).await;
    assert_eq!(cluster.client().n_in_service().await, 1, "who has left is not taken back");
}
