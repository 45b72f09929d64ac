//! Builds the parts, binds, runs, drains. The only file that knows all others.

mod doors;
mod error;

pub use error::{BuildError, RunError};

use crate::{
    access::Access,
    actors::{
        deployments::{Deployments, DeploymentsParts},
        endpoints::{self, Endpoints, OperateError},
        membership::Membership,
        placement::Placement,
    },
    async_invocations::{
        AsyncInvocations, Queue, delivery::Deliveries, log::JobLog, runner::Runner,
    },
    auth::Gate,
    body::BodyReader,
    cluster::{Cluster, Identity},
    config::{Config, ControlConfig},
    dispatch::Dispatch,
    http::{
        control::ControlDesk,
        handover::{self, Handover},
        health::Health,
        instances::Registrar,
        invocations::Reception,
        store::Store,
    },
    instance_client::{InstanceClient, bearer::Bearer, lister::Lister, warmer::Warmer},
    metrics::Metrics,
    objects::Objects,
    policy::retry::{RetryAllowance, RetryBudget},
    records::{
        Ledger, Records, RecordsError, alone::OwnLedger, database::DatabaseRecords,
        etcd::EtcdLedger,
    },
    store_client::StoreClient,
};
use actix_web::{dev::Server, rt, web::Data};
use doors::{Door, serve};
use futures_util::future::try_join_all;
use prometheus_client::registry::Registry;
use shared::{address_file, api::endpoints::Endpoint, etcd::Etcd, task::Task, telemetry::Chain};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, interval},
};
use tracing::{error, info, warn};

/// How often `run_until` looks whether all actors live. Nothing waits for it but the exit.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// A router that listens and is ready to run.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    /// For workers and launchers alone.
    internal_listener: Option<TcpListener>,
    access: Access,
    shared: Shared,
    queue: Queue,
    /// `None`: this router is alone.
    cluster: Option<Cluster>,
}

/// What the HTTP threads share; each makes its own client from it.
#[derive(Clone, Debug)]
struct Shared {
    config: Config,
    gate: Gate,
    /// What we are to instances.
    bearer: Bearer,
    health: Health,
    bodies: BodyReader,
    retries: Arc<RetryBudget>,
    metrics: Metrics,
    registrar: Data<Registrar>,
    desk: Data<ControlDesk>,
    registry: Data<Registry>,
    store_places: Arc<Semaphore>,
    shares: Arc<Semaphore>,
    objects: Objects,
    jobs: AsyncInvocations,
    started: Instant,
}

