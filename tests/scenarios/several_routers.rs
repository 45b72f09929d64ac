//! Promise: routers are equal. Calls at any of them come out as if there were one, and the loss of one
//! costs its clients one retry elsewhere.

use driver::child::Stopped;
use serde_json::{Value, json};
use shared::telemetry::Chain;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tests::{Balancer, Client, Cluster, Etcd, eventually};
use tokio::{task::JoinSet, time::sleep};

const N_CLIENTS: usize = 6;
const N_ROUNDS: usize = 12;
/// SDKs of AWS wait for some tenths of a second before they ask again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// As many ask at the same time.
const N_LOAD_CLIENTS: usize = 4;
/// Nothing lies where the models of these tests say.
const ANY_MODEL: [&str; 1] = ["--allow-empty-model-data"];

/// Longer than every lease: whoever is only kept by a lease is gone by then.
const BEYOND_LEASES: Duration = Duration::from_secs(5);

const TAKEN_OVER: &str = "taking over an asynchronous invocation";

/// Few, so that clients meet.
const N_NAMES: usize = 3;

fn model(name: &str, client_idx: usize) -> Value {
    let container = json!({
        "Image": format!("by-{client_idx}"), "Mode": "MultiModel",
        "ModelDataUrl": "s3://manifold-test/models/",
    });
    json!({ "ModelName": name, "PrimaryContainer": container,
            "ExecutionRoleArn": "arn:aws:iam::123456789012:role/any" })
}

/// What a client was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// It was there already, or not there.
    Refused,
    /// Nobody knows.
    Unknown,
}

async fn call(client: &Client, operation: &str, input: Value) -> Answer {
    match client.try_control(operation, input).await {
        Ok(_) => Answer::Done,
        Err(error) if error.to_string().contains("ValidationException") => Answer::Refused,
        Err(_) => Answer::Unknown,
    }
}

/// Creates and deletes models with names that others use too; returns by name how often each was
/// answered to be done.
async fn compete(client: Client, client_idx: usize) -> Vec<(String, &'static str, Answer)> {
    let mut history = Vec::new();
    for round in 0..N_ROUNDS {
        let name = format!("model-{}", (client_idx + round) % N_NAMES);
        let created = call(&client, "CreateModel", model(&name, client_idx)).await;
        history.push((name.clone(), "create", created));
        let name = format!("model-{}", (client_idx * round) % N_NAMES);
        let deleted = call(&client, "DeleteModel", json!({ "ModelName": name })).await;
        history.push((name, "delete", deleted));
    }
    history
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_calls_at_two_routers_come_out_as_if_there_were_one() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().routers(2).router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let clients = cluster.clients();
    let mut competing = JoinSet::new();
    for client_idx in 0..N_CLIENTS {
        competing.spawn(compete(clients[client_idx % 2].clone(), client_idx));
    }
    let history = competing.join_all().await.concat();
    assert!(history.iter().all(|(.., answer)| *answer != Answer::Unknown), "{history:?}");

    // Of each name, creations and deletions took turns: one was done more than the other exactly if it
    // is there now.
    let listed = clients[0].control("ListModels", json!({ "MaxResults": 100 })).await;
    let listed = listed["Models"].as_array().expect("a list");
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for (name, operation, answer) in &history {
        if *answer == Answer::Done {
            *balance.entry(name.clone()).or_default() +=
                if *operation == "create" { 1 } else { -1 };
        }
    }
    for (name, balance) in balance {
        let is_there = listed.iter().any(|it| it["ModelName"] == name.as_str());
        assert_eq!(balance, i64::from(is_there), "{name}: {history:?}");
    }
    assert!(history.iter().filter(|(.., answer)| *answer == Answer::Done).count() > N_ROUNDS);
    // A burst of commits is no loss.
    let logs = [cluster.router_log(0), cluster.router_log(1)].concat();
    assert!(!logs.contains("etcd has lost records"), "a false alarm");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_many_create_at_once_is_created_once() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().routers(2).router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let clients = cluster.clients();
    clients[0].control("CreateModel", model("m", 0)).await;
    let variant = json!({ "VariantName": "all", "ModelName": "m", "InitialInstanceCount": 1,
                          "InstanceType": "ml.m5.large" });
    let config = json!({ "EndpointConfigName": "c", "ProductionVariants": [variant] });
    clients[1].control("CreateEndpointConfig", config).await;
    let mut creating = JoinSet::new();
    for client_idx in 0..N_CLIENTS {
        let client = clients[client_idx % 2].clone();
        let input = json!({ "EndpointName": "one", "EndpointConfigName": "c" });
        creating.spawn(async move { call(&client, "CreateEndpoint", input).await });
    }
    let answers = creating.join_all().await;
    let n_done = answers.iter().filter(|it| **it == Answer::Done).count();
    assert_eq!(n_done, 1, "{answers:?}");

    // Both drive its deployment; it settles, and can be deleted, once.
    let name = json!({ "EndpointName": "one" });
    for client in &clients {
        eventually(async || {
            client.control("DescribeEndpoint", name.clone()).await["EndpointStatus"] == "InService"
        })
        .await;
    }
    clients[1].control("DeleteEndpoint", name.clone()).await;
    for client in &clients {
        eventually(async || {
            call(client, "DescribeEndpoint", name.clone()).await == Answer::Refused
        })
        .await;
    }
}

