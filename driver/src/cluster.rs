//! A cluster on this machine: store, router, workers, started in order and stopped in order.
//!
//! While it starts, the first child that fails ends the start with the end of its log. Once it runs,
//! a child that dies is started again ([`crate::supervise`]).

use crate::{
    binaries::{Binaries, BinariesError},
    child::{Child, ChildSpec, POLL, StartError, Stopped},
    client::Client,
    console::{self, Step},
    data::{DataDir, DataDirError},
    models::{BUCKET, PREFIX},
    processes::Processes,
    share::Share,
    supervise::{KillOrder, Supervised},
};
use futures_util::future::join_all;
use shared::api::endpoints::{Endpoint, EndpointsFile, Variant};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The endpoint that a local cluster serves.
pub const ENDPOINT: &str = "demo";
const VARIANT: &str = "AllTraffic";

/// The router answers what it accepted: an invocation takes 60 s at most, but nobody waits so long
/// for a laptop's cluster to stop.
const ROUTER_GRACE: Duration = Duration::from_secs(10);

/// The router is gone by then, so the workers have next to nothing left.
const WORKER_GRACE: Duration = Duration::from_secs(5);

const STORE_GRACE: Duration = Duration::from_secs(2);

/// How long workers may take from listening until the router has them in service. Their heartbeat
/// comes every second.
const IN_SERVICE_PATIENCE: Duration = Duration::from_secs(30);

/// Any free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running cluster. Dropping it kills its processes.
#[derive(Debug)]
pub struct Cluster {
    store: Supervised,
    router: Supervised,
    workers: Vec<Supervised>,
    client: Client,
    // Last, so that the lock outlives the children.
    data: DataDir,
}

/// Kills every process of a cluster at once.
#[derive(Clone, Debug)]
pub struct Killer(Vec<KillOrder>);

impl Killer {
    pub fn kill(&self) {
        self.0.iter().for_each(KillOrder::give);
    }
}

/// What is to be started.
#[derive(Debug)]
pub struct ClusterPlan {
    pub binaries: Binaries,
    pub data: DataDir,
    pub listen: SocketAddr,
    /// More flags for the router.
    pub router_flags: Vec<&'static str>,
    /// One per worker.
    pub shares: Vec<Share>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "{address} is taken by another program: stop it, or choose another address with --listen (for example --listen 127.0.0.1:8081)"
    )]
    AddressTaken { address: SocketAddr },
    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("could not write the endpoints file")]
    Endpoints(#[source] io::Error),
    #[error("the router has {n_in_service} of {n_workers} instances in service after {patience:?}")]
    NotInService { n_in_service: usize, n_workers: usize, patience: Duration },
}

/// A child that started and is not yet watched.
struct Started {
    spec: ChildSpec,
    child: Child,
    address: SocketAddr,
}

impl Cluster {
    /// Starts everything and returns when all instances are in service. On failure, what was started
    /// is killed.
    pub async fn start(plan: ClusterPlan) -> Result<Self, ClusterError> {
        plan.binaries.check()?;
        check_free(plan.listen)?;
        let processes = Processes { binaries: &plan.binaries, data: &plan.data };

        let step = Step::start();
        let mut store = Started::start(processes.store(ANY_PORT)).await?;
        // When it is started again, its clients must find it where it was.
        store.spec = processes.store(store.address);
        let store_url = format!("http://{}", store.address);
        step.done(&format!("store on {store_url}"));

        let step = Step::start();
        let endpoints = plan.data.endpoints_file();
        write_endpoints(&endpoints)?;
        let router_spec = |listen| {
            let mut spec = processes.router(listen, &endpoints);
            spec.args.extend(plan.router_flags.iter().map(Into::into));
            spec
        };
        let mut router = Started::start(router_spec(plan.listen)).await?;
        router.spec = router_spec(router.address);
        let client = Client::new(&reachable_url(router.address));
        step.done(&format!("router on {}", reachable_url(router.address)));

        let step = Step::start();
        let workers = plan.shares.iter().enumerate().map(|(worker_idx, share)| {
            let instance = format!("worker-{worker_idx}");
            processes.worker(&instance, *share, client.router_url(), &store_url)
        });
        let mut workers = Started::start_all(workers).await?;
        in_service(&client, [&mut store, &mut router], &mut workers).await?;
        step.done(&format!("{} instances in service", workers.len()));
        for (worker, share) in workers.iter().zip(&plan.shares) {
            console::say(&describe(worker, *share));
        }
        Ok(Self {
            store: store.watch(),
            router: router.watch(),
            workers: workers.into_iter().map(Started::watch).collect(),
            client,
            data: plan.data,
        })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn store_url(&self) -> String {
        format!("http://{}", self.store.address())
    }

    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Stops the router first, so that what was accepted is answered, and the store last. Returns
    /// the names of those that had to be killed.
    pub async fn stop(&mut self) -> Vec<String> {
        let mut killed = Vec::new();
        let mut note = |name: &str, stopped| {
            if stopped == Some(Stopped::Killed) {
                killed.push(name.to_owned());
            }
        };
        note("router", self.router.stop(ROUTER_GRACE).await);
        let stops = self.workers.iter_mut().map(async |worker| {
            let stopped = worker.stop(WORKER_GRACE).await;
            (worker.name().to_owned(), stopped)
        });
        for (name, stopped) in join_all(stops).await {
            note(&name, stopped);
        }
        note("store", self.store.stop(STORE_GRACE).await);
        killed
    }

    /// Returns a handle that kills everything at once, also while it is being stopped.
    pub fn killer(&self) -> Killer {
        let all = self.workers.iter().chain([&self.router, &self.store]);
        Killer(all.map(Supervised::killer).collect())
    }
}

impl Started {
    async fn start(spec: ChildSpec) -> Result<Self, StartError> {
        let mut child = Child::start(&spec)?;
        let address = child.address().await?;
        Ok(Self { spec, child, address })
    }

