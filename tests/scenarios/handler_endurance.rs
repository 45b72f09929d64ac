//! Promise: handler processes that are killed, for memory or for nothing, cost what they had in hand and
//! no more; a thousand loads leave nothing behind.

use futures_util::future::join_all;
use rand::{SeedableRng as _, rngs::StdRng, seq::IteratorRandom as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tests::{Cluster, MemoryCgroup, archives, eventually, processes, skipping::skipped};
use tokio::{join, time::sleep};

/// Answers with its process, or takes more memory than there is.
const SERVICE: &[u8] = b"
import os, time
def handle(data, context):
    if data is None:
        return
    if bytes(data[0]['body']) == b'eat':
        return [str(len(bytearray(os.urandom(1024)) * (1 << 20)))]
    time.sleep(0.005)
    return [str(os.getpid())]
";

const MANIFEST: &[u8] = br#"{"model": {"modelName": "own", "handler": "service.py:handle"}}"#;

fn service() -> Vec<u8> {
    archives::of_files(&[("MAR-INF/MANIFEST.json", MANIFEST), ("service.py", SERVICE)])
}

#[tokio::test]
async fn a_handler_that_the_kernel_kills_for_memory_is_507_and_its_worker_goes_on() {
    let group = match MemoryCgroup::new() {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let cluster = Cluster::builder().worker_rig(0, group.worker()).start().await;
    cluster.publish("own.mar", service()).await;
    let before = cluster.client().invoke("own.mar", b"x").await;
    assert_eq!(before.status, 200, "{}", before.text());
    let worker = cluster.worker(0).pid().await;
    // Less than the handler takes, and more than the worker has: the kernel kills who has most.
    group.limit(768 << 20).expect("the group takes a limit");

    let killed = cluster.client().invoke("own.mar", b"eat").await;

    killed.expect_error(424, "ModelError");
    assert_eq!(killed.json()["OriginalStatusCode"], 507, "{}", killed.text());
    assert!(killed.text().contains("killed because memory ran out"), "{}", killed.text());
    assert!(group.n_kills() > 0);
    let after = cluster.client().invoke("own.mar", b"x").await;
    assert_eq!(after.status, 200, "{}", after.text());
    assert_ne!(after.text(), before.text());
    assert_eq!(cluster.worker(0).pid().await, worker);
}

/// Kills that one run makes, each of a process that has answered.
const N_KILLS: usize = 40;

/// So that a process has answered before it is killed, and is started again at once.
const BETWEEN_KILLS: Duration = Duration::from_millis(50);

/// What the clients of one run saw.
#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    n_succeeded: AtomicUsize,
    n_failed: AtomicUsize,
    /// Processes that have answered.
    alive: Mutex<Vec<u32>>,
}

impl Seen {
    async fn invoke(&self, cluster: &Cluster, model: &str) {
        while !self.is_over.load(Ordering::Relaxed) {
            let answer = cluster.client().invoke(model, b"x").await;
            if answer.status == 200 {
                let pid = answer.text().parse().expect("it says its process");
                let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
                alive.retain(|it| *it != pid);
                alive.push(pid);
                self.n_succeeded.fetch_add(1, Ordering::Relaxed);
            } else {
                let message = answer.expect_error(424, "ModelError");
                assert!(
                    message.contains("the handler process was killed by signal 9"),
                    "{message}"
                );
                self.n_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn kill(&self) {
        let mut random = StdRng::seed_from_u64(N_KILLS as u64);
        let mut killed = BTreeSet::new();
        while killed.len() < N_KILLS {
            sleep(BETWEEN_KILLS).await;
            let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = (0..alive.len()).choose(&mut random) {
                let pid = alive.remove(at);
                processes::kill(pid);
                killed.insert(pid);
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn handlers_killed_under_load_fail_what_they_had_in_hand_with_the_cause_and_nothing_else() {
    let cluster = Cluster::builder().worker_flags(&["--handler-workers", "2"]).start().await;
    let models = ["one.mar", "two.mar", "three.mar"];
    for model in models {
        cluster.publish(model, service()).await;
        assert_eq!(cluster.client().invoke(model, b"x").await.status, 200);
    }
    let seen = Seen::default();
    let clients = (0..9).map(|idx| seen.invoke(&cluster, models[idx % models.len()]));
    join!(join_all(clients), seen.kill());

    let n_failed = seen.n_failed.load(Ordering::Relaxed);
    let n_succeeded = seen.n_succeeded.load(Ordering::Relaxed);
    assert!((1..=N_KILLS).contains(&n_failed), "{n_failed} failed, of {n_succeeded}");
    for model in models {
        assert_eq!(cluster.client().invoke(model, b"x").await.status, 200);
    }
}

/// Loads of one run, and how many of them before it is looked how much the worker holds: its pools of
/// threads and of memory are filled by then.
const N_LOADS: usize = 1_000;
const N_FIRST: usize = 200;
/// Loads at the same time.
const N_CLIENTS: usize = 4;
/// What the allocator may keep more of at one moment than at another.
const SLACK_BYTES: u64 = 24 << 20;

#[tokio::test]
async fn a_thousand_loads_and_unloads_leave_no_process_no_file_and_no_memory() {
    let models = tempfile::tempdir().expect("there is a temporary folder");
    let root = models.path().to_str().expect("its name is text");
    let cluster = Cluster::builder().worker_flags(&["--file-root", root]).start().await;
    let folder = models.path().join("model");
    fs::create_dir(&folder).expect("it is new");
    fs::write(folder.join("service.py"), SERVICE).expect("it is new");
    let (url, pid) = (cluster.worker(0).url().await, cluster.worker(0).pid().await);
    let pid = pid.expect("it runs");

    load_and_unload(&url, &folder, N_FIRST).await;
    let before = Held::by(pid, &cluster);
    load_and_unload(&url, &folder, N_LOADS - N_FIRST).await;

    eventually(async || processes::children(pid).is_empty()).await;
    eventually(async || Held::by(pid, &cluster).n_open <= before.n_open).await;
    let after = Held::by(pid, &cluster);
    assert_eq!(after.n_files, before.n_files);
    assert!(after.rss_bytes <= before.rss_bytes + SLACK_BYTES, "{before:?} became {after:?}");
}

/// What a worker holds.
#[derive(Debug)]
struct Held {
    rss_bytes: u64,
    n_open: usize,
    n_files: usize,
}

impl Held {
    fn by(pid: u32, cluster: &Cluster) -> Self {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is ours");
        Self {
            rss_bytes: processes::rss_bytes(pid).expect("it runs"),
            n_open: open.count(),
            n_files: n_files(&cluster.cache_folder(0)),
        }
    }
}

fn n_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|it| if it.path().is_dir() { n_files(&it.path()) } else { 1 }).sum()
}

/// Has a worker load, serve and unload by the container contract, so many times in all.
async fn load_and_unload(url: &str, folder: &Path, n_loads: usize) {
    let client = Client::new();
    let one_client = async |client_idx: usize| {
        // An artifact is in memory once, so each client has one of its own.
        let own = folder.with_file_name(format!("model-{client_idx}"));
        fs::create_dir_all(&own).expect("the folder is ours");
        fs::copy(folder.join("service.py"), own.join("service.py")).expect("the folder is ours");
        for _ in 0..n_loads / N_CLIENTS {
            let name = format!("m{client_idx}");
            let load = json!({ "model_name": name, "url": own, "handler": "service:handle" });
            let one = format!("{url}/models/{name}");
            let calls = [
                client.request(Method::POST, format!("{url}/models")).json(&load),
                client.request(Method::POST, format!("{one}/invoke")).body("x"),
                client.request(Method::DELETE, one),
            ];
            for call in calls {
                let answer = call.send().await.expect("the worker answers");
                let status = answer.status();
                let told: Value = answer.json().await.expect("it is JSON");
                assert!(status.is_success(), "{status}: {told}");
            }
        }
    };
    join_all((0..N_CLIENTS).map(one_client)).await;
}
