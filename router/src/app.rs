//! Builds the parts, binds, runs, drains. The only file that knows all others.

use crate::{
    actors::{
        endpoints::{Endpoints, InvalidEndpoints},
        membership::Membership,
        placement::Placement,
    },
    async_invocations::{
        AsyncInvocations, Queue,
        log::JobLog,
        output::{AsyncOutput, Outputs},
        runner::Runner,
    },
    body::BodyReader,
    config::{AsyncConfig, Config, InvalidConfig},
    dispatch::Dispatch,
    http::{
        self, async_invocations::AsyncReception, health::Health, instances::Registrar,
        invocations::Reception, store::Store,
    },
    instance_client::InstanceClient,
    metrics::Metrics,
    objects::Objects,
    policy::retry::{RetryAllowance, RetryBudget},
    records::{RecordsError, database::DatabaseRecords},
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
    /// `None` if there are no asynchronous invocations.
    queue: Option<Queue>,
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
    registry: Data<Registry>,
    store_places: Arc<Semaphore>,
    objects: Objects,
    asynchronous: Option<AsyncReception>,
    started: Instant,
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("endpoints file is not valid")]
    Endpoints(#[from] InvalidEndpoints),
    #[error(transparent)]
    Records(#[from] RecordsError),
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
        let outputs = AsyncOutput::of_file(&endpoints_of_file);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);

        let endpoints = Endpoints::start(metrics.endpoints.clone());
        endpoints.replace(endpoints_of_file).await?;
        let placement = Placement::start(metrics.placement.clone());
        let membership =
            Membership::start(config.membership, placement.clone(), metrics.membership.clone());

        let (asynchronous, queue) = asynchronous(&config, outputs)?.unzip();

        let listen = |error| BuildError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Shared {
            registrar: Data::new(Registrar::new(
                membership.clone(),
                config.membership,
                config.body,
            )),
            health: Health { endpoints, membership, placement },
            bodies: BodyReader::new(config.body, metrics.invocations.body_bytes.clone()),
            retries: Arc::new(RetryBudget::new(allowance(&config))),
            registry: Data::new(registry),
            store_places: Arc::new(Semaphore::new(config.store.max_store_requests)),
            objects: Objects::new(config.objects.clone()),
            asynchronous,
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
        if let (Some(queue), Some(asynchronous)) = (queue, &shared.asynchronous) {
            // It ends with this thread: what is not done is in the records.
            rt::spawn(shared.runner(asynchronous, &queue).run(queue));
        }
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

/// Returns the two ends of the queue of asynchronous invocations, if there is where to keep them.
fn asynchronous(
    config: &Config,
    outputs: Outputs,
) -> Result<Option<(AsyncReception, Queue)>, RecordsError> {
    let AsyncConfig { records, max_async, .. } = &config.asynchronous;
    let Some(records) = records else { return Ok(None) };
    let log = JobLog::new(Arc::new(DatabaseRecords::open(records)?));
    let (jobs, queue) = AsyncInvocations::new(log, *max_async);
    Ok(Some((AsyncReception { jobs, outputs }, queue)))
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
            .app_data(Data::new(shared.asynchronous.clone()))
            .app_data(shared.registrar.clone())
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

    fn runner(&self, asynchronous: &AsyncReception, queue: &Queue) -> Runner {
        Runner {
            endpoints: self.health.endpoints.clone(),
            dispatch: self.dispatch(),
            bodies: self.bodies.clone(),
            identity: self.config.identity.clone(),
            objects: self.objects.clone(),
            outputs: Arc::clone(&asynchronous.outputs),
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
