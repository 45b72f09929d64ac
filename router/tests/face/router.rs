//! A running router, and a client that sees every byte of it.

use crate::instance::{Instance, header};
use router::{
    app::App,
    config::Config,
    policy::ring::{Key, Node, PlacementRing, shares},
};
use std::{ffi::OsString, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// How long anything may take that must happen in the end.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ENDPOINTS: &str = r#"
[[endpoint]]
name = "demo"
[[endpoint.variant]]
name = "AllTraffic"
model_data_url = "s3://bucket/models/"

[[endpoint]]
name = "once"
[[endpoint.variant]]
name = "blue"
model_data_url = "s3://bucket/models/"
repeats = false
[[endpoint.variant]]
name = "idle"
model_data_url = "s3://bucket/models/"
weight = 0.0
"#;

/// A router with the endpoints `demo` (may repeat) and `once` (may not).
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    /// Where `--internal-listen` is bound.
    pub(crate) internal_address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    _files: Option<(tempfile::NamedTempFile, tempfile::TempDir)>,
}

impl Router {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let endpoints = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(endpoints.path(), ENDPOINTS).expect("writable");
        let path = endpoints.path().to_str().expect("UTF-8");
        let mut all = vec!["router", "--listen", "127.0.0.1:0", "--http-threads", "1"];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let records = folder.path().join("records.redb").display().to_string();
        all.extend(["--endpoints", path, "--records", &records]);
        all.extend(flags);
        if !flags.contains(&"--lease-ms") {
            // Instances here send one heartbeat.
            all.extend(["--lease-ms", "3600000"]);
        }
        let flags = all.into_iter().map(OsString::from);
        let app = App::build(Config::read(flags).expect("valid flags")).await.expect("builds");
        let (address, internal_address) = (app.address(), app.internal_address());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::task::spawn_local(async move {
            let stop = async {
                let _ = stopped.await;
                Ok::<_, io::Error>("test")
            };
            app.run_until(stop).await.expect("runs");
        });
        let (stop, running) = (Some(stop), Some(running));
        Self { address, internal_address, stop, running, _files: Some((endpoints, folder)) }
    }

    /// A router in a process of its own.
    pub(crate) fn of_process(address: SocketAddr) -> Self {
        Self { address, internal_address: None, stop: None, running: None, _files: None }
    }

    /// Starts a router with these instances in service.
    pub(crate) async fn with(flags: &[&str], instances: &[&Instance]) -> Self {
        let router = Self::start(flags).await;
        for instance in instances {
            let status = router.heartbeat(&instance.id, instance.address, "serving").await.status;
            assert_eq!(status, 200);
        }
        let gauge = format!("router_ring_instances {}", instances.len());
        eventually(async || router.metrics().await.contains(&gauge)).await;
        router
    }

    pub(crate) async fn heartbeat(&self, id: &str, address: SocketAddr, state: &str) -> Response {
        let body = serde_json::json!({
            "instance": id, "address": address, "boot_id": "1", "state": state,
            "budget_bytes": 1 << 30, "resident_bytes": 0, "n_resident": 0, "n_in_flight": 0,
            "n_slots": 1,
        });
        let request = format!("PUT /manifold/v1/instances/{id}");
        self.send(&request, "", body.to_string().as_bytes()).await
    }

    pub(crate) async fn n_in_service(&self) -> usize {
        let instances = self.send("GET /manifold/v1/instances", "", b"").await.json();
        let instances = instances.as_array().expect("a list");
        instances.iter().filter(|it| it["in_service"] == true).count()
    }

    pub(crate) async fn metrics(&self) -> String {
        self.send("GET /metrics", "", b"").await.text()
    }

    /// Invokes `target_model` of the endpoint `demo`.
    pub(crate) async fn invoke(&self, target_model: &str, body: &[u8]) -> Response {
        self.invoke_endpoint("demo", target_model, body).await
    }

    pub(crate) async fn invoke_endpoint(
        &self,
        endpoint: &str,
        target_model: &str,
        body: &[u8],
    ) -> Response {
        let headers = format!("x-amzn-sagemaker-target-model: {target_model}\r\n");
        self.send(&format!("POST /endpoints/{endpoint}/invocations"), &headers, body).await
    }

    /// Sends a whole request on a connection of its own, then reads until it is closed.
    pub(crate) async fn send(&self, line: &str, headers: &str, body: &[u8]) -> Response {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{headers}");
        self.send_raw(&[head.as_bytes(), b"connection: close\r\n\r\n", body].concat()).await
    }

    /// Sends everything before it reads anything, as boto3 does.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> Response {
        let mut connection = self.connect().await;
        connection.write_all(bytes).await.expect("the router takes it all");
        Response::read(&mut connection).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the router listens")
    }

    /// Asks the router to stop, as SIGTERM does.
    pub(crate) fn stop(&mut self) -> JoinHandle<()> {
        let _ = self.stop.take().expect("stopped once").send(());
        self.running.take().expect("stopped once")
    }
}

/// A target model that prefers `first` among these instances.
pub(crate) fn model_preferring(first: &Instance, instances: &[&Instance]) -> String {
    let budgets = instances.iter().map(|it| (it.id.parse().expect("an id"), 1 << 30)).collect();
    let ring = PlacementRing::empty().changed_to(&shares(&budgets));
    let prefers = |model: &String| {
        let key = format!("s3://bucket/models/{model}");
        ring.first(Key::of(&key)) == Some(Node::of(&first.id.parse().expect("an id")))
    };
    (0..1000).map(|n| format!("model-{n}.tar.gz")).find(prefers).expect("some model does")
}

/// What a client saw until the connection closed.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its head announced.
    pub(crate) is_whole: bool,
}

impl Response {
    pub(crate) async fn read(connection: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A reset is one way in which a connection is cut.
        let _ = timeout(PATIENCE, connection.read_to_end(&mut bytes)).await.expect("an end");
        let Some(head_end) = bytes.windows(4).position(|it| it == b"\r\n\r\n").map(|it| it + 4)
        else {
            return Self { status: 0, head: String::new(), body: bytes, is_whole: false };
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        let rest = bytes.split_off(head_end);
        let (body, is_whole) = match header(&head, "content-length") {
            Some(length) => {
                let is_whole = rest.len().to_string() == length;
                (rest, is_whole)
            }
            None => unchunk(&rest),
        };
        Self { status, head, body, is_whole }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Checks an error's status, name and message, and what every error has.
    #[track_caller]
    pub(crate) fn check_error(&self, status: u16, code: &str, message: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.header("x-amzn-errortype")), (status, Some(code)), "{text}");
        assert_eq!(self.json()["Message"], message);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("x-amzn-requestid").map(str::len), Some(36));
        assert!(self.is_whole);
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|it| it == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| rest.len() >= at + 4 + size) else {
            return (body, false);
        };
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 4 + size..];
    }
    (body, false)
}

/// Waits for a state, and fails the test where it was called if it does not come.
#[track_caller]
pub(crate) fn eventually<F: AsyncFnMut() -> bool>(mut condition: F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {caller}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}
