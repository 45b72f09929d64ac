//! Builds the parts, binds, runs, drains. The only file that knows all others.

use crate::{
    actors::{
        deployments::{Deployments, DeploymentsParts},
        endpoints::{self, Endpoints, OperateError},
        membership::Membership,
        placement::Placement,
    },
    async_invocations::{AsyncInvocations, Queue, log::JobLog, runner::Runner},
    body::BodyReader,
    config::{Config, ControlConfig, InvalidConfig},
    dispatch::Dispatch,
    http::{
        self, control::ControlDesk, health::Health, instances::Registrar, invocations::Reception,
        store::Store,
    },
    instance_client::InstanceClient,
    metrics::{EndpointMetrics, Metrics},
    objects::Objects,
    policy::retry::{RetryAllowance, RetryBudget},
    records::{Records, RecordsError, database::DatabaseRecords},
    sockets,
    store_client::StoreClient,
};
use actix_web::{
    HttpServer,
    dev::Server,
    rt::{self, net::TcpStream},
    web::Data,
};
use prometheus_client::registry::Registry;
use shared::address_file;
use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, interval},
};
use tracing::{debug, error, info};

/// How often `run_until` looks whether all actors live. Nothing waits for it but the exit.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How long a client's connection is kept without a request: longer than clients keep theirs.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a connection's first request may take, and how long a connection may take
/// to close. actix bounds no later head that has begun: only the number of connections does.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// A router that listens and is ready to run.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
    queue: Queue,
}

/// What the HTTP threads share; each makes its own client from it.
#[derive(Clone, Debug)]
struct Shared {
    config: Config,
    health: Health,
    bodies: BodyReader,
    retries: Arc<RetryBudget>,
    metrics: Metrics,
    registrar: Data<Registrar>,
    desk: Data<ControlDesk>,
    registry: Data<Registry>,
    store_places: Arc<Semaphore>,
    objects: Objects,
    jobs: AsyncInvocations,
    started: Instant,
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("cannot put the endpoints of the file there")]
    Endpoints(#[from] OperateError),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
}

/// Why a router ended otherwise than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot write the address file")]
    AddressFile(#[source] io::Error),
    #[error("serving failed")]
    Serve(#[source] io::Error),
    #[error("an actor died")]
    ActorDied,
}

impl App {
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let endpoints_of_file = config.read_endpoints()?;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);

        let records: Arc<dyn Records> = Arc::new(DatabaseRecords::open(&config.control.records)?);
        let endpoints = start_endpoints(&config, Arc::clone(&records), metrics.endpoints.clone())?;
        endpoints.seed(endpoints_of_file).await?;
        let provision = config.control.provision;
        let placement = Placement::start(provision, metrics.placement.clone());
        let deployments = Deployments::start(DeploymentsParts {
            endpoints: endpoints.clone(),
            placement: placement.clone(),
            config: config.control.clone(),
        });
        let membership =
            Membership::start(config.membership, placement.clone(), metrics.membership.clone());

        let (jobs, queue) =
            AsyncInvocations::new(JobLog::new(records), config.asynchronous.max_async);
        let objects = Objects::new(config.objects.clone());

        let listen = |error| BuildError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Shared {
            registrar: Data::new(Registrar::new(
                membership.clone(),
                config.membership,
                config.body,
            )),
            desk: Data::new(desk(&config, endpoints.clone(), &objects)),
            health: Health { endpoints, membership, placement, deployments },
            bodies: BodyReader::new(config.body, metrics.invocations.body_bytes.clone()),
            retries: Arc::new(RetryBudget::new(allowance(&config))),
            registry: Data::new(registry),
            store_places: Arc::new(Semaphore::new(config.store.max_store_requests)),
            objects,
            jobs,
            started: Instant::now(),
            metrics,
            config,
        };
        Ok(Self { listener, address, shared, queue })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then finishes what was accepted.
    pub async fn run_until(
        self,
        stop: impl Future<Output = io::Result<&'static str>>,
    ) -> Result<(), RunError> {
        let Self { listener, address, shared, queue } = self;
        // It ends with this thread: what is not done is in the records.
        rt::spawn(shared.runner(&queue).run(queue));
        let health = shared.health.clone();
        let address_file = shared.config.address_file.clone();
        let mut server = serve(listener, shared).map_err(RunError::Serve)?;
        info!(%address, "listening");
        if let Some(path) = address_file {
            address_file::write(&path, address).map_err(RunError::AddressFile)?;
        }
        tokio::select! {
            result = &mut server => return result.map_err(RunError::Serve),
            () = death_of_an_actor(&health) => {
                error!("an actor died, exiting");
                return Err(RunError::ActorDied);
            }
            signal = stop => info!(signal = signal.map_err(RunError::Serve)?, "draining"),
        }
        let (drained, result) = tokio::join!(server.handle().stop(true), &mut server);
        let () = drained;
        info!("drained");
        result.map_err(RunError::Serve)
    }
}