    /// Starts all before it waits for any.
    async fn start_all(specs: impl Iterator<Item = ChildSpec>) -> Result<Vec<Self>, StartError> {
        let mut children = Vec::new();
        for spec in specs {
            children.push((Child::start(&spec)?, spec));
        }
        let mut started = Vec::new();
        for (mut child, spec) in children {
            let address = child.address().await?;
            started.push(Self { spec, child, address });
        }
        Ok(started)
    }

    fn watch(self) -> Supervised {
        Supervised::new(self.spec, self.child, self.address)
    }
}

/// Fails early and plainly if the router could not listen. Whoever takes the port between now and
/// then still makes the router fail, with the end of its log.
fn check_free(address: SocketAddr) -> Result<(), ClusterError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ClusterError::AddressTaken { address })
        }
        Err(source) => Err(ClusterError::Listen { address, source }),
    }
}

/// Writes the endpoint that a local cluster serves, until the control plane makes endpoints.
fn write_endpoints(path: &Path) -> Result<(), ClusterError> {
    let file = endpoints_file(&format!("s3://{BUCKET}/{PREFIX}"));
    std::fs::write(path, file).map_err(ClusterError::Endpoints)
}

/// Returns an endpoints file with the one endpoint over a prefix of models.
pub fn endpoints_file(model_data_url: &str) -> String {
    let variant = Variant {
        name: VARIANT.parse().expect("the name is valid"),
        model_data_url: model_data_url.to_owned().try_into().expect("the prefix is valid"),
        weight: 1.0,
        repeats: true,
    };
    let name = ENDPOINT.parse().expect("the name is valid");
    let endpoints = vec![Endpoint { name, variants: vec![variant] }];
    toml::to_string(&EndpointsFile { endpoints }).expect("names and numbers can be written")
}

/// Where clients on this machine reach an address that may mean all interfaces.
fn reachable_url(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("http://[::1]:{}", address.port()),
        _ => format!("http://{address}"),
    }
}

async fn in_service(
    client: &Client,
    others: [&mut Started; 2],
    workers: &mut [Started],
) -> Result<(), ClusterError> {
    let n_workers = workers.len();
    let deadline = Instant::now() + IN_SERVICE_PATIENCE;
    let mut children: Vec<&mut Started> = others.into_iter().chain(workers).collect();
    loop {
        for started in &mut children {
            started.child.check_running()?;
        }
        // A router that cannot be asked yet has nothing in service.
        let instances = client.instances().await.unwrap_or_default();
        let n_in_service = instances.iter().filter(|instance| instance.in_service).count();
        if n_in_service >= n_workers {
            return Ok(());
        }
        if Instant::now() > deadline {
            let patience = IN_SERVICE_PATIENCE;
            return Err(ClusterError::NotInService { n_in_service, n_workers, patience });
        }
        sleep(POLL).await;
    }
}

fn describe(worker: &Started, share: Share) -> String {
    format!(
        "          {} on http://{}: {} MiB for models, {} compute slot(s)",
        worker.spec.name,
        worker.address,
        share.memory_budget_bytes >> 20,
        share.compute_slots
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_file_is_what_a_router_reads() {
        let text = endpoints_file("s3://manifold-demo/models/");
        let file: EndpointsFile = toml::from_str(&text).unwrap();
        assert_eq!(file.endpoints[0].name.as_str(), "demo");
        assert_eq!(file.endpoints[0].variants[0].name.as_str(), "AllTraffic");
    }

    #[test]
    fn taken_address_says_how_to_choose_another() {
        let taken = TcpListener::bind(ANY_PORT).unwrap();
        let error = check_free(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("taken by another program"), "{error}");
        assert!(error.contains("--listen"), "{error}");
    }

    #[test]
    fn clients_reach_all_interfaces_over_loopback() {
        let check = |address: &str, url| assert_eq!(reachable_url(address.parse().unwrap()), url);
        check("127.0.0.1:8080", "http://127.0.0.1:8080");
        check("0.0.0.0:8080", "http://127.0.0.1:8080");
        check("[::]:8080", "http://[::1]:8080");
    }
}
