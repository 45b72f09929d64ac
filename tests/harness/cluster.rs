//! A cluster of real processes for one test: a store, routers, workers, on free ports, in a folder
//! that goes with it. Dropping it kills them; if the test failed, it shows their logs first.

use crate::{
    archives,
    client::Client,
    etcd::Etcd,
    eventually,
    flaky::{Fault, FlakyStore},
    instance::Worker,
    rig::{Rig, with_flag},
    router::Router,
};
use driver::{
    binaries::Binaries,
    child::{Child, ChildSpec},
    data::DataDir,
    models::ModelStore,
    processes::Processes,
    share::Share,
};
use shared::token::TokenFile;
use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
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

/// What makes it take asynchronous invocations.
const ASYNCHRONOUS: &str = r#"
[endpoint.asynchronous]
output = "s3://manifold-test/out/"
"#;

/// Logs shown when a test fails: the end is where the reason is.
const MAX_LOG_LINES: usize = 60;

#[derive(Debug)]
#[must_use = "a cluster starts with `start`"]
pub struct ClusterBuilder {
    n_workers: usize,
    n_routers: usize,
    /// How processes find each other, if not by being told.
    etcd_flags: Vec<String>,
    share: Share,
    worker_flags: Vec<String>,
    router_flags: Vec<String>,
    is_store_flaky: bool,
    host: IpAddr,
    /// How workers are started that are not like the others, by their number.
    rigs: BTreeMap<usize, Rig>,
    router_rig: Option<Rig>,
    is_asynchronous: bool,
    /// What the test's own calls show.
    token_file: Option<PathBuf>,
}

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

impl ClusterBuilder {
    pub fn workers(mut self, n_workers: usize) -> Self {
        self.n_workers = n_workers;
        self
    }

    /// More than one router: equal ones.
    pub fn routers(mut self, n_routers: usize) -> Self {
        self.n_routers = n_routers;
        self
    }

    /// Has the endpoint take asynchronous invocations, whose outputs are [`Cluster::outputs`].
    pub fn asynchronous(mut self) -> Self {
        self.is_asynchronous = true;
        self
    }

    /// Has routers and workers find each other by an etcd, and keep records there.
    pub fn etcd(self, etcd: &Etcd) -> Self {
        self.etcd_by(&["--cluster", &etcd.url()])
    }

