//! Promise: `manifold up` leaves nothing running, however it ends.

use driver::child::{Child, ChildSpec, Stopped};
use std::{net::TcpListener, path::Path, time::Duration};
use tests::{binaries, eventually, processes};

/// Starts `manifold up` without models on a free port. It has no address file: what it started is
/// read from the process table.
fn up(folder: &Path, listen: &str) -> Child {
    let data = folder.join("data").display().to_string();
    let args = ["up", "--no-models", "--exit-with-parent", "--data", &data, "--listen", listen];
    let spec = ChildSpec {
        name: "manifold up".to_owned(),
        program: binaries().manifold,
        args: args.map(Into::into).to_vec(),
        env: Vec::new(),
        log: folder.join("up.log"),
        address_file: folder.join("none"),
    };
    Child::start(&spec).expect("manifold starts")
}

/// Waits until everything runs and returns the process ids of the children.
async fn children_of(up: &Child, folder: &Path) -> Vec<u32> {
    let log = folder.join("up.log");
    eventually(async || {
        std::fs::read_to_string(&log).is_ok_and(|it| it.contains("in service with"))
    })
    .await;
    let children = processes::children(up.pid().expect("it runs"));
    // A store, a router, two workers.
    assert_eq!(children.len(), 4, "{children:?}");
    children
}

async fn all_gone(pids: &[u32]) {
    eventually(async || !pids.iter().any(|pid| processes::is_running(*pid))).await;
}

#[tokio::test]
async fn killed_launcher_takes_its_children_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = up(folder.path(), "127.0.0.1:0");
    let children = children_of(&up, folder.path()).await;

    up.kill().await;

    all_gone(&children).await;
}

#[tokio::test]
async fn stopped_launcher_stops_its_children_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = up(folder.path(), "127.0.0.1:0");
    let children = children_of(&up, folder.path()).await;

    assert_eq!(up.stop(Duration::from_secs(20)).await, Stopped::Orderly);

    all_gone(&children).await;
    let log = std::fs::read_to_string(folder.path().join("up.log")).unwrap();
    assert!(log.contains("everything stopped"), "{log}");
}

#[tokio::test]
async fn worker_that_dies_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = up(folder.path(), "127.0.0.1:0");
    let children = children_of(&up, folder.path()).await;

    let is_worker = |pid: &u32| processes::name(*pid) == "manifold-worker";
    let worker = children.into_iter().find(is_worker).expect("two of the four are workers");
    processes::kill(worker);

    eventually(async || {
        let now = processes::children(up.pid().expect("it runs"));
        now.len() == 4 && !now.contains(&worker)
    })
    .await;
    up.stop(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn taken_port_is_said_plainly_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut up = up(folder.path(), &taken.local_addr().unwrap().to_string());

    assert_eq!(up.wait().await.unwrap().code(), Some(1));

    let log = std::fs::read_to_string(folder.path().join("up.log")).unwrap();
    assert!(log.contains("is taken by another program"), "{log}");
    assert!(log.contains("--listen"), "{log}");
}

#[tokio::test]
async fn second_launcher_with_the_same_data_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = up(folder.path(), "127.0.0.1:0");
    children_of(&first, folder.path()).await;

    let mut second = up(folder.path(), "127.0.0.1:0");

    assert_eq!(second.wait().await.unwrap().code(), Some(1));
    let log = std::fs::read_to_string(folder.path().join("up.log")).unwrap();
    assert!(log.contains("another cluster is running with the data folder"), "{log}");
    first.stop(Duration::from_secs(20)).await;
}
