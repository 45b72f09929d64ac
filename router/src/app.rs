//! Builds the parts, binds, runs, drains. The only file that knows all others.

use crate::{
    access::Access,
    actors::{
        endpoints::{Endpoints, InvalidEndpoints},
        membership::Membership,
        placement::Placement,
    },
    auth::Gate,
    body::BodyReader,
    config::{Config, InvalidConfig},
    dispatch::Dispatch,
    http::{self, Face, health::Health, instances::Registrar, invocations::Reception},
    instance_client::InstanceClient,
    metrics::Metrics,
    policy::retry::{RetryAllowance, RetryBudget},
    sockets,
    tls::{Certificate, TlsError},
};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{HttpServer, dev::Server, rt::net::TcpStream, web::Data};
use futures_util::future::try_join_all;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use shared::address_file;
use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, interval};
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
    /// For workers and launchers alone.
    internal_listener: Option<TcpListener>,
    access: Access,
    shared: Shared,
}

/// What the HTTP threads share; each makes its own client from it.
#[derive(Clone, Debug)]
struct Shared {
    config: Config,
    gate: Gate,
    health: Health,
    bodies: BodyReader,
    retries: Arc<RetryBudget>,
    metrics: Metrics,
    registrar: Data<Registrar>,
    registry: Data<Registry>,
    started: Instant,
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("endpoints file is not valid")]
    Endpoints(#[from] InvalidEndpoints),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
}

/// Why a router ended otherwise than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot write the address file")]
    AddressFile(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("serving failed")]
    Serve(#[source] io::Error),
    #[error("an actor died")]
    ActorDied,
}

impl App {
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        let endpoints_of_file = config.read_endpoints()?;
        let access = Access::read(&config)?;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);

        let endpoints = Endpoints::start(metrics.endpoints.clone());
        endpoints.replace(endpoints_of_file).await?;
        let placement = Placement::start(metrics.placement.clone());
        let membership =
            Membership::start(config.membership, placement.clone(), metrics.membership.clone());

        let (listener, address) = bind(config.listen)?;
        let internal_listener = config.access.internal_listen.map(bind).transpose()?;
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
            started: Instant::now(),
            gate: access.gate.clone(),
            metrics,
            config,
        };
        let internal_listener = internal_listener.map(|(listener, _)| listener);
        Ok(Self { listener, address, internal_listener, access, shared })
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
        let Self { listener, address, internal_listener, access, shared } = self;
        let health = shared.health.clone();
        let address_file = shared.config.address_file.clone();
        access.announce(&shared.config);
        let public = Door::public(listener, &access, shared.config.http_threads);
        let doors = std::iter::once(public.map_err(RunError::Tls)?);
        let doors = doors.chain(internal_listener.map(Door::internal));
        let servers = doors.map(|door| serve(door, shared.clone())).collect::<io::Result<Vec<_>>>();
        let servers = servers.map_err(RunError::Serve)?;
        let handles: Vec<_> = servers.iter().map(Server::handle).collect();
        let mut serving = pin!(try_join_all(servers));
        info!(%address, ?internal_address, "listening");
        if let Some(path) = address_file {
            address_file::write(&path, address).map_err(RunError::AddressFile)?;
        }
        tokio::select! {
            result = &mut serving => return result.map(drop).map_err(RunError::Serve),
            () = death_of_an_actor(&health) => {
                error!("an actor died, exiting");
                return Err(RunError::ActorDied);
            }
            never = access.keep_current() => match never {},
            signal = stop => info!(signal = signal.map_err(RunError::Serve)?, "draining"),
        }
        // The public one first: what it finishes needs instances that can renew their leases.
        let stop_all = async {
            for handle in handles {
                handle.stop(true).await;
            }
        };
        let ((), result) = tokio::join!(stop_all, serving);
        info!("drained");
        result.map(drop).map_err(RunError::Serve)
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let failed = |error| BuildError::Listen(address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// One of the listeners, and how it is served.
struct Door {
    listener: TcpListener,
    face: Face,
    n_threads: usize,
    /// `None`: plain HTTP.
    tls: Option<ServerConfig>,
}

impl Door {
    fn public(
        listener: TcpListener,
        access: &Access,
        http_threads: usize,
    ) -> Result<Self, TlsError> {
        let tls = access.certificate.as_ref().map(Certificate::server_config).transpose()?;
        let n_threads = match http_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n_threads => n_threads,
        };
        Ok(Self { listener, face: access.face, n_threads, tls })
    }

    /// One thread takes thousands of heartbeats a second.
    fn internal(listener: TcpListener) -> Self {
        Self { listener, face: Face::Internal, n_threads: 1, tls: None }
    }
}

fn serve(door: Door, shared: Shared) -> io::Result<Server> {
    let Config { max_connections, client_stall, drain_timeout, .. } = shared.config;
    let Door { listener, face, n_threads, tls } = door;
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(Data::new(shared.reception()))
            .app_data(Data::new(shared.bodies.clone()))
            .app_data(shared.registrar.clone())
            .app_data(Data::new(shared.health.clone()))
            .app_data(shared.registry.clone())
            .configure(http::routes(face))
    });
    let server = server
        .workers(n_threads)
        .max_connections(max_connections)
        .keep_alive(CLIENT_KEEP_ALIVE)
        .client_request_timeout(CLIENT_PATIENCE)
        .client_disconnect_timeout(CLIENT_PATIENCE)
        .tcp_nodelay(true)
        .on_connect(move |connection, _| limit_stall_of(connection, client_stall))
        // A client that has left needs no answer: its invocation is dropped, also upstream.
        .h1_allow_half_closed(false)
        .shutdown_timeout(drain_timeout.as_secs().max(1))
        .disable_signals();
    let server = match tls {
        None => server.listen(listener)?,
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
    };
    Ok(server.run())
}

/// Without it, a client that stops reading would hold its answer, and what sends it, for ever.
fn limit_stall_of(connection: &dyn Any, client_stall: Duration) {
    let of_tls = connection.downcast_ref::<TlsStream<TcpStream>>().map(|it| it.get_ref().0);
    let Some(socket) = connection.downcast_ref::<TcpStream>().or(of_tls) else {
        debug_assert!(false, "the router listens on TCP alone");
        return;
    };
    // It fails where the client has left already: then there is nothing to limit.
    if let Err(error) = sockets::limit_stall(socket, client_stall) {
        debug!(%error, "a client's connection has no stall limit");
    }
}

impl Shared {
    fn reception(&self) -> Reception {
        let Health { endpoints, membership, placement } = &self.health;
        let dispatch = Dispatch {
            placement: placement.clone(),
            membership: membership.clone(),
            client: InstanceClient::new(self.config.instance),
            retries: Arc::clone(&self.retries),
            config: self.config.dispatch,
            metrics: self.metrics.invocations.clone(),
            started: self.started,
        };
        Reception {
            gate: self.gate.clone(),
            endpoints: endpoints.clone(),
            dispatch,
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
