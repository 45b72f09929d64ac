//! Instances that are sockets, and who invokes them.

use crate::{
    config::InstanceConfig,
    instance::Instance,
    instance_client::{
        InstanceClient, InstanceError, Options, Outbound,
        answer::{Answer, AnswerError},
        bearer::Bearer,
    },
};
use awc::http::header::HeaderValue;
use bytes::Bytes;
use futures_util::StreamExt as _;
use shared::api::membership::{Heartbeat, InstanceState};
use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Of every invocation.
const ID: &str = "value";

/// An instance made of a socket.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) n_connections: Rc<Cell<usize>>,
    pub(super) n_open: Rc<Cell<usize>>,
}

impl Server {
    /// Does with each connection what `script` says.
    pub(super) fn start<S: Future<Output = ()> + 'static>(
        script: impl Fn(TcpStream) -> S + 'static,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // More may come at once than tokio's own listeners let wait.
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (n_connections, n_open) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let server = Self { address, n_connections: Rc::clone(&n_connections), n_open };
        let (script, n_open) = (Rc::new(script), Rc::clone(&server.n_open));
        tokio::task::spawn_local(async move {
            while let Ok((connection, _)) = listener.accept().await {
                n_connections.set(n_connections.get() + 1);
                n_open.set(n_open.get() + 1);
                let (script, n_open) = (Rc::clone(&script), Rc::clone(&n_open));
                tokio::task::spawn_local(async move {
                    script(connection).await;
                    n_open.set(n_open.get() - 1);
                });
            }
        });
        server
    }

    /// Answers every request with these bytes, and with whose answer it is.
    pub(super) fn answering(answer: &'static [u8]) -> Self {
        let answer = Rc::new(saying_whose(answer));
        Self::start(move |mut connection: TcpStream| {
            let answer = Rc::clone(&answer);
            async move {
                while receive(&mut connection).await.is_some() {
                    let _ = connection.write_all(&answer).await;
                }
            }
        })
    }

    /// Answers the first request with these bytes, then closes.
    pub(super) fn answering_once(answer: &'static [u8]) -> Self {
        Self::start(move |mut connection: TcpStream| async move {
            receive(&mut connection).await;
            let _ = connection.write_all(answer).await;
        })
    }
}

fn saying_whose(answer: &[u8]) -> Vec<u8> {
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let named = format!("\r\nx-manifold-invocation-id: {ID}\r\n");
    answer.replacen("\r\n", &named, 1).into_bytes()
}

/// Reads a head, and says how long a body it announces.
pub(super) async fn receive_head(connection: &mut TcpStream) -> Option<usize> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some(length.map_or(0, |length| length.parse().unwrap()))
}

/// Reads a request, and says how long its body was.
pub(super) async fn receive(connection: &mut TcpStream) -> Option<usize> {
    let n_bytes = receive_head(connection).await?;
    let mut body = vec![0; n_bytes];
    connection.read_exact(&mut body).await.ok()
}

/// A client of one instance.
pub(super) struct Caller {
    client: InstanceClient,
    pub(super) instance: Instance,
}

impl Caller {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self::keeping(address, Duration::from_mins(1))
    }

    pub(super) fn keeping(address: SocketAddr, keep_alive: Duration) -> Self {
        let config = InstanceConfig {
            max_answer_bytes: 1 << 20,
            connect_timeout: Duration::from_secs(1),
            keep_alive,
            answer_idle: PATIENCE,
        };
        let heartbeat = Heartbeat {
            instance: "a".parse().unwrap(),
            address,
            boot_id: "1".to_owned(),
            state: InstanceState::Serving,
            budget_bytes: 1,
            resident_bytes: 0,
            n_resident: 0,
            n_in_flight: 0,
            fleet: None,
            n_slots: 1,
            hot: Vec::new(),
        };
        let client = InstanceClient::new(config, Bearer::default());
        Self { client, instance: Instance::new(&heartbeat) }
    }

    pub(super) async fn send(&self, body: &Bytes) -> Result<Answer, InstanceError> {
        let value = HeaderValue::from_static(ID);
        let outbound = Outbound {
            artifact: &value,
            options: Options::default(),
            invocation_id: &value,
            forwarded: &[],
            body,
        };
        let deadline = Instant::now() + PATIENCE;
        self.client.invoke(&self.instance, &outbound, PATIENCE, deadline).await
    }

    /// Invokes, and reads the answer.
    pub(super) async fn invoke(&self) -> Result<Vec<u8>, InstanceError> {
        let answer = self.send(&Bytes::from_static(b"body")).await?;
        Ok(read(answer).await.unwrap())
    }
}

pub(super) async fn read(answer: Answer) -> Result<Vec<u8>, AnswerError> {
    let mut stream = answer.into_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

#[track_caller]
pub(super) fn eventually(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {caller}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}
