//! Connections: what one address may do to all others.

use crate::router::{Router, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

const PING: &[u8] = b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Connects from an address of this machine.
async fn connect_from(address: &str, router: &Router) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{address}:0").parse().expect("an address")).expect("loopback");
    socket.connect(router.address).await.expect("the router listens")
}

async fn is_answered(connection: &mut TcpStream) -> bool {
    let mut answer = [0; 512];
    let n_bytes = connection.read(&mut answer).await.unwrap_or(0);
    answer[..n_bytes].starts_with(b"HTTP/1.1 200")
}

/// Has a request answered, and begins another one that never ends.
async fn hold(address: &str, router: &Router) -> TcpStream {
    let mut connection = connect_from(address, router).await;
    let begun = [PING, b"GET /pi"].concat();
    connection.write_all(&begun).await.expect("the router takes it all");
    assert!(is_answered(&mut connection).await);
    connection
}

#[actix_web::test]
async fn half_heads_on_all_connections_of_an_address_leave_others_theirs() {
    let router = Router::start(&["--max-connections", "8"]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(hold("127.0.0.2", &router).await);
    }
    let mut refused = connect_from("127.0.0.2", &router).await;
    // Closed or reset, and either before it is written to or after.
    let _ = refused.write_all(PING).await;
    assert!(!is_answered(&mut refused).await);
    for _ in 0..8 {
        assert_eq!(router.send("GET /ping", "", b"").await.status, 200);
    }

    // A place is free again once its connection is closed.
    held.pop();
    eventually(async || {
        let mut connection = connect_from("127.0.0.2", &router).await;
        connection.write_all(PING).await.is_ok() && is_answered(&mut connection).await
    })
    .await;
}