fn desk(config: &Config, endpoints: Endpoints, objects: &Objects) -> ControlDesk {
    let looks = !config.control.allow_empty_model_data;
    ControlDesk::new(endpoints, looks.then(|| objects.clone()), config)
}

fn start_endpoints(
    config: &Config,
    records: Arc<dyn Records>,
    metrics: EndpointMetrics,
) -> Result<Endpoints, RecordsError> {
    let ControlConfig { max_endpoint_instances, max_records, .. } = &config.control;
    let settings = endpoints::Settings {
        account_id: config.identity.account_id.clone(),
        region: config.identity.region.clone(),
        max_instances: *max_endpoint_instances,
        max_records: *max_records,
    };
    Endpoints::start(records, settings, metrics)
}

fn serve(listener: TcpListener, shared: Shared) -> io::Result<Server> {
    let Config { http_threads, max_connections, client_stall, drain_timeout, .. } = shared.config;
    let http_threads = match http_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n_threads => n_threads,
    };
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(Data::new(shared.reception()))
            .app_data(Data::new(shared.bodies.clone()))
            .app_data(Data::<Store>::new(shared.store()))
            .app_data(Data::new(shared.jobs.clone()))
            .app_data(shared.registrar.clone())
            .app_data(shared.desk.clone())
            .app_data(Data::new(shared.health.deployments.clone()))
            .app_data(Data::new(shared.health.clone()))
            .app_data(shared.registry.clone())
            .configure(http::routes)
    });
    let server = server
        .workers(http_threads)
        .max_connections(max_connections)
        .keep_alive(CLIENT_KEEP_ALIVE)
        .client_request_timeout(CLIENT_PATIENCE)
        .client_disconnect_timeout(CLIENT_PATIENCE)
        .tcp_nodelay(true)
        .on_connect(move |connection, _| limit_stall_of(connection, client_stall))
        // A client that has left needs no answer: its invocation is dropped, also upstream.
        .h1_allow_half_closed(false)
        .shutdown_timeout(drain_timeout.as_secs().max(1))
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Without it, a client that stops reading would hold its answer, and what sends it, for ever.
fn limit_stall_of(connection: &dyn Any, client_stall: Duration) {
    let Some(socket) = connection.downcast_ref::<TcpStream>() else {
        debug_assert!(false, "the router listens on TCP alone");
        return;
    };
    // It fails where the client has left already: then there is nothing to limit.
    if let Err(error) = sockets::limit_stall(socket, client_stall) {
        debug!(%error, "a client's connection has no stall limit");
    }
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
            client: InstanceClient::new(self.config.instance),
            retries: Arc::clone(&self.retries),
            config: self.config.dispatch,
            metrics: self.metrics.invocations.clone(),
            started: self.started,
        }
    }

    fn runner(&self, queue: &Queue) -> Runner {
        Runner {
            endpoints: self.health.endpoints.clone(),
            dispatch: self.dispatch(),
            bodies: self.bodies.clone(),
            identity: self.config.identity.clone(),
            objects: self.objects.clone(),
            log: queue.log(),
            config: self.config.asynchronous.clone(),
            max_input_bytes: self.config.body.max_bytes,
        }
    }

    fn reception(&self) -> Reception {
        Reception {
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

/// An actor that panicked is gone for good, and with it the truth that it owned.
async fn death_of_an_actor(health: &Health) {
    let mut watch = interval(WATCH_INTERVAL);
    while health.is_alive() {
        watch.tick().await;
    }
}
