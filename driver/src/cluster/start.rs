//! How a cluster starts: store, router, workers, each once the one before it listens.
//!
//! What was started is kept apart from the future that starts it, so that whoever drops the future
//! can still wait for the end of every child.

use super::{ClusterError, ClusterPlan, ENDPOINT, reachable_url};
use crate::{
    child::{Child, ChildSpec, POLL, StartError},
    client::Client,
    console::{self, Step},
    models::{BUCKET, PREFIX},
    processes::Processes,
    share::Share,
    supervise::Supervised,
};
use shared::api::endpoints::{Endpoint, EndpointsFile, Variant};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The variant of that endpoint, named as SageMaker does for those who name none.
const VARIANT: &str = "AllTraffic";

/// How long workers may take from listening until the router has them in service. Their heartbeat
/// comes every second.
const IN_SERVICE_PATIENCE: Duration = Duration::from_secs(30);

/// Any free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The children so far. Dropping it kills them; [`Launched::kill`] waits for their end, too.
#[derive(Debug, Default)]
pub(super) struct Launched {
    pub(super) store: Option<Started>,
    pub(super) router: Option<Started>,
    pub(super) workers: Vec<Started>,
}

/// A child that is not yet watched.
#[derive(Debug)]
pub(super) struct Started {
    spec: ChildSpec,
    child: Child,
    /// Where it listens, once it does.
    address: SocketAddr,
}

impl Launched {
    /// Starts everything and returns a client once all instances are in service.
    pub(super) async fn bring_up(&mut self, plan: &ClusterPlan) -> Result<Client, ClusterError> {
        let processes = Processes { binaries: &plan.binaries, data: &plan.data };
        let store_url = self.start_store(&processes).await?;
        let client = self.start_router(&processes, plan).await?;

        let step = Step::start();
        // All before it waits for any.
        for (worker_idx, share) in plan.shares.iter().enumerate() {
            let instance = format!("worker-{worker_idx}");
            let spec = processes.worker(&instance, *share, client.router_url(), &store_url);
            self.workers.push(Started::start(spec)?);
        }
        for worker in &mut self.workers {
            worker.listen().await?;
        }
        self.in_service(&client).await?;
        step.done(&format!("{} instances in service", self.workers.len()));
        for (worker, share) in self.workers.iter().zip(&plan.shares) {
            console::say(&describe(worker, *share));
        }
        Ok(client)
    }

    async fn start_store(&mut self, processes: &Processes<'_>) -> Result<String, ClusterError> {
        let step = Step::start();
        let store = self.store.insert(Started::start(processes.store(ANY_PORT))?);
        store.listen().await?;
        // When it is started again, its clients must find it where it was.
        store.spec = processes.store(store.address);
        let url = format!("http://{}", store.address);
        step.done(&format!("store on {url}"));
        Ok(url)
    }

    async fn start_router(
        &mut self,
        processes: &Processes<'_>,
        plan: &ClusterPlan,
    ) -> Result<Client, ClusterError> {
        let step = Step::start();
        let endpoints = plan.data.endpoints_file();
        let file = endpoints_file(&format!("s3://{BUCKET}/{PREFIX}"));
        std::fs::write(&endpoints, file).map_err(ClusterError::Endpoints)?;
        let router_spec = |listen| {
            let mut spec = processes.router(listen, &endpoints);
            spec.args.extend(plan.router_flags.iter().map(Into::into));
            spec
        };
        let router = self.router.insert(Started::start(router_spec(plan.listen))?);
        router.listen().await?;
        router.spec = router_spec(router.address);
        let url = reachable_url(router.address);
        step.done(&format!("router on {url}"));
        Ok(Client::new(&url))
    }

    async fn in_service(&mut self, client: &Client) -> Result<(), ClusterError> {
        let n_workers = self.workers.len();
        let deadline = Instant::now() + IN_SERVICE_PATIENCE;
        loop {
            for started in self.all() {
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

    /// Kills what was started, and returns when nothing of it is left.
    pub(super) async fn kill(mut self) {
        for started in self.all() {
            started.child.kill().await;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Started> {
        self.store.iter_mut().chain(&mut self.router).chain(&mut self.workers)
    }
}

impl Started {
    fn start(spec: ChildSpec) -> Result<Self, StartError> {
        let child = Child::start(&spec)?;
        Ok(Self { spec, child, address: ANY_PORT })
    }

    async fn listen(&mut self) -> Result<(), StartError> {
        self.address = self.child.address().await?;
        Ok(())
    }

    pub(super) fn watch(self) -> Supervised {
        Supervised::new(self.spec, self.child, self.address)
    }
}

/// Fails early and plainly if the router could not listen. Whoever takes the port between now and
/// then still makes the router fail, with the end of its log.
pub(super) fn check_free(address: SocketAddr) -> Result<(), ClusterError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ClusterError::AddressTaken { address })
        }
        Err(source) => Err(ClusterError::Listen { address, source }),
    }
}

/// Returns an endpoints file with the one endpoint over a prefix of models: what a local cluster
/// serves until the control plane makes endpoints.
pub fn endpoints_file(model_data_url: &str) -> String {
    let variant = Variant {
        name: VARIANT.parse().expect("the name is valid"),
        model_data_url: model_data_url.to_owned().try_into().expect("the prefix is valid"),
        weight: 1.0,
        repeats: true,
    };
    let name = ENDPOINT.parse().expect("the name is valid");
    let endpoints = vec![Endpoint { name, variants: vec![variant], asynchronous: None }];
    toml::to_string(&EndpointsFile { endpoints }).expect("names and numbers can be written")
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
}
