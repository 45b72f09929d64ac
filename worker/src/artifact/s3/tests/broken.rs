//! A store that breaks off, stalls, refuses or lies: each becomes an error, in time.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

/// What the store answers to its nth request.
#[derive(Clone, Debug)]
enum Answer {
    /// These bytes, and then the connection is closed.
    Bytes(String),
    /// These bytes, and then silence.
    Stall(String),
    /// These bytes, and then one more every 20 ms.
    Drip(String),
}

fn head(status: &str, etag: &str, n_bytes: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Length: {n_bytes}\r\nConnection: close\r\n\r\n"
    )
}

fn object(body: &str, announced: usize) -> String {
    format!("{}{body}", head("200 OK", "\"1\"", announced))
}

/// A store with a script; the last answer is repeated.
struct Store {
    source: S3Source,
    requests: Arc<parking_lot::Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Store {
    async fn with(script: Vec<Answer>) -> Self {
        Self::with_patience(script, PATIENCE).await
    }

    async fn with_patience(script: Vec<Answer>, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let nth = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        let log = Arc::clone(&requests);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let nth = nth.fetch_add(1, Ordering::Relaxed).min(script.len() - 1);
                connections.spawn(answer(socket, script[nth].clone(), Arc::clone(&log)));
            }
        });
        Self { source: source(addr, patience).await, requests, _server: server }
    }

    async fn locate_error(&self) -> FetchError {
        self.source.locate(&address("s3://bucket/x")).await.unwrap_err()
    }

    async fn get(&self, n_bytes: u64) -> Result<String, FetchError> {
        let version = ArtifactVersion { etag: "\"1\"".to_owned(), size_bytes: n_bytes };
        let bytes = contract::bytes(&self.source, &address("s3://bucket/x"), &version).await?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn n_requests(&self) -> usize {
        self.requests.lock().len()
    }
}

async fn answer(mut socket: TcpStream, answer: Answer, log: Arc<parking_lot::Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(socket.read_u8().await.unwrap());
    }
    log.lock().push(String::from_utf8(request).unwrap().to_lowercase());
    match answer {
        Answer::Bytes(bytes) => socket.write_all(bytes.as_bytes()).await.unwrap(),
        Answer::Drip(bytes) => {
            socket.write_all(bytes.as_bytes()).await.unwrap();
            while socket.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        }
        Answer::Stall(bytes) => {
            socket.write_all(bytes.as_bytes()).await.unwrap();
            // Until the client gives up and closes.
            let _ = socket.read_u8().await;
        }
    }
}

#[tokio::test]
async fn a_store_that_answers_500_is_asked_three_times() {
    let store = Store::with(vec![Answer::Bytes(head("500 Oops", "x", 0))]).await;
    let error = store.locate_error().await;
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
    assert_eq!(store.n_requests(), 3);
    let error = store.get(4).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
    assert_eq!(store.n_requests(), 6);
}

#[tokio::test]
async fn a_store_that_recovers_serves() {
    let broken = Answer::Bytes(head("503 Slow Down", "x", 0));
    let store = Store::with(vec![broken, Answer::Bytes(object("body", 4))]).await;
    assert_eq!(store.get(4).await.unwrap(), "body");
}

#[tokio::test]
async fn a_body_that_broke_off_is_continued_where_it_broke() {
    let part = |body: &str, announced| head("206 Partial Content", "\"1\"", announced) + body;
    let script = vec![object("a", 8), part("rtifa", 7), part("c", 2)];
    let script = script.into_iter().map(Answer::Bytes).collect();
    let store = Store::with(script).await;
    let got = store.get(8).await;
    let requests = store.requests.lock().clone();
    assert!(requests.iter().all(|it| it.contains("if-match: \"1\"")), "{requests:?}");
    assert!(requests[1].contains("range: bytes=1-"), "{requests:?}");
    assert!(requests[2].contains("range: bytes=6-"), "{requests:?}");
    // The third attempt broke off too.
    assert!(matches!(got, Err(FetchError::Unavailable(..))), "{got:?}");
}

