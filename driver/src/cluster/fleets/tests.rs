//! Fleets of processes that are no workers: what is started, drained, and given memory.

use super::*;
use crate::binaries::Binaries;
use shared::id::InstanceId;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;
use tokio::time::timeout;

const MACHINE: Machine = Machine { memory_bytes: 1 << 20, n_cores: 8, wanted_bytes: Some(1200) };

/// Says that it runs, and does not end when it is asked to.
const STUBBORN: &str = "trap '' TERM; : > \"$0.runs\"; while :; do sleep 0.1; done";

fn fleet(digit: char, n_instances: u32) -> DesiredFleet {
    DesiredFleet {
        fleet: format!("f-{}", digit.to_string().repeat(32)).parse().unwrap(),
        endpoint: "demo".parse().unwrap(),
        variant: "all".parse().unwrap(),
        n_instances,
        environment: BTreeMap::new(),
        container: None,
    }
}

/// A keeper whose workers are shell scripts.
fn keeper(folder: &TempDir, script: &str) -> Keeper {
    let program = folder.path().join("program");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let binaries = Binaries {
        manifold: program.clone(),
        router: program.clone(),
        worker: program.clone(),
        zoo: program,
    };
    let data = DataDir::open(folder.path()).unwrap();
    Keeper {
        processes: Processes::new(binaries, data),
        machine: MACHINE,
        client: Client::new("http://127.0.0.1:9"),
        store_url: String::new(),
        instances: BTreeMap::new(),
        known: 0,
        is_tidy: false,
    }
}

impl Keeper {
    fn want(&mut self, fleets: &[DesiredFleet]) {
        let desired = DesiredFleets { version: self.known + 1, fleets: fleets.to_vec() };
        self.reconcile(&desired);
    }

    /// The indices of those that serve, and the memory that each began with.
    fn serving(&self) -> Vec<(u32, u64)> {
        let serving = self.instances.values().filter(|it| !it.is_draining());
        serving.map(|it| (it.idx, it.first_budget_bytes)).collect()
    }
}

async fn until_exists(path: &Path) {
    while !path.exists() {
        sleep(crate::child::POLL).await;
    }
}

#[test]
fn names_of_instances_are_valid_and_differ_between_fleets() {
    let named = |digit| DesiredFleet {
        endpoint: format!("a{}", "-b".repeat(31)).parse().unwrap(),
        variant: "v".repeat(63).parse().unwrap(),
        ..fleet(digit, 1)
    };
    let (one, other) = (name(&named('1'), 0), name(&named('2'), 4_000_000_000));
    assert_ne!(one, other);
    for name in [one, other] {
        assert!(name.parse::<InstanceId>().is_ok(), "{name}");
    }
}

#[tokio::test]
async fn scale_up_does_not_wait_for_those_that_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder, "cat");
    for (n_instances, serving) in [(3, vec![0, 1, 2]), (1, vec![0]), (3, vec![0, 3, 4])] {
        keeper.want(&[fleet('1', n_instances)]);
        let indices: Vec<u32> = keeper.serving().iter().map(|it| it.0).collect();
        assert_eq!(indices, serving);
    }
}

#[tokio::test]
async fn memory_of_those_that_drain_is_not_given_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder, "cat");
    keeper.want(&[fleet('1', 2)]);
    assert_eq!(keeper.serving(), [(0, 600), (1, 600)]);
    keeper.want(&[fleet('2', 2)]);
    assert_eq!(keeper.serving(), [(0, 300), (1, 300)]);
}

#[tokio::test]
async fn what_an_instance_leaves_is_gone_before_its_name_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder, "cat");
    let fleet = fleet('1', 1);
    let cache = keeper.processes.data.cache(&name(&fleet, 0));
    fs::create_dir(&cache).unwrap();
    keeper.want(std::slice::from_ref(&fleet));
    keeper.want(&[]);
    let ended = next_ended(&mut keeper.instances).await;
    assert_eq!(ended, name(&fleet, 0));
    assert!(!cache.exists());
    keeper.ended(&ended);
    assert!(keeper.instances.is_empty());
}

#[tokio::test]
async fn stop_does_not_wait_as_long_as_a_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder, STUBBORN);
    keeper.want(&[fleet('1', 1)]);
    until_exists(&folder.path().join("program.runs")).await;
    keeper.want(&[]);
    let (_orders, receiver) = orders::channel();
    let stop = Order::Stop { grace: Duration::from_millis(100) };
    let killed = timeout(DRAIN_GRACE / 2, keeper.end(stop, receiver)).await.unwrap();
    assert_eq!(killed, [name(&fleet('1', 1), 0)]);
}

#[tokio::test]
async fn instance_whose_keeping_task_failed_is_missing_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&folder, "cat");
    let fleet = fleet('1', 1);
    keeper.want(std::slice::from_ref(&fleet));
    // As after a panic: the task is over and nobody wanted it to be.
    keeper.instances.values().for_each(|it| it.killer().give());
    let ended = next_ended(&mut keeper.instances).await;
    keeper.ended(&ended);
    assert_eq!(keeper.known, 0, "the router is asked again");
    keeper.want(&[fleet]);
    assert_eq!(keeper.serving().len(), 1);
}

#[tokio::test]
async fn end_of_the_keeping_task_is_noticed() {
    let (orders, receiver) = orders::channel();
    let task = tokio::spawn(async move {
        let _receiver = receiver;
        std::future::pending().await
    });
    let fleets = Fleets { orders, task };
    fleets.task.abort();
    fleets.lost().await;
}
