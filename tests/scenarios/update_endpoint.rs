//! Promise: an endpoint changes its models and its instances under load without a failed invocation.

use driver::models::ModelStore;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::{Client, Launcher, archives, eventually};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

const BUCKET: &str = "manifold-demo";
const MODEL: &str = "echo.tar.gz";
const BODY: &[u8] = b"?";

/// A model that computes for a while.
const SLOW_MODEL: &str = "resnet_152.tar.gz";
const CAT: &[u8] = include_bytes!("../../driver/assets/cat.jpg");

/// As many as the promise names.
const RATE_PER_SECOND: u32 = 200;

/// An invocation, by when it began.
#[derive(Debug)]
struct Answered {
    began: Instant,
    /// What answered, or why nothing did.
    by: Result<String, String>,
}

/// Invokes at a steady rate, whatever becomes of the invocations, until it is told to stop.
async fn load(client: Client, endpoint: &'static str, is_over: Arc<AtomicBool>) -> Vec<Answered> {
    let mut invocations = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / RATE_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !is_over.load(Relaxed) {
        ticks.tick().await;
        let client = client.clone();
        invocations.spawn(async move {
            let began = Instant::now();
            let by = match client.try_invoke_at(endpoint, MODEL, BODY).await {
                Ok(answer) if answer.status == 200 => Ok(answer.text()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
                Err(error) => Err(shared::telemetry::Chain(&error).to_string()),
            };
            Answered { began, by }
        });
    }
    invocations.join_all().await
}

/// Fails the test unless about as many invocations were sent as the promise names.
fn assert_rate(answered: &[Answered], elapsed: Duration) {
    let n_due = elapsed.as_secs_f64() * f64::from(RATE_PER_SECOND);
    let n_sent = u32::try_from(answered.len()).expect("a test sends fewer");
    assert!(f64::from(n_sent) >= 0.8 * n_due, "{n_sent} of {n_due} were sent in {elapsed:?}");
}

/// Invokes the slow model again and again, so that one is always in flight. Returns when each began
/// and ended, and with which status.
async fn slow_load(client: Client, is_over: Arc<AtomicBool>) -> Vec<(Instant, Instant, u16)> {
    let mut answered = Vec::new();
    while !is_over.load(Relaxed) {
        let began = Instant::now();
        let answer = client.try_invoke_at("moving", SLOW_MODEL, CAT).await;
        let status = answer.expect("the router answers").status;
        answered.push((began, Instant::now(), status));
    }
    answered
}

/// Uploads a model that says `name`, and makes a model and a configuration of that name.
async fn deployable(client: &Client, name: &str, n_instances: u32) {
    let store = ModelStore::new(client.router_url());
    let key = format!("{name}/{MODEL}");
    store.put(BUCKET, &key, archives::echo_that_says(name, 0)).await.expect("the store takes it");
    let container = json!({
        "Image": "any", "Mode": "MultiModel", "ModelDataUrl": format!("s3://{BUCKET}/{name}/"),
    });
    client.control("CreateModel", json!({"ModelName": name, "PrimaryContainer": container})).await;
    let variant = json!({
        "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large",
        "InitialInstanceCount": n_instances,
    });
    let config = json!({"EndpointConfigName": name, "ProductionVariants": [variant]});
    client.control("CreateEndpointConfig", config).await;
}

async fn describe(client: &Client) -> Value {
    client.control("DescribeEndpoint", json!({"EndpointName": "moving"})).await
}

async fn in_service(client: &Client) {
    eventually(async || describe(client).await["EndpointStatus"] == "InService").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_to_other_models_and_more_instances_fails_nothing_and_leaves_no_old_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    let client = up.in_service().await;
    deployable(&client, "old", 1).await;
    deployable(&client, "new", 3).await;
    let endpoint = json!({"EndpointName": "moving", "EndpointConfigName": "old"});
    client.control("CreateEndpoint", endpoint).await;
    in_service(&client).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let load = tokio::spawn(load(client.clone(), "moving", Arc::clone(&is_over)));

    let update = json!({"EndpointName": "moving", "EndpointConfigName": "new"});
    client.control("UpdateEndpoint", update).await;
    assert_eq!(describe(&client).await["EndpointStatus"], "Updating");
    in_service(&client).await;
    let switched = Instant::now();
    let described = describe(&client).await;
    assert_eq!(described["EndpointConfigName"], "new");
    assert_eq!(described["ProductionVariants"][0]["CurrentInstanceCount"], 3);
    // The old fleet goes meanwhile: what is left are two of `demo` and three of this one.
    eventually(async || client.n_in_service().await == 5 && up.children().len() == 7).await;
    is_over.store(true, Relaxed);
    let elapsed = started.elapsed();

    let answered = load.await.expect("the load ends");
    assert_rate(&answered, elapsed);
    let failures: Vec<_> = answered.iter().filter_map(|it| it.by.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), failures.first());
    let by = |name: &str| answered.iter().filter(|it| it.by.as_deref() == Ok(name)).count();
    assert!(by("old?") > 0 && by("new?") > 0, "{} old, {} new", by("old?"), by("new?"));
    let after = answered.iter().filter(|it| it.began > switched);
    let wrong: Vec<_> = after.filter(|it| it.by.as_deref() != Ok("new?")).collect();
    assert!(wrong.is_empty(), "{} by the wrong fleet: {:?}", wrong.len(), wrong.first());
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_that_take_long_are_answered_across_an_update() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    let client = up.in_service().await;
    let store = ModelStore::new(client.router_url());
    for name in ["old", "new"] {
        deployable(&client, name, 1).await;
        let key = format!("{name}/{SLOW_MODEL}");
        store.put(BUCKET, &key, archives::zoo(SLOW_MODEL)).await.expect("the store takes it");
    }
    let endpoint = json!({"EndpointName": "moving", "EndpointConfigName": "old"});
    client.control("CreateEndpoint", endpoint).await;
    in_service(&client).await;
    let first = client.try_invoke_at("moving", SLOW_MODEL, CAT).await.expect("it is answered");
    assert_eq!(first.status, 200, "{}", first.text());
    let is_over = Arc::new(AtomicBool::new(false));
    let load = || tokio::spawn(slow_load(client.clone(), Arc::clone(&is_over)));
    let loads = [load(), load()];

    let update = json!({"EndpointName": "moving", "EndpointConfigName": "new"});
    client.control("UpdateEndpoint", update).await;
    in_service(&client).await;
    let switched = Instant::now();
    // The old instance is gone: two of `demo` and the new one are left.
    eventually(async || up.children().len() == 5).await;
    is_over.store(true, Relaxed);

    let mut n_across = 0;
    for load in loads {
        for (began, ended, status) in load.await.expect("the load ends") {
            assert_eq!(status, 200);
            n_across += usize::from(began < switched && ended > switched);
        }
    }
    assert!(n_across > 0, "none was in flight when the endpoint switched");
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_grows_and_shrinks_and_goes_with_its_instances() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    let client = up.in_service().await;
    deployable(&client, "any", 1).await;
    let endpoint = json!({"EndpointName": "moving", "EndpointConfigName": "any"});
    client.control("CreateEndpoint", endpoint).await;
    in_service(&client).await;
    assert_eq!(up.children().len(), 5);

    for n_instances in [2_u32, 1] {
        let desired = json!({"VariantName": "AllTraffic", "DesiredInstanceCount": n_instances});
        let update = json!({"EndpointName": "moving", "DesiredWeightsAndCapacities": [desired]});
        client.control("UpdateEndpointWeightsAndCapacities", update).await;
        in_service(&client).await;
        let variant = describe(&client).await["ProductionVariants"][0].clone();
        assert_eq!(variant["CurrentInstanceCount"], n_instances);
        eventually(async || up.children().len() == 4 + n_instances as usize).await;
    }

    client.control("DeleteEndpoint", json!({"EndpointName": "moving"})).await;
    let gone = async || {
        let described = client.try_control("DescribeEndpoint", json!({"EndpointName": "moving"}));
        described.await.is_err_and(|error| error.to_string().contains("Could not find endpoint"))
    };
    eventually(gone).await;
    assert_eq!(up.children().len(), 4, "only `demo` is left");
    up.stop().await;
}

#[tokio::test]
async fn more_instances_than_there_may_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    let client = up.in_service().await;
    // Two of the eight are `demo`'s.
    deployable(&client, "many", 7).await;
    let endpoint = json!({"EndpointName": "moving", "EndpointConfigName": "many"});
    let error = client.try_control("CreateEndpoint", endpoint).await.unwrap_err().to_string();
    assert!(error.contains("ResourceLimitExceeded"), "{error}");
    assert!(error.contains("is 8 Instances, with current utilization of 2 Instances"), "{error}");
    up.stop().await;
}
