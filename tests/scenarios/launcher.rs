//! Promise: `manifold up` leaves nothing running, however it ends, and keeps running what it starts.

use driver::child::Stopped;
use serde_json::json;
use std::{collections::BTreeSet, fs, net::TcpListener, os::unix::fs::PermissionsExt as _};
use tests::{Client, Launcher, Programs, eventually, processes};

/// As shells say it: ended by a signal.
const INTERRUPTED: Option<i32> = Some(130);

/// A program that never does what is expected of it, nor ends by itself.
const NEVER: &str = "while :; do sleep 1; done";

async fn nothing_is_left(launcher: &Launcher) {
    eventually(async || launcher.left_running().is_empty()).await;
}

/// Starts `manifold up` with a zoo that writes down its arguments and then does as `script` says.
async fn while_models_are_made(folder: &tempfile::TempDir, script: &str) -> Launcher {
    let script = format!("echo \"$*\" > \"$0.args\"\n{script}");
    let programs = Programs::in_folder(folder.path());
    programs.replace("manifold-zoo", &script);
    let args = ["up", "--exit-with-parent", "--listen", "127.0.0.1:0"];
    let launcher = Launcher::start_program(&programs.path("manifold"), folder.path(), &args);
    let zoo_args = programs.path("manifold-zoo.args");
    eventually(async || fs::read_to_string(&zoo_args).is_ok_and(|args| args.ends_with('\n'))).await;
    let args = fs::read_to_string(&zoo_args).expect("it was there");
    assert!(args.contains("--exit-with-parent"), "{args}");
    launcher
}

#[tokio::test]
async fn killed_launcher_takes_its_children_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    up.in_service().await;
    // A store, a router, two workers.
    assert_eq!(up.children().len(), 4);

    up.kill().await;

    nothing_is_left(&up).await;
}

#[tokio::test]
async fn stopped_launcher_stops_its_children_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    up.in_service().await;

    assert_eq!(up.stop().await, Stopped::Orderly);

    assert!(up.output().contains("everything stopped"), "{}", up.output());
    assert!(up.left_running().is_empty(), "it waits for the end of its children");
}

#[tokio::test]
async fn signal_while_instances_start_leaves_nothing_running() {
    for signal in [Launcher::interrupt, Launcher::terminate] {
        let folder = tempfile::tempdir().unwrap();
        // Without workers that listen, the start goes on until the signal comes.
        let programs = Programs::in_folder(folder.path());
        programs.replace("manifold-worker", NEVER);
        let args = ["up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
        let mut up = Launcher::start_program(&programs.path("manifold"), folder.path(), &args);
        up.says("router on").await;
        eventually(async || up.children().len() == 4).await;

        signal(&up);

        assert_eq!(up.ended().await.code(), INTERRUPTED, "{}", up.output());
        assert!(up.left_running().is_empty(), "it waits for the end of its children");
    }
}

#[tokio::test]
async fn signal_while_models_are_made_ends_the_zoo_too() {
    for signal in [Launcher::interrupt, Launcher::terminate] {
        let folder = tempfile::tempdir().unwrap();
        let mut up = while_models_are_made(&folder, NEVER).await;

        signal(&up);

        assert_eq!(up.ended().await.code(), INTERRUPTED, "{}", up.output());
        assert!(up.left_running().is_empty(), "it waits for the end of the zoo");
    }
}

#[tokio::test]
async fn killed_launcher_takes_the_zoo_with_it() {
    let folder = tempfile::tempdir().unwrap();
    // It ends when its standard input closes, as `--exit-with-parent` means.
    let mut up = while_models_are_made(&folder, "cat > /dev/null").await;
    assert_eq!(up.left_running().len(), 2, "the launcher and the zoo");

    up.kill().await;

    nothing_is_left(&up).await;
}

#[tokio::test]
async fn worker_that_dies_comes_back_under_its_instance_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Launcher::up(folder.path());
    let client = up.in_service().await;
    let is_worker = |pid: &u32| processes::name(*pid) == "manifold-worker";
    let worker = up.children().into_iter().find(is_worker).expect("two of the four are workers");
    let instance = processes::flag(worker, "--instance-id").expect("workers are named");
    let address_file = up.data().join("run").join(format!("{instance}.addr"));

    processes::kill(worker);

    eventually(async || {
        let children = up.children();
        // It is removed before the worker is started again.
        let address = fs::read_to_string(&address_file).unwrap_or_default();
        children.len() == 4
            && !children.contains(&worker)
            && client.instances().await.iter().any(|it| {
                it.instance == instance && it.in_service && it.address.to_string() == address.trim()
            })
    })
    .await;
    assert_eq!(client.n_in_service().await, 2);
    up.stop().await;
}

#[tokio::test]
async fn proxy_of_the_environment_is_not_asked_for_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let manifold = tests::binaries().manifold.display().to_string();
    // Nobody listens there. `env` becomes `manifold`.
    let proxy = "127.0.0.1:9";
    let (lower, upper) =
        (format!("http_proxy=http://{proxy}"), format!("HTTP_PROXY=http://{proxy}"));
    let up = [&manifold, "up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
    let args = [&[&*lower, &*upper], &up[..]].concat();
    let mut up = Launcher::start_program("/usr/bin/env".as_ref(), folder.path(), &args);

    assert_eq!(up.in_service().await.n_in_service().await, 2);

    up.stop().await;
}