    /// The same with other flags, which may hold credentials.
    pub fn etcd_by(mut self, flags: &[&str]) -> Self {
        self.etcd_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
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

    /// More flags for every router.
    pub fn router_flags(mut self, flags: &[&str]) -> Self {
        self.router_flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Gives router and workers the token of these files; the test's own calls show the router's.
    pub fn token_files(mut self, of_router: &Path, of_workers: &Path) -> Self {
        self.token_file = Some(of_router.to_owned());
        let flag = |file: &Path| ["--cluster-token-file".to_owned(), file.display().to_string()];
        self.router_flags.extend(flag(of_router));
        self.worker_flags.extend(flag(of_workers));
        self
    }

    /// Puts a proxy before the store that fails as it is told.
    pub fn flaky_store(mut self) -> Self {
        self.is_store_flaky = true;
        self
    }

    /// Starts a worker in another way than the others.
    pub fn worker_rig(mut self, worker_idx: usize, rig: Rig) -> Self {
        self.rigs.insert(worker_idx, rig);
        self
    }

    /// Starts the router in another way.
    pub fn router_rig(mut self, rig: Rig) -> Self {
        self.router_rig = Some(rig);
        self
    }

    /// Has router and workers listen at another address of this machine than loopback.
    pub fn host(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    fn endpoints_file(&self, folder: &Path) -> PathBuf {
        let file = folder.join("endpoints.toml");
        let asynchronous = if self.is_asynchronous { ASYNCHRONOUS } else { "" };
        let text = [ENDPOINTS, asynchronous].concat();
        std::fs::write(&file, text).expect("the folder takes a file");
        file
    }

    /// Starts the cluster and waits until all instances are in service.
    pub async fn start(self) -> Cluster {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let data = DataDir::open(folder.path()).expect("the folder is ours");
        let processes = Processes { binaries: binaries(), data: data.clone(), token_file: None };
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let any_port = SocketAddr::new(self.host, 0);

        let (store_process, store_url) = start(&processes.store(loopback)).await;
        let store = ModelStore::new(&store_url);
        store.create_bucket(BUCKET).await.expect("the store takes a bucket");

        let endpoints = self.endpoints_file(folder.path());
        let flags = ["--endpoints".to_owned(), endpoints.display().to_string()];
        let mut routers = Vec::new();
        for router_idx in 0..self.n_routers {
            // As everywhere where there is but one.
            let name =
                if router_idx == 0 { "router".to_owned() } else { format!("router-{router_idx}") };
            let records = folder.path().join(format!("records-{name}.redb"));
            let spec = with(processes.router_named(&name, any_port, &records), &flags);
            let spec =
                if self.is_asynchronous { processes.with_store(spec, &store_url) } else { spec };
            routers.push(self.start_router(spec).await);
        }

        // The store listens on loopback alone: elsewhere, it is reached through the proxy.
        let has_proxy = self.is_store_flaky || !self.host.is_loopback();
        let flaky_store =
            if has_proxy { Some(FlakyStore::start(&store_url, self.host).await) } else { None };
        let workers_store = flaky_store.as_ref().map_or(&*store_url, FlakyStore::url);
        let mut workers = Vec::new();
        for worker_idx in 0..self.n_workers {
            let instance = format!("worker-{worker_idx}");
            let urls = routers.iter().map(Router::url).collect::<Vec<_>>().join(",");
            let spec = processes.worker(&instance, self.share, &urls, workers_store);
            let spec = with(self.found_by_etcd(spec), &self.worker_flags);
            let spec = with_flag(spec, "--bind", any_port.to_string());
            workers.push(Worker::start(rigged(spec, self.rigs.get(&worker_idx))).await);
        }
        let cluster = Cluster {
            store,
            store_url,
            flaky_store,
            workers,
            routers,
            _store: store_process,
            data,
            _folder: folder,
        };
        cluster.all_in_service().await;
        cluster
    }

    async fn start_router(&self, spec: ChildSpec) -> Router {
        let spec = with(with(spec, &self.etcd_flags), &self.router_flags);
        let router = Router::start(rigged(spec, self.router_rig.as_ref())).await;
        match &self.token_file {
            Some(path) => {
                router.showing(TokenFile::read(path).expect("the test has written a token"))
            }
            None => router,
        }
    }

    /// With an etcd, workers are not told where the routers are.
    fn found_by_etcd(&self, mut worker: ChildSpec) -> ChildSpec {
        if !self.etcd_flags.is_empty() {
            let told = worker.args.iter().position(|it| it == "--router");
            let told = told.expect("workers are told of a router");
            worker.args.drain(told..told + 2);
        }
        with(worker, &self.etcd_flags)
    }
}

impl Cluster {
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            n_workers: 1,
            n_routers: 1,
            etcd_flags: Vec::new(),
            share: Share { memory_budget_bytes: 256 << 20, compute_slots: 1 },
            worker_flags: Vec::new(),
            router_flags: Vec::new(),
            is_store_flaky: false,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rigs: BTreeMap::new(),
            router_rig: None,
            is_asynchronous: false,
            token_file: None,
        }
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

fn rigged(spec: ChildSpec, rig: Option<&Rig>) -> ChildSpec {
    match rig {
        Some(rig) => rig.apply(spec),
        None => spec,
    }
}

fn with(mut spec: ChildSpec, flags: &[String]) -> ChildSpec {
    spec.args.extend(flags.iter().map(Into::into));
    spec
}

pub(crate) async fn start(spec: &ChildSpec) -> (Child, String) {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    let address = child.address().await.unwrap_or_else(|error| panic!("{error}"));
    (child, format!("http://{address}"))
}