/// Clients that use these addresses in turn, and after a failure once the next, anew.
struct LoadWithOneRetry {
    clients: JoinSet<Vec<String>>,
    n_done: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl LoadWithOneRetry {
    fn start(urls: &[String], models: &[String]) -> Self {
        let mut load =
            Self { clients: JoinSet::new(), n_done: Arc::default(), is_over: Arc::default() };
        for client_idx in 0..N_LOAD_CLIENTS {
            let (urls, models) = (urls.to_vec(), models.to_vec());
            let (n_done, is_over) = (Arc::clone(&load.n_done), Arc::clone(&load.is_over));
            load.clients.spawn(async move {
                let clients: Vec<Client> = urls.iter().map(|url| Client::new(url)).collect();
                let (mut n, mut failures) = (client_idx, Vec::new());
                while !is_over.load(Ordering::Relaxed) {
                    let model = &models[n % models.len()];
                    if let Some(first) = failure(&clients[n % urls.len()], model).await {
                        // As SDKs do: after a pause, because a process that is killed closes its
                        // connections first and the door last; and not over a connection that may be as
                        // dead and not yet known to be.
                        sleep(RETRY_PAUSE).await;
                        let again = Client::new(&urls[(n + 1) % urls.len()]);
                        let second = failure(&again, model).await;
                        failures.extend(second.map(|second| format!("{first}, then {second}")));
                    }
                    n += 1;
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        load
    }

    async fn more_done(&self) {
        let n_before = self.n_done.load(Ordering::Relaxed);
        eventually(async || self.n_done.load(Ordering::Relaxed) >= n_before + 20).await;
    }

    async fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

async fn failure(client: &Client, model: &str) -> Option<String> {
    match client.try_invoke(model, b"x").await {
        Ok(answer) => (answer.status != 200).then(|| answer.text()),
        Err(error) => Some(Chain(&error).to_string()),
    }
}

/// Kills one of two routers under load and starts it again; returns what failed twice.
async fn failures_over_the_loss_of_a_router(
    cluster: &Cluster,
    etcd: &Etcd,
    urls: &[String],
) -> Vec<String> {
    let models = cluster.publish_echo_models(4).await;
    let load = LoadWithOneRetry::start(urls, &models);
    load.more_done().await;
    cluster.router(0).kill().await;
    // Until its lease is over, and beyond.
    let routers = || etcd.ctl(&["get", "--prefix", "--keys-only", "/manifold/routers/"]).stdout;
    let n_routers = || String::from_utf8_lossy(&routers()).matches("/routers/").count();
    eventually(async || n_routers() == 1).await;
    load.more_done().await;
    cluster.router(0).restart().await;
    cluster.all_in_service().await;
    load.more_done().await;
    load.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_both_addresses_loses_nothing_when_a_router_is_killed() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).routers(2).etcd(&etcd).start().await;
    let failures = failures_over_the_loss_of_a_router(&cluster, &etcd, &cluster.urls()).await;
    assert_eq!(failures, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_balancer_loses_nothing_when_a_router_behind_it_is_killed() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).routers(2).etcd(&etcd).start().await;
    let Some(balancer) = Balancer::start(&cluster.urls()).await else { return };
    let address = [balancer.url().to_owned()];
    let failures = failures_over_the_loss_of_a_router(&cluster, &etcd, &address).await;
    assert_eq!(failures, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_balancer_lose_nothing_while_the_routers_are_restarted_in_turn() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().workers(2).routers(2).etcd(&etcd).start().await;
    let Some(balancer) = Balancer::start(&cluster.urls()).await else { return };
    let models = cluster.publish_echo_models(4).await;
    let load = LoadWithOneRetry::start(&[balancer.url().to_owned()], &models);
    for router_idx in 0..2 {
        load.more_done().await;
        assert_eq!(cluster.router(router_idx).stop().await, Stopped::Orderly);
        load.more_done().await;
        cluster.router(router_idx).restart().await;
        cluster.all_in_service().await;
    }
    assert_eq!(load.end().await, Vec::<String>::new());
}

async fn accept(client: &Client, model: &str, n_jobs: usize) {
    for _ in 0..n_jobs {
        let path = "/endpoints/demo/async-invocations";
        let headers = [("x-amzn-sagemaker-target-model", model.as_bytes())];
        let accepted = client.post(path, &headers, b"job").await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routers_that_live_keep_their_jobs_over_an_outage_of_etcd() {
    const N_JOBS: usize = 5;
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().routers(2).asynchronous().etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(1).await;
    // So that none is done before the outages are over.
    cluster.worker(0).stop().await;
    accept(cluster.client(), &models[0], N_JOBS).await;

    // It knows the leases when it is back, and lets each run its length from then.
    etcd.kill();
    sleep(BEYOND_LEASES).await;
    etcd.restart().await;
    sleep(BEYOND_LEASES).await;
    assert!(!cluster.router_log(1).contains(TAKEN_OVER), "its router lives");

    // It lets all leases end the moment it goes on.
    etcd.freeze();
    sleep(BEYOND_LEASES).await;
    etcd.thaw();
    sleep(BEYOND_LEASES).await;
    assert!(!cluster.router_log(1).contains(TAKEN_OVER), "its router lives");

    let claimed = etcd.ctl(&["get", "--prefix", "--keys-only", "/manifold/claims/"]);
    let n_claimed = String::from_utf8_lossy(&claimed.stdout).matches("/claims/").count();
    assert_eq!(n_claimed, N_JOBS, "each is still somebody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_a_router_accepted_are_done_by_another_when_it_is_killed() {
    const N_JOBS: usize = 5;
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().routers(2).asynchronous().etcd(&etcd).start().await;
    let models = cluster.publish_echo_models(1).await;
    // So that none is done before the router is gone.
    cluster.worker(0).stop().await;
    accept(cluster.client(), &models[0], N_JOBS).await;
    cluster.router(0).kill().await;
    cluster.worker(0).restart().await;
    eventually(async || cluster.outputs() == N_JOBS).await;
    assert_eq!(cluster.router_log(1).matches(TAKEN_OVER).count(), N_JOBS);

    // Nothing is left to do for who comes later.
    let jobs_left = async || {
        let listed = etcd.ctl(&["get", "--prefix", "--keys-only", "/manifold/jobs/"]);
        String::from_utf8_lossy(&listed.stdout).matches("/jobs/").count()
    };
    eventually(async || jobs_left().await == 0).await;
    cluster.router(0).restart().await;
    cluster.all_in_service().await;
    assert_eq!(jobs_left().await, 0);
}
