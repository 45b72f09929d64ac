//! What a router benchmark is measured over: three instances that do nothing.
//!
//! Each answers every `POST` with the same kilobyte, as little work as there is, and sends real
//! heartbeats, so that a real router routes to it. `GET` tells how many target models it has seen
//! since it was last asked: how far a proxy spreads the copies of models. One thread serves all.

use awc::http::Uri;
use bytes::{Buf as _, BytesMut};
use clap::Parser;
use shared::api::{
    invocation::{INVOCATION_ID, TARGET_MODEL},
    membership::{Heartbeat, InstanceState},
};
use std::{cell::RefCell, collections::HashSet, io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::interval,
};

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nx-manifold-cache: hit";

/// Runs trivial instances until it is stopped.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen; one instance for each.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// The router that gets heartbeats.
    #[arg(long)]
    router: SocketAddr,
}

/// The target models that an instance has seen.
type Seen = Rc<RefCell<HashSet<Vec<u8>>>>;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let Options { listen, router } = Options::parse();
    for (idx, address) in listen.into_iter().enumerate() {
        let listener = TcpListener::bind(address).await?;
        actix_web::rt::spawn(accept(listener));
        actix_web::rt::spawn(beat(router, format!("trivial-{idx}"), address));
    }
    std::future::pending().await
}

async fn beat(router: SocketAddr, id: String, address: SocketAddr) -> anyhow::Result<()> {
    let uri: Uri = format!("http://{router}/manifold/v1/instances/{id}").parse()?;
    let heartbeat = Heartbeat {
        instance: id.parse()?,
        fleet: None,
        address,
        boot_id: "1".to_owned(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        n_slots: 1,
        hot: Vec::new(),
    };
    let client = awc::Client::default();
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    loop {
        ticks.tick().await;
        // The router may start later, or again.
        let _ = client.put(uri.clone()).send_json(&heartbeat).await;
    }
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let seen = Seen::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        actix_web::rt::spawn(serve(socket, Rc::clone(&seen)));
    }
}

async fn serve(mut socket: TcpStream, seen: Seen) -> io::Result<()> {
    let body = [b'x'; 1024];
    let mut received = BytesMut::with_capacity(16 * 1024);
    loop {
        let Some(n_head) = received.windows(4).position(|it| it == b"\r\n\r\n") else {
            if socket.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = received.split_to(n_head + 4);
        if head.starts_with(b"GET") {
            let n_seen = std::mem::take(&mut *seen.borrow_mut()).len();
            socket.write_all(&answer(b"", n_seen.to_string().as_bytes())).await?;
            continue;
        }
        if let Some(model) = header(&head, TARGET_MODEL)
            && !seen.borrow().contains(model)
        {
            seen.borrow_mut().insert(model.to_vec());
        }
        let n_body = header(&head, "content-length").and_then(|it| str::from_utf8(it).ok());
        let n_body = n_body.and_then(|it| it.parse().ok()).unwrap_or(0);
        while received.len() < n_body {
            if socket.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        received.advance(n_body);
        let id = header(&head, INVOCATION_ID).unwrap_or_default();
        socket.write_all(&answer(id, &body)).await?;
    }
}

/// An answer that names the invocation, if the request did: a router wants to see that.
fn answer(id: &[u8], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n\r\n", body.len());
    let name = if id.is_empty() { "" } else { "\r\nx-manifold-invocation-id: " };
    [HEAD, name.as_bytes(), id, b"\r\n", length.as_bytes(), body].concat()
}

/// Returns the value of a header, whose name is given in lower case.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|it| *it == b'\n').find_map(|line| {
        let (theirs, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        theirs.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}
