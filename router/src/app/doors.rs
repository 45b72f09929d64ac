//! The listeners: which there are, what each serves, and how its connections are bounded.

use super::{BuildError, Shared};
use crate::{
    access::Access,
    config::Config,
    http::{self, Face, store::Store},
    sockets,
    tls::{Certificate, TlsError},
};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    HttpServer,
    dev::{Extensions, Server},
    rt::net::TcpStream,
    web::Data,
};
use rustls::ServerConfig;
use shared::peers::Peers;
use std::{
    any::Any,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::{runtime::Handle, sync::oneshot, task::spawn_blocking};
use tracing::debug;

/// How long a client's connection is kept without a request: longer than clients keep theirs.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a connection's first request may take, and how long a connection may take
/// to close. actix bounds no later head that has begun: only the number of connections of a peer is.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let failed = |error| BuildError::Listen(address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// One of the listeners, and how it is served.
pub(super) struct Door {
    listener: TcpListener,
    face: Face,
    n_threads: usize,
    /// `None`: plain HTTP.
    tls: Option<ServerConfig>,
}

impl Door {
    pub(super) fn public(
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
    pub(super) fn internal(listener: TcpListener) -> Self {
        Self { listener, face: Face::Internal, n_threads: 1, tls: None }
    }
}

pub(super) fn serve(door: Door, shared: Shared) -> io::Result<Server> {
    let Config { max_connections, client_stall, drain_timeout, .. } = shared.config;
    let Door { listener, face, n_threads, tls } = door;
    let token = shared.bearer.token().cloned();
    let is_local = listener.local_addr().is_ok_and(|it| it.ip().is_loopback());
    let peers = Peers::sharing(max_connections.saturating_mul(n_threads));
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(Data::new(shared.reception()))
            .app_data(Data::new(shared.handover()))
            .app_data(Data::new(shared.bodies.clone()))
            .app_data(Data::<Store>::new(shared.store()))
            .app_data(Data::new(shared.jobs.clone()))
            .app_data(shared.registrar.clone())
            .app_data(shared.desk.clone())
            .app_data(Data::new(shared.gate.clone()))
            .app_data(Data::new(shared.health.deployments.clone()))
            .app_data(Data::new(shared.health.clone()))
            .app_data(shared.registry.clone())
            .configure(http::routes(face, is_local, token.clone()))
    });
    let server = server
        .workers(n_threads)
        .max_connections(max_connections)
        .keep_alive(CLIENT_KEEP_ALIVE)
        .client_request_timeout(CLIENT_PATIENCE)
        .client_disconnect_timeout(CLIENT_PATIENCE)
        .tcp_nodelay(true)
        .on_connect(move |connection, data| receive(connection, data, &peers, client_stall))
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

/// Runs a server from a thread of its own, where there is no actix system: its threads then have
/// tokio's local runtime. In actix's, each batch of events wakes the thread by a write to itself.
pub(super) async fn run_apart(server: Server) -> io::Result<()> {
    let runtime = Handle::current();
    // Dropped with this future: then the server is, too.
    let (_owner, orphaned) = oneshot::channel::<Infallible>();
    let running = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                result = server => result,
                _ = orphaned => Ok(()),
            }
        })
    });
    running.await.map_err(io::Error::other)?
}

/// Gives a connection its place, which goes with the data of the connection, and its patience.
fn receive(connection: &dyn Any, data: &mut Extensions, peers: &Peers, client_stall: Duration) {
    let of_tls = connection.downcast_ref::<TlsStream<TcpStream>>().map(|it| it.get_ref().0);
    let Some(socket) = connection.downcast_ref::<TcpStream>().or(of_tls) else {
        debug_assert!(false, "the router listens on TCP alone");
        return;
    };
    // Whose address is not known any more has left.
    let Ok(peer) = socket.peer_addr() else { return };
    if let Some(place) = peers.admit(socket, peer.ip()) {
        data.insert(place);
    }
    // Without a limit, a client that stops reading would hold its answer, and what sends it, for ever.
    // It fails where the client has left already: then there is nothing to limit.
    if let Err(error) = sockets::limit_stall(socket, client_stall) {
        debug!(%error, "a client's connection has no stall limit");
    }
}
