//! How a cluster of a test is made: how many processes, with which flags, and which are not like the
//! others.

use super::{BUCKET, Cluster, binaries, start};
use crate::{
    etcd::Etcd,
    flaky::FlakyStore,
    instance::Worker,
    rig::{Rig, with_flag},
    router::Router,
};
use driver::{
    child::ChildSpec, data::DataDir, models::ModelStore, processes::Processes, share::Share,
};
use shared::token::TokenFile;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

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

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
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
        let processes = Processes::new(binaries(), data.clone());
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