impl App {
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let endpoints_of_file = config.read_endpoints()?;
        let access = Access::read(&config)?;
        let bearer = Bearer::new(access.token.clone());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);

        let etcd = config.cluster.access().map(Etcd::new);
        let records: Arc<dyn Records> = Arc::new(DatabaseRecords::open(&config.control.records)?);
        let endpoints = start_endpoints(&config, etcd.as_ref(), &records, &metrics).await?;
        seed(&endpoints, endpoints_of_file, etcd.is_some()).await?;
        let placement = start_placement(&config, &bearer, &metrics);
        let deployments = Deployments::start(DeploymentsParts {
            endpoints: endpoints.clone(),
            placement: placement.clone(),
            config: config.control.clone(),
            bearer: bearer.clone(),
        });
        let membership =
            Membership::start(config.membership, placement.clone(), metrics.membership.clone());

        let objects = Objects::new(config.objects.clone());

        let (listener, address) = doors::bind(config.listen)?;
        let internal_listener = config.access.internal_listen.map(doors::bind).transpose()?;
        let for_workers = internal_listener.as_ref().map_or(address, |(_, address)| *address);
        let cluster = join(&config, etcd.as_ref(), for_workers, &membership, &metrics).await?;
        let log =
            JobLog::new(records, cluster.as_ref().zip(etcd).map(|(it, etcd)| it.sharing(etcd)));
        let (jobs, queue) = AsyncInvocations::open(log, config.asynchronous.max_async).await?;
        let registrar = Registrar::new(membership.clone(), config.membership, config.body);
        let shared = Shared {
            registrar: Data::new(registrar),
            desk: Data::new(desk(&config, endpoints.clone(), &objects, access.gate.clone())),
            health: Health { endpoints, membership, placement, deployments },
            bodies: BodyReader::new(config.body, metrics.invocations.body_bytes.clone()),
            retries: Arc::new(RetryBudget::new(allowance(&config))),
            registry: Data::new(registry),
            store_places: Arc::new(Semaphore::new(config.store.max_store_requests)),
            shares: Arc::new(Semaphore::new(handover::MAX_SHARES)),
            objects,
            jobs,
            started: Instant::now(),
            gate: access.gate.clone(),
            bearer,
            metrics,
            config,
        };
        let internal_listener = internal_listener.map(|(listener, _)| listener);
        Ok(Self { listener, address, internal_listener, access, shared, queue, cluster })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where workers and launchers are served, if not with the clients.
    pub fn internal_address(&self) -> Option<SocketAddr> {
        self.internal_listener.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` is ready, then finishes what was accepted.
    pub async fn run_until(
        self,
        stop: impl Future<Output = io::Result<&'static str>>,
    ) -> Result<(), RunError> {
        let internal_address = self.internal_address();
        let Self { listener, address, internal_listener, access, shared, queue, mut cluster } =
            self;
        // It ends with this thread: what is not done is in the records.
        let (stopping, is_stopping) = watch::channel(false);
        let mut runner = rt::spawn(shared.runner(&queue).run(queue, is_stopping));
        let health = shared.health.clone();
        gather(cluster.as_mut(), &health).await;
        let sharing = Task::spawn(shared.jobs.clone().share());
        let address_file = shared.config.address_file.clone();
        access.announce(&shared.config);
        let public = Door::public(listener, &access, shared.config.http_threads);
        let doors = std::iter::once(public.map_err(RunError::Tls)?);
        let doors = doors.chain(internal_listener.map(Door::internal));
        let servers = doors.map(|door| serve(door, shared.clone())).collect::<io::Result<Vec<_>>>();
        let servers = servers.map_err(RunError::Serve)?;
        let handles: Vec<_> = servers.iter().map(Server::handle).collect();
        let mut serving = pin!(try_join_all(servers.into_iter().map(doors::run_apart)));
        info!(%address, ?internal_address, "listening");
        if let Some(path) = address_file {
            address_file::write(&path, address).map_err(RunError::AddressFile)?;
        }
        tokio::select! {
            result = &mut serving => return result.map(drop).map_err(RunError::Serve),
            () = death_of_an_actor(&health, cluster.as_ref(), &sharing) => {
                error!("an actor died, exiting");
                return Err(RunError::ActorDied);
            }
            outcome = &mut runner => {
                error!(?outcome, "the runner of asynchronous invocations died, exiting");
                return Err(RunError::ActorDied);
            }
            never = access.keep_current() => match never {},
            signal = stop => info!(signal = signal.map_err(RunError::Serve)?, "draining"),
        }
        stopping.send_replace(true);
        drop(sharing);
        // The public one first: what it finishes needs instances that can renew their leases.
        let stop_all = async {
            for handle in handles {
                handle.stop(true).await;
            }
        };
        let ((), result) = tokio::join!(stop_all, serving);
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
        info!("drained");
        result.map(drop).map_err(RunError::Serve)
    }
}

fn desk(config: &Config, endpoints: Endpoints, objects: &Objects, gate: Gate) -> ControlDesk {
    let looks = !config.control.allow_empty_model_data;
    ControlDesk::new(endpoints, looks.then(|| objects.clone()), gate, config)
}

fn start_placement(config: &Config, bearer: &Bearer, metrics: &Metrics) -> Placement {
    let warmer = Warmer::new(bearer.clone());
    Placement::start(config.control.provision, warmer, metrics.placement.clone())
}

async fn start_endpoints(
    config: &Config,
    etcd: Option<&Etcd>,
    records: &Arc<dyn Records>,
    metrics: &Metrics,
) -> Result<Endpoints, RecordsError> {
    let ControlConfig {
        max_endpoint_instances, max_records, launches_images, records: file, ..
    } = &config.control;
    let settings = endpoints::Settings {
        account_id: config.identity.account_id.clone(),
        region: config.identity.region.clone(),
        max_instances: *max_endpoint_instances,
        max_records: *max_records,
        launches_images: *launches_images,
    };
    let records = Arc::clone(records);
    let ledger: Arc<dyn Ledger> = match etcd {
        Some(etcd) => Arc::new(EtcdLedger::open(etcd.clone(), records, file).await?),
        None => Arc::new(OwnLedger(records)),
    };
    Endpoints::start(ledger, settings, metrics.endpoints.clone()).await
}

async fn seed(
    endpoints: &Endpoints,
    of_file: Vec<Endpoint>,
    is_shared: bool,
) -> Result<(), OperateError> {
    match endpoints.seed(of_file).await {
        // It starts with its last copy, in which they are.
        Err(OperateError::Records(error)) if is_shared => {
            warn!(error = %Chain(&error), "the endpoints of the file are not looked for in etcd");
            Ok(())
        }
        seeded => seeded,
    }
}

/// Joins the cluster, if there is one to join.
async fn join(
    config: &Config,
    etcd: Option<&Etcd>,
    bound: SocketAddr,
    membership: &Membership,
    metrics: &Metrics,
) -> Result<Option<Cluster>, BuildError> {
    let Some(etcd) = etcd else { return Ok(None) };
    let identity = Identity::of(&config.cluster, etcd, bound).await;
    let identity = identity.map_err(BuildError::OwnAddress)?;
    let (membership, metrics) = (membership.clone(), metrics.cluster.clone());
    Ok(Some(Cluster::start(etcd, &config.cluster, identity, membership, metrics)))
}

impl Shared {
    fn store(&self) -> Store {
        StoreClient::new(&self.config.store, Arc::clone(&self.store_places))
    }

    /// Clients are a thread's own: so this is asked for on the thread that needs it.
    fn dispatch(&self) -> Dispatch {
        let Health { membership, placement, .. } = &self.health;
        Dispatch {
            placement: placement.clone(),
            membership: membership.clone(),
            client: InstanceClient::new(self.config.instance, self.bearer.clone()),
            retries: Arc::clone(&self.retries),
            config: self.config.dispatch,
            metrics: self.metrics.invocations.clone(),
            started: self.started,
        }
    }

    /// On the thread that needs it, as above.
    fn handover(&self) -> Handover {
        let Health { membership, placement, deployments, .. } = &self.health;
        Handover {
            membership: membership.clone(),
            placement: placement.clone(),
            deployments: deployments.clone(),
            bodies: self.registrar.bodies().clone(),
            warmer: Warmer::new(self.bearer.clone()),
            lister: Lister::new(self.bearer.clone()),
            shares: Arc::clone(&self.shares),
        }
    }

    fn runner(&self, queue: &Queue) -> Runner {
        let Config { body, asynchronous, .. } = &self.config;
        Runner {
            endpoints: self.health.endpoints.clone(),
            dispatch: self.dispatch(),
            bodies: self.bodies.clone(),
            identity: self.config.identity.clone(),
            objects: self.objects.clone(),
            // As many answers as may run.
            deliveries: Deliveries::new(
                self.objects.clone(),
                body.max_bytes.saturating_mul(asynchronous.max_running_async as u64),
            ),
            log: queue.log(),
            config: asynchronous.clone(),
            max_input_bytes: body.max_bytes,
        }
    }

    fn reception(&self) -> Reception {
        Reception {
            gate: self.gate.clone(),
            endpoints: self.health.endpoints.clone(),
            dispatch: self.dispatch(),
            bodies: self.bodies.clone(),
            identity: self.config.identity.clone(),
            unknown: self.metrics.endpoints.of_unknown(),
            metrics: self.metrics.invocations.clone(),
        }
    }
}

fn allowance(config: &Config) -> RetryAllowance {
    let dispatch = &config.dispatch;
    RetryAllowance {
        percent: dispatch.retry_percent,
        burst: dispatch.retry_burst,
        per_second: dispatch.retry_per_second,
    }
}

async fn gather(cluster: Option<&mut Cluster>, health: &Health) {
    if let Some(cluster) = cluster {
        cluster.gather(&health.membership).await;
    }
}

/// An actor that panicked is gone for good, and with it the truth that it owned; so is a task that never
/// ends otherwise.
async fn death_of_an_actor(health: &Health, cluster: Option<&Cluster>, sharing: &Task) {
    let mut watch = interval(WATCH_INTERVAL);
    while health.is_alive() && cluster.is_none_or(Cluster::is_alive) && sharing.is_alive() {
        watch.tick().await;
    }
}
