//! A cluster of real processes for one test: a store, a router, workers, on free ports, in a folder
//! that goes with it. Dropping it kills them; if the test failed, it shows their logs first.

use crate::{
    archives,
    client::Client,
    eventually,
    flaky::{Fault, FlakyStore},
    instance::Worker,
};
use driver::{
    binaries::Binaries,
    child::{Child, ChildSpec},
    data::DataDir,
    models::ModelStore,
    processes::Processes,
    share::Share,
};
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const BUCKET: &str = "manifold-test";
const PREFIX: &str = "models/";

/// The endpoint of a test, over the prefix of its models.
const ENDPOINTS: &str = r#"
[[endpoint]]
name = "demo"
[[endpoint.variant]]
name = "AllTraffic"
model_data_url = "s3://manifold-test/models/"
"#;

/// Logs shown when a test fails: the end is where the reason is.
const MAX_LOG_LINES: usize = 60;

#[derive(Debug)]
#[must_use = "a cluster starts with `start`"]
pub struct ClusterBuilder {
    n_workers: usize,
    share: Share,
    worker_flags: Vec<String>,
    router_flags: Vec<String>,
    is_store_flaky: bool,
}

#[derive(Debug)]
pub struct Cluster {
    client: Client,
    store: ModelStore,
    flaky_store: Option<FlakyStore>,
    workers: Vec<Worker>,
    _router: Child,
    _store: Child,
    data: DataDir,
    // Last, so that the processes are gone before their files.
    _folder: TempDir,
}

/// Returns the binaries beside the running test, or fails it with what to do.
pub fn binaries() -> Binaries {
    let test = std::env::current_exe().expect("a running test has a file");
    // target/release/deps/scenarios-0123 → target/release
    let folder = test.parent().and_then(Path::parent).expect("cargo puts tests into `deps`");
    let binaries = Binaries::within(folder);
    binaries.check().unwrap_or_else(|error| panic!("{error} (cargo build --release --workspace)"));
    binaries
}

impl ClusterBuilder {
    pub fn workers(mut self, n_workers: usize) -> Self {
        self.n_workers = n_workers;
        self
    }

    /// Memory for models of each worker.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.share.memory_budget_bytes = bytes;
        self
    }

    /// More flags for every worker.
    pub fn worker_flags(mut self, flags: &[&str]) -> Self {
        self.worker_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// More flags for the router.
    pub fn router_flags(mut self, flags: &[&str]) -> Self {
        self.router_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Puts a proxy before the store that fails as it is told.
    pub fn flaky_store(mut self) -> Self {
        self.is_store_flaky = true;
        self
    }

    /// Starts the cluster and waits until all instances are in service.
    pub async fn start(self) -> Cluster {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let data = DataDir::open(folder.path()).expect("the folder is ours");
        let processes = Processes { binaries: binaries(), data: data.clone() };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));

        let (store_process, store_url) = start(&processes.store(any_port)).await;
        let store = ModelStore::new(&store_url);
        store.create_bucket(BUCKET).await.expect("the store takes a bucket");

        let endpoints = folder.path().join("endpoints.toml");
        std::fs::write(&endpoints, ENDPOINTS).expect("the folder takes a file");
        let flags = ["--endpoints".to_owned(), endpoints.display().to_string()];
        let spec = with(with(processes.router(any_port), &flags), &self.router_flags);
        let (router, router_url) = start(&spec).await;

        let flaky_store =
            if self.is_store_flaky { Some(FlakyStore::start(&store_url).await) } else { None };
        let workers_store = flaky_store.as_ref().map_or(&*store_url, FlakyStore::url);
        let mut workers = Vec::new();
        for worker_idx in 0..self.n_workers {
            let instance = format!("worker-{worker_idx}");
            let spec = processes.worker(&instance, self.share, &router_url, workers_store);
            workers.push(Worker::start(with(spec, &self.worker_flags)).await);
        }
        let client = Client::new(&router_url);
        let cluster = Cluster {
            client,
            store,
            flaky_store,
            workers,
            _router: router,
            _store: store_process,
            data,
            _folder: folder,
        };
        eventually(async || cluster.client.n_in_service().await == self.n_workers).await;
        cluster
    }
}

impl Cluster {
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            n_workers: 1,
            share: Share { memory_budget_bytes: 256 << 20, compute_slots: 1 },
            worker_flags: Vec::new(),
            router_flags: Vec::new(),
            is_store_flaky: false,
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes the store fail for the workers. Ask the builder for a flaky store first.
    pub fn break_store(&self, fault: Fault) {
        self.flaky_store.as_ref().expect("the builder was asked for one").set(fault);
    }

    /// Where a worker keeps its artifacts.
    pub fn cache_folder(&self, worker_idx: usize) -> PathBuf {
        self.data.cache(self.workers[worker_idx].id())
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
                sum += self.client.metric(&worker.url().await, name).await;
            }
        }
        sum
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let names = self.workers.iter().map(Worker::id).chain(["router", "store"]);
            for name in names {
                show_log(name, &self.data.log(name));
            }
        }
    }
}

fn show_log(name: &str, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(MAX_LOG_LINES)..];
    // A test that fails has worse problems than a closed standard error.
    let _ = writeln!(std::io::stderr(), "--- {name}\n{}", end.join("\n"));
}

fn with(mut spec: ChildSpec, flags: &[String]) -> ChildSpec {
    spec.args.extend(flags.iter().map(Into::into));
    spec
}

async fn start(spec: &ChildSpec) -> (Child, String) {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    let address = child.address().await.unwrap_or_else(|error| panic!("{error}"));
    (child, format!("http://{address}"))
}