#[tokio::test]
async fn taken_port_is_said_plainly_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut up = Launcher::up_on(folder.path(), &taken.local_addr().unwrap().to_string());

    assert_eq!(up.ended().await.code(), Some(1));

    let output = up.output();
    assert!(output.contains("is taken by another program"), "{output}");
    assert!(output.contains("--listen"), "{output}");
    assert!(up.left_running().is_empty());
}

#[tokio::test]
async fn second_launcher_with_the_same_data_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Launcher::up(folder.path());
    first.in_service().await;

    let mut second = Launcher::up(folder.path());

    assert_eq!(second.ended().await.code(), Some(1));
    let output = second.output();
    assert!(output.contains("another cluster is running with the data folder"), "{output}");
    first.stop().await;
}

/// Stops a launcher in order, and its output with it: what the next one says is new.
async fn end(mut up: Launcher, folder: &tempfile::TempDir) {
    assert_eq!(up.stop().await, Stopped::Orderly);
    fs::remove_file(folder.path().join("manifold.log")).expect("it had a log");
}

async fn in_service(client: &Client) -> BTreeSet<String> {
    let instances = client.instances().await.into_iter();
    instances.filter(|it| it.in_service).map(|it| it.instance).collect()
}

#[tokio::test]
async fn second_up_in_one_folder_has_the_same_instances_when_it_says_that_it_is_in_service() {
    let folder = tempfile::tempdir().unwrap();
    let up = Launcher::up(folder.path());
    let before = in_service(&up.in_service().await).await;
    assert_eq!(before.len(), 2);
    end(up, &folder).await;

    let mut up = Launcher::up(folder.path());

    // Not in the end, but now.
    assert_eq!(in_service(&up.in_service().await).await, before);
    up.stop().await;
}

#[tokio::test]
async fn workers_beyond_the_limit_are_said_plainly_and_the_cluster_runs_on() {
    let folder = tempfile::tempdir().unwrap();
    let up = |n_workers| {
        let args = ["up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
        let flags = ["--max-instances", "2", "--workers", n_workers];
        Launcher::start(folder.path(), &[&args[..], &flags[..]].concat())
    };
    let first = up("1");
    let client = first.in_service().await;
    let container =
        json!({"Image": "any", "Mode": "MultiModel", "ModelDataUrl": "s3://manifold-demo/other/"});
    let model = json!({"ModelName": "other", "PrimaryContainer": container});
    client.control("CreateModel", model).await;
    let variant = json!({
        "VariantName": "AllTraffic", "ModelName": "other", "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    });
    let config = json!({"EndpointConfigName": "other", "ProductionVariants": [variant]});
    client.control("CreateEndpointConfig", config).await;
    let endpoint = json!({"EndpointName": "other", "EndpointConfigName": "other"});
    client.control("CreateEndpoint", endpoint).await;
    eventually(async || client.n_in_service().await == 2).await;
    end(first, &folder).await;

    let mut second = up("2");

    let client = second.in_service().await;
    let output = second.output();
    assert!(output.contains("`demo` cannot have 2 instances"), "{output}");
    assert!(output.contains("--max-instances") && output.contains("it keeps 1"), "{output}");
    let deleted = client.try_control("DeleteEndpoint", json!({"EndpointName": "other"})).await;
    assert!(deleted.is_ok(), "what takes the room can be deleted: {deleted:?}");
    second.stop().await;
}

#[tokio::test]
async fn worker_that_cannot_be_started_at_all_is_said_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::in_folder(folder.path());
    programs.replace("manifold-worker", NEVER);
    let not_executable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(programs.path("manifold-worker"), not_executable).unwrap();
    let args = ["up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
    let mut up = Launcher::start_program(&programs.path("manifold"), folder.path(), &args);

    assert_eq!(up.ended().await.code(), Some(1));

    let output = up.output();
    assert!(
        output.contains("endpoint `demo` failed") && output.contains("could not start"),
        "{output}"
    );
    let n_tries = output.matches("could not start").count();
    assert!(n_tries < 20, "{n_tries} tries without a rest: {output}");
    assert!(up.left_running().is_empty());
}

#[tokio::test]
async fn key_of_the_router_is_for_the_router_alone() {
    let folder = tempfile::tempdir().unwrap();
    let manifold = tests::binaries().manifold.display().to_string();
    let (key, secret) = ("ROUTER_ACCESS_KEY_ID=AKIDTEST", "ROUTER_SECRET_ACCESS_KEY=hush");
    let up = [&manifold, "up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
    let args = [&[key, secret, "WORKER_LOG_FORMAT=json"], &up[..]].concat();
    // `env` becomes `manifold`.
    let mut up = Launcher::start_program("/usr/bin/env".as_ref(), folder.path(), &args);
    up.says("Ctrl-C stops everything").await;

    let children = up.children();
    assert_eq!(children.len(), 4);
    for child in children {
        let (name, variables) = (processes::name(child), processes::environment(child));
        let has = |beginning: &str| variables.iter().any(|it| it.starts_with(beginning));
        assert!(!variables.is_empty(), "{name}");
        assert_eq!(has("ROUTER_"), name == "manifold-router", "{name}");
        assert_eq!(has(secret), name == "manifold-router", "{name}");
        assert_eq!(has("WORKER_"), name == "manifold-worker", "{name}");
    }
    up.stop().await;
}
