//! A cluster of real processes for one test: a store, routers, workers, on free ports, in a folder
//! that goes with it. Dropping it kills them; if the test failed, it shows their logs first.

mod builder;

pub use builder::ClusterBuilder;

use crate::{
    archives,
    client::Client,
    eventually,
    flaky::{Fault, FlakyStore},
    instance::Worker,
    router::Router,
};
use driver::{
    binaries::Binaries,
    child::{Child, ChildSpec},
    data::DataDir,
    models::ModelStore,
};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const BUCKET: &str = "manifold-test";
const PREFIX: &str = "models/";

/// Logs shown when a test fails: the end is where the reason is.
const MAX_LOG_LINES: usize = 60;

#[derive(Debug)]
pub struct Cluster {
    store: ModelStore,
    store_url: String,
    flaky_store: Option<FlakyStore>,
    workers: Vec<Worker>,
    routers: Vec<Router>,
    _store: Child,
    data: DataDir,
    // Last, so that the processes are gone before their files.
    _folder: TempDir,
}

/// Returns the binaries beside the running test, or fails it with what to do.
pub fn binaries() -> Binaries {
    let test = std::env::current_exe().expect("a running test has a file");
    // target/release/deps/scenarios-0123 → target/release; target/release/chaos is there already
    let folder = test.parent().expect("a file is in a folder");
    let folder = folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder);
    let binaries = Binaries::within(folder);
    binaries.check().unwrap_or_else(|error| panic!("{error} (cargo build --release --workspace)"));
    binaries
}

impl Cluster {
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// A client of the first router.
    pub fn client(&self) -> &Client {
        self.routers[0].client()
    }

    /// Where the store is.
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    /// Where the target models of the test endpoint lie in it.
    pub fn models_url(&self) -> String {
        format!("s3://{BUCKET}/{PREFIX}")
    }

    /// The addresses of all routers.
    pub fn urls(&self) -> Vec<String> {
        self.routers.iter().map(|it| it.url().to_owned()).collect()
    }

    /// A client of each router.
    pub fn clients(&self) -> Vec<Client> {
        self.routers.iter().map(|it| it.client().clone()).collect()
    }

    pub fn router(&self, router_idx: usize) -> &Router {
        &self.routers[router_idx]
    }

    /// What a router has logged.
    pub fn router_log(&self, router_idx: usize) -> String {
        let log = self.data.log(self.routers[router_idx].id());
        std::fs::read_to_string(log).expect("a router has a log")
    }

    /// Waits until every worker takes invocations from every router.
    pub async fn all_in_service(&self) {
        for router in &self.routers {
            let client = router.client();
            eventually(async || client.n_in_service().await == self.workers.len()).await;
        }
    }

    /// Ends all workers in order and starts them again: models stay on their disks, none in memory.
    pub async fn restart_workers(&self) {
        for worker in &self.workers {
            worker.stop().await;
        }
        for worker in &self.workers {
            worker.restart().await;
        }
        self.all_in_service().await;
    }

    /// How many artifacts are on the workers' disks for good.
    pub fn n_on_disk(&self) -> usize {
        let folders = (0..self.workers.len()).map(|idx| self.cache_folder(idx).join("artifacts"));
        let artifacts =
            folders.flat_map(|it| std::fs::read_dir(it).into_iter().flatten().flatten());
        artifacts.filter(|it| it.path().join("record.json").exists()).count()
    }

    /// Makes the store fail for the workers. Ask the builder for a flaky store first.
    pub fn break_store(&self, fault: Fault) {
        self.flaky_store.as_ref().expect("the builder was asked for one").set(fault);
    }

    /// Where a worker keeps its artifacts.
    pub fn cache_folder(&self, worker_idx: usize) -> PathBuf {
        self.data.cache(self.workers[worker_idx].id())
    }

    /// What has come of asynchronous invocations: how many outputs there are.
    pub fn outputs(&self) -> usize {
        let outputs = std::fs::read_dir(self.data.store().join(BUCKET).join("out"));
        outputs.into_iter().flatten().flatten().filter(|it| is_output(&it.path())).count()
    }

    /// What router and workers have logged.
    pub fn logs(&self) -> String {
        let routers = self.routers.iter().map(Router::id);
        let names = self.workers.iter().map(Worker::id).chain(routers);
        let logs = names.map(|it| std::fs::read_to_string(self.data.log(it)));
        logs.map(|it| it.expect("every process has a log")).collect()
    }

    /// What a worker has logged.
    pub fn worker_log(&self, worker_idx: usize) -> String {
        let log = self.data.log(self.workers[worker_idx].id());
        std::fs::read_to_string(log).expect("a worker has a log")
    }

    pub fn worker(&self, worker_idx: usize) -> &Worker {
        &self.workers[worker_idx]
    }

    /// Makes a target model of the test endpoint.
    pub async fn publish(&self, model: &str, archive: Vec<u8>) {
        let key = format!("{PREFIX}{model}");
        self.store.put(BUCKET, &key, archive).await.expect("the store takes the archive");
    }

    /// Deletes a target model of the test endpoint.
    pub async fn delete(&self, model: &str) {
        let key = format!("{PREFIX}{model}");
        self.store.delete(BUCKET, &key).await.expect("the store deletes the archive");
    }

    /// Makes `n` target models that answer with their input.
    pub async fn publish_echo_models(&self, n: usize) -> Vec<String> {
        let models: Vec<String> = (0..n).map(|model| format!("echo-{model}.tar.gz")).collect();
        for model in &models {
            self.publish(model, archives::echo()).await;
        }
        models
    }

    /// Sums a metric over all workers that run.
    pub async fn worker_metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for worker in &self.workers {
            if worker.pid().await.is_some() {
                sum += self.client().metric(&worker.url().await, name).await;
            }
        }
        sum
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let names = self.workers.iter().map(Worker::id);
            let names = names.chain(self.routers.iter().map(Router::id)).chain(["store"]);
            for name in names {
                show_log(name, &self.data.log(name));
            }
        }
    }
}

/// The store writes under another name until an object is whole.
fn is_output(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "out")
}

pub(crate) fn show_log(name: &str, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(MAX_LOG_LINES)..];
    // A test that fails has worse problems than a closed standard error.
    let _ = writeln!(std::io::stderr(), "--- {name}\n{}", end.join("\n"));
}

pub(crate) async fn start(spec: &ChildSpec) -> (Child, String) {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    let address = child.address().await.unwrap_or_else(|error| panic!("{error}"));
    (child, format!("http://{address}"))
}
