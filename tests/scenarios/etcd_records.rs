//! Promise: what a control-plane call was answered is in etcd, and an etcd that is away, wiped or older
//! than it was costs changes for a while, never records and never an invocation.

use serde_json::{Map, Value, json};
use std::time::Duration;
use tests::{Client, Cluster, Etcd, SteadyLoad, eventually};
use tokio::time::{sleep, timeout};

/// A call is answered well before clients give up, also while etcd is away.
const ANSWER: Duration = Duration::from_secs(15);

/// Whoever is only kept by a lease is gone by then.
const BEYOND_LEASES: Duration = Duration::from_secs(4);

/// Nothing lies where the models of these tests say.
const ANY_MODEL: [&str; 1] = ["--allow-empty-model-data"];

fn model(name: &str) -> Value {
    let container = json!({
        "Image": "any", "Mode": "MultiModel", "ModelDataUrl": "s3://manifold-test/models/",
    });
    json!({ "ModelName": name, "PrimaryContainer": container,
            "ExecutionRoleArn": "arn:aws:iam::123456789012:role/any" })
}

async fn models(client: &Client) -> Vec<String> {
    let listed = client.control("ListModels", json!({ "MaxResults": 100 })).await;
    let models = listed["Models"].as_array().expect("a list").iter();
    let mut names: Vec<_> =
        models.map(|it| it["ModelName"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

async fn has(client: &Client, model: &str) -> bool {
    models(client).await.iter().any(|it| it == model)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_router_is_there_at_the_others_once_it_is_answered() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).routers(2).etcd(&etcd).start().await;
    let [a, b] = cluster.clients().try_into().expect("two routers");
    for n in 0..10 {
        let name = format!("model-{n}");
        a.control("CreateModel", model(&name)).await;
        assert!(has(&b, &name).await, "{name} is not there");
        b.control("DeleteModel", json!({ "ModelName": name })).await;
        assert!(!has(&a, &name).await, "{name} is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_changes_are_refused_clearly_and_everything_else_goes_on() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    let echo = cluster.publish_echo_models(2).await;
    client.control("CreateModel", model("before")).await;
    let load = SteadyLoad::start(client, &echo, 2);
    etcd.kill();

    let refused = timeout(ANSWER, client.try_control("CreateModel", model("during"))).await;
    let refused = refused.expect("an answer").expect_err("etcd is away").to_string();
    assert!(refused.contains("ServiceUnavailable") && refused.contains("etcd"), "{refused}");
    assert!(has(client, "before").await && !has(client, "during").await);

    sleep(BEYOND_LEASES).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{} failed, the first: {:?}", failures.len(), failures.first());

    // A router that starts now has its last copy, and workers that know where it is.
    cluster.router(0).restart().await;
    assert!(has(client, "before").await);
    cluster.all_in_service().await;
    etcd.restart().await;
    eventually(async || client.try_control("CreateModel", model("after")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_etcd_gets_its_records_back_from_the_newest_copy() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).routers(2).etcd(&etcd).start().await;
    let [a, b] = cluster.clients().try_into().expect("two routers");
    a.control("CreateModel", model("one")).await;
    b.control("CreateModel", model("two")).await;
    let before = models(&a).await;

    etcd.wipe();
    etcd.restart().await;
    eventually(async || a.try_control("CreateModel", model("three")).await.is_ok()).await;
    eventually(async || b.try_control("CreateModel", model("four")).await.is_ok()).await;
    for client in [&a, &b] {
        let after = models(client).await;
        assert!(before.iter().all(|it| after.contains(it)), "{before:?} {after:?}");
        assert_eq!(after.len(), before.len() + 2, "{after:?}");
    }
    let logs = [cluster.router_log(0), cluster.router_log(1)].concat();
    assert!(logs.contains("etcd has lost records; giving them back"), "it was silent");
    let endpoint = json!({ "EndpointName": "demo" });
    assert_eq!(b.control("DescribeEndpoint", endpoint).await["EndpointStatus"], "InService");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_went_back_in_time_gets_what_it_lost() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    client.control("CreateModel", model("early")).await;
    etcd.save();
    etcd.restart().await;
    eventually(async || client.try_control("CreateModel", model("late")).await.is_ok()).await;

    etcd.put_back();
    etcd.restart().await;
    eventually(async || client.try_control("CreateModel", model("later")).await.is_ok()).await;
    let models = models(client).await;
    assert!(
        ["early", "late", "later"].iter().all(|it| models.iter().any(|m| m == it)),
        "{models:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_router_that_was_alone_move_into_an_empty_etcd() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    cluster.client().control("CreateModel", model("first")).await;
    cluster.router(0).kill().await;
    // The same file, and an etcd that never saw any of it.
    let Some(other) = Etcd::start().await else { return };
    cluster.router(0).restart_with("--cluster", &other.url()).await;
    assert!(has(cluster.client(), "first").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_records_that_comes_first_does_not_empty_who_has_them() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).routers(2).etcd(&etcd).start().await;
    let [a, b] = cluster.clients().try_into().expect("two routers");
    a.control("CreateModel", model("kept")).await;
    cluster.router(0).kill().await;
    cluster.router(1).kill().await;

    etcd.wipe();
    etcd.restart().await;
    // It begins anew, and puts the endpoints of its file there, before who has the records is back.
    let nothing = tempfile::tempdir().expect("there is room for temporary files");
    let records = nothing.path().join("records.redb").display().to_string();
    cluster.router(1).restart_with("--records", &records).await;
    assert!(!has(&b, "kept").await);
    cluster.router(0).restart().await;
    assert!(has(&a, "kept").await);
    eventually(async || has(&b, "kept").await).await;
    eventually(async || b.try_control("CreateModel", model("after")).await.is_ok()).await;
    assert!(has(&a, "after").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_records_than_fit_into_one_request_are_given_back() {
    const N_MODELS: usize = 100;
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    // 16 KB each: a hundred are more than the 1.5 MiB of a request to etcd.
    let value = |n| (format!("name_{n}"), Value::String("v".repeat(1024)));
    let environment: Map<String, Value> = (0..16).map(value).collect();
    for n in 0..N_MODELS {
        let mut input = model(&format!("large-{n}"));
        input["PrimaryContainer"]["Environment"] = environment.clone().into();
        client.control("CreateModel", input).await;
    }
    etcd.wipe();
    etcd.restart().await;
    eventually(async || client.try_control("CreateModel", model("after")).await.is_ok()).await;
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/manifold/records/models/"]);
    let keys = String::from_utf8_lossy(&keys.stdout).into_owned();
    assert_eq!(keys.matches("/large-").count(), N_MODELS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_history_is_kept_aside() {
    let [Some(etcd), Some(other)] = [Etcd::start().await, Etcd::start().await] else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    cluster.client().control("CreateModel", model("mine")).await;
    let others = Cluster::builder().router_flags(&ANY_MODEL).etcd(&other).start().await;
    others.client().control("CreateModel", model("theirs")).await;

    cluster.router(0).restart_with("--cluster", &other.url()).await;
    let client = cluster.client();
    assert!(has(client, "theirs").await && !has(client, "mine").await);
    let log = cluster.router_log(0);
    assert!(log.contains("its own copy was kept aside"), "it was silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_router_can_read_stops_none_and_is_not_lost() {
    const KEY: &str = "/manifold/records/models/of-the-future";
    let Some(mut etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    assert!(etcd.ctl(&["put", KEY, "not this version's"]).status.success());
    cluster.router(0).restart().await;
    client.control("CreateModel", model("another")).await;
    let refused = client.try_control("CreateModel", model("of-the-future")).await;
    assert!(refused.is_err(), "it would have been overwritten");

    etcd.wipe();
    etcd.restart().await;
    eventually(async || client.try_control("CreateModel", model("after")).await.is_ok()).await;
    let kept = etcd.ctl(&["get", "--print-value-only", KEY]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), "not this version's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_cannot_be_read_is_not_taken_for_a_loss() {
    const KEY: &str = "/manifold/records/generation";
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    client.control("CreateModel", model("kept")).await;
    assert!(etcd.ctl(&["put", KEY, "not this version's"]).status.success());
    let tells = "it cannot be told or mended whether etcd has lost records";
    eventually(async || cluster.router_log(0).contains(tells)).await;
    // Who has a copy serves it, also from the start.
    cluster.router(0).restart().await;
    assert!(has(client, "kept").await);
    assert!(client.try_control("CreateModel", model("after")).await.is_err());
    let kept = etcd.ctl(&["get", "--print-value-only", KEY]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), "not this version's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_somebody_wrote_into_the_generation_ends_no_router() {
    const KEY: &str = "/manifold/records/generation";
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    client.control("CreateModel", model("kept")).await;
    let (pid, right) =
        (cluster.router(0).pid().await, etcd.ctl(&["get", "--print-value-only", KEY]));
    let right = String::from_utf8_lossy(&right.stdout).trim().to_owned();
    let mut wrong: Value = serde_json::from_str(&right).expect("JSON");
    wrong["number"] = u64::MAX.into();
    assert!(etcd.ctl(&["put", KEY, &wrong.to_string()]).status.success());
    for _ in 0..3 {
        assert!(client.try_control("CreateModel", model("after")).await.is_err());
        assert!(has(client, "kept").await);
    }
    assert_eq!(cluster.router(0).pid().await, pid);

    // It was not taken: with the right one all is as before.
    assert!(etcd.ctl(&["put", KEY, &right]).status.success());
    eventually(async || client.try_control("CreateModel", model("after")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_somebody_wrote_does_not_keep_records_from_being_given_back() {
    let Some(etcd) = Etcd::start().await else { return };
    let cluster = Cluster::builder().router_flags(&ANY_MODEL).etcd(&etcd).start().await;
    let client = cluster.client();
    client.control("CreateModel", model("kept")).await;
    let candidate = ["put", "/manifold/records-restore/zzz", "18446744073709551615"];
    assert!(etcd.ctl(&candidate).status.success());
    assert!(etcd.ctl(&["del", "--prefix", "/manifold/records/"]).status.success());
    eventually(async || client.try_control("CreateModel", model("after")).await.is_ok()).await;
    assert!(has(client, "kept").await);
}