#[tokio::test]
async fn a_continued_body_is_whole() {
    let rest = head("206 Partial Content", "\"1\"", 5) + "ifact";
    let script = vec![Answer::Bytes(object("art", 8)), Answer::Bytes(rest)];
    let store = Store::with(script).await;
    assert_eq!(store.get(8).await.unwrap(), "artifact");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_after_three_attempts() {
    // It ignores the range, as a broken proxy does.
    let store = Store::with(vec![Answer::Bytes(object("half", 8))]).await;
    let error = store.get(8).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
    assert!(store.n_requests() <= 3);
}

#[tokio::test]
async fn a_stalled_store_is_given_up_in_time() {
    let patience = Patience { idle_timeout: Duration::from_millis(100), ..PATIENCE };
    let started = Instant::now();
    for stall in [String::new(), object("half", 8)] {
        let store = Store::with_patience(vec![Answer::Stall(stall)], patience).await;
        let error = store.get(8).await.unwrap_err();
        assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
        assert!(store.n_requests() <= 3);
    }
    // Three silences for the head, and as many for the body; the rest is a busy machine.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_store_that_gives_byte_after_byte_is_given_up_in_time() {
    let patience = Patience { idle_timeout: Duration::from_millis(200), ..PATIENCE };
    let drip = Answer::Drip(head("200 OK", "\"1\"", 90_000));
    let store = Store::with_patience(vec![drip], patience).await;
    let started = Instant::now();
    let error = store.get(90_000).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(store.n_requests(), 1, "what is too slow is not tried again");
}

#[test]
fn a_body_may_take_as_long_as_its_size_needs() {
    let patience = Patience { idle_timeout: Duration::from_millis(20), ..PATIENCE };
    assert_eq!(patience.body_timeout(1_000_000), Duration::from_millis(10_020));
    assert_eq!(patience.body_timeout(0), Duration::from_millis(20));
}

#[tokio::test]
async fn what_a_store_says_of_an_object_is_told_apart() {
    let of = async |status: &str| {
        let store = Store::with(vec![Answer::Bytes(head(status, "\"1\"", 0))]).await;
        (store.locate_error().await, store.get(4).await.unwrap_err(), store.n_requests())
    };
    let (head, get, n_requests) = of("404 Not Found").await;
    assert!(matches!((head, get), (FetchError::NotFound(_), FetchError::NotFound(_))));
    assert_eq!(n_requests, 2, "an answer that is definite is not asked for again");

    let (head, get, n_requests) = of("403 Forbidden").await;
    assert_eq!(head.to_string(), "store denies artifact `s3://bucket/x`");
    assert!(matches!(get, FetchError::Denied(_)));
    assert_eq!(n_requests, 2);

    let (_, get, _) = of("412 Precondition Failed").await;
    assert!(matches!(get, FetchError::Changed(_)), "{get}");
}

#[tokio::test]
async fn other_bytes_than_those_asked_for_are_not_taken() {
    // A store that does not heed `If-Match`.
    let other = head("200 OK", "\"2\"", 4) + "body";
    let store = Store::with(vec![Answer::Bytes(other)]).await;
    let error = store.get(4).await.unwrap_err();
    assert!(matches!(error, FetchError::Changed(_)), "{error}");

    let store = Store::with(vec![Answer::Bytes(object("body", 4))]).await;
    let error = store.get(5).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
}

#[tokio::test]
async fn a_wrong_checksum_of_the_store_is_noticed() {
    let body = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 4\r\nx-amz-checksum-crc32: AAAAAA==\r\n\
                Connection: close\r\n\r\nbody";
    let store = Store::with(vec![Answer::Bytes(body.to_owned())]).await;
    let error = store.get(4).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
    assert_eq!(store.n_requests(), 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let source = source(addr, PATIENCE).await;
    let error = source.locate(&address("s3://bucket/x")).await.unwrap_err();
    assert!(matches!(error, FetchError::Unavailable(..)), "{error}");
}
