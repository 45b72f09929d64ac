//! The listener: how it is served, and how its connections are bounded.

use crate::{
    http::{self, Face},
    policy::connections,
};
use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server},
    rt::net::TcpStream,
};
use shared::{open_files, peers::Peers};
use std::{any::Any, io, net::TcpListener, time::Duration};

/// Routers keep connections open between invocations; a closed one costs a retry.
const KEEP_ALIVE: Duration = Duration::from_mins(5);

/// How long clients may take to read the last answers. With the default drain just within the 30 s
/// that SageMaker gives.
const WRITE_PATIENCE_S: u64 = 4;

pub(super) fn serve(face: &Face, listener: TcpListener, n_threads: usize) -> io::Result<Server> {
    let max_per_thread = connections::per_thread(open_files::limit(), n_threads);
    let peers = Peers::sharing(max_per_thread.saturating_mul(n_threads));
    let face = face.clone();
    let server = HttpServer::new(move || {
        let face = face.clone();
        App::new().configure(move |app| http::routes(&face, app))
    });
    let server = server
        .workers(n_threads)
        .max_connections(max_per_thread)
        .on_connect(move |connection, data| admit(&peers, connection, data))
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(WRITE_PATIENCE_S)
        // A client that closes has gone, and what it wanted need not run.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Gives a connection its place, which goes with the data of the connection.
fn admit(peers: &Peers, connection: &dyn Any, data: &mut Extensions) {
    let Some(socket) = connection.downcast_ref::<TcpStream>() else {
        debug_assert!(false, "the worker listens on TCP alone");
        return;
    };
    // Whose address is not known any more has left.
    let Ok(peer) = socket.peer_addr() else { return };
    if let Some(place) = peers.admit(socket, peer.ip()) {
        data.insert(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::peers::Place;
    use tokio::{io::AsyncReadExt as _, net};

    #[tokio::test]
    async fn a_connection_too_many_of_one_peer_is_closed() {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peers = Peers::sharing(2);
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for is_admitted in [true, false] {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (connection, _) = listener.accept().await.unwrap();
            let mut data = Extensions::new();
            admit(&peers, &connection, &mut data);
            assert_eq!(data.contains::<Place>(), is_admitted);
            served.push((connection, data));
        }
        assert_eq!(clients[1].read(&mut [0; 1]).await.unwrap(), 0);
        assert!(clients[0].try_read(&mut [0; 1]).is_err());
    }
}
