//! A router that is killed and started again, with a launcher that lives on.

use crate::{client::Client, cluster::binaries, eventually, processes};
use driver::{
    child::{Child, ChildSpec},
    cluster::fleets::Fleets,
    data::DataDir,
    processes::Processes,
    share::Machine,
};
use std::{net::SocketAddr, time::Duration};
use tempfile::TempDir;

/// What workers may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Small shares for workers that load nothing.
const MACHINE: Machine =
    Machine { memory_bytes: 1 << 30, n_cores: 2, wanted_bytes: Some(256 << 20) };

/// A router over records of its own, and what starts workers for it. Dropping it kills all.
#[derive(Debug)]
pub struct RestartedRouter {
    client: Client,
    router: Child,
    spec: ChildSpec,
    fleets: Fleets,
    _store: Child,
    // Last, so that the processes are gone before their files.
    folder: TempDir,
}

impl RestartedRouter {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let data = DataDir::open(folder.path()).expect("the folder is ours");
        let processes = Processes::new(binaries(), data);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let (store, store_address) = start(&processes.store(any_port)).await;
        let (mut first, address) = start(&spec(&processes, any_port)).await;
        // Its end is waited for: the next one opens the same records and the same port.
        first.kill().await;
        let spec = spec(&processes, address);
        let (router, _) = start(&spec).await;
        let url = format!("http://{address}");
        let store_url = format!("http://{store_address}");
        let driver_client = driver::client::Client::new(&url);
        let fleets = Fleets::start(processes, MACHINE, driver_client, store_url);
        Self { client: Client::new(&url), router, spec, fleets, _store: store, folder }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Kills the router (SIGKILL).
    pub async fn kill(&mut self) {
        self.router.kill().await;
    }

    /// Starts the router again where it was, and returns once it answers.
    pub async fn restart(&mut self) {
        let (router, _) = start(&self.spec).await;
        self.router = router;
        let url = format!("{}/ping", self.client.router_url());
        eventually(async || reqwest::get(&url).await.is_ok_and(|it| it.status().is_success()))
            .await;
    }

    /// How many workers run.
    pub fn n_workers(&self) -> usize {
        let all = processes::naming(&self.folder.path().display().to_string());
        all.into_iter().filter(|pid| processes::name(*pid) == "manifold-worker").count()
    }

    /// Stops the workers in order.
    pub async fn stop(mut self) {
        self.fleets.stop(GRACE).await;
    }
}

fn spec(processes: &Processes, listen: SocketAddr) -> ChildSpec {
    let mut spec = processes.router(listen);
    let flags = ["--instances", "launcher", "--allow-empty-model-data"];
    spec.args.extend(flags.map(Into::into));
    spec
}

async fn start(spec: &ChildSpec) -> (Child, SocketAddr) {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    let address = child.address().await.unwrap_or_else(|error| panic!("{error}"));
    (child, address)
}
