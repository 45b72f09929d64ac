//! Passes S3 requests on to the local store: heads as they came, bodies as streams both ways.
//!
//! # Invariants
//!
//! - No body is held: what the store does not take, the client cannot send, and the other way round.
//! - Path and query go on byte for byte, and so does every header that is not about the connection.
//! - Every wait ends: either something moves within the idle timeout, or both sides are cut.

pub mod upload;

use self::upload::Upload;
use crate::{
    config::StoreConfig,
    instance_client::{
        answer::Answer,
        clients::client,
        connection::{Connector, EndOfStream},
    },
};
use actix_web::dev::RequestHead;
use awc::{
    ClientRequest, SendClientRequest,
    body::{BodyStream, SizedStream},
    error::SendRequestError,
    http::{
        Method, Uri,
        header::{CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING},
        uri::PathAndQuery,
    },
};
use std::{cell::Cell, fmt, pin::pin, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// The store is on this machine, or as near: what does not connect at once does not listen.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Shorter than the store keeps an idle connection (a minute), so that we close it first.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Headers about one connection, or about how a body crosses it (RFC 9110, section 7.6.1). Ours are
/// written anew; `Expect` is [`StoreClient::send`]'s.
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends S3 requests to the local store. One per HTTP thread.
#[derive(Clone)]
pub struct StoreClient {
    client: awc::Client,
    end_of_stream: EndOfStream,
    url: Uri,
    idle: Duration,
    /// Shared by all threads.
    places: Arc<Semaphore>,
}

/// The head of the store's answer, and its place among the requests at the store.
#[derive(Debug)]
pub struct Passed {
    pub answer: Answer,
    /// Held until the answer is over.
    pub place: OwnedSemaphorePermit,
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("too many requests are at the store")]
    Busy,
    #[error("could not connect to the store")]
    Connect(#[source] SendRequestError),
    /// The client's side: it left, or was refused while it sent.
    #[error("the body broke off")]
    Body(#[source] SendRequestError),
    #[error("the store broke off")]
    Broken(#[source] SendRequestError),
    #[error("nothing moved for too long")]
    Idle,
}

impl fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreClient").field("url", &self.url).finish_non_exhaustive()
    }
}

impl StoreClient {
    /// Returns `None` if there is no local store. `places` bounds the requests of all threads.
    pub fn new(config: &StoreConfig, places: Arc<Semaphore>) -> Option<Self> {
        let StoreConfig { local_store, store_idle: idle, max_store_requests: _ } = config;
        let end_of_stream = EndOfStream::default();
        let connector = Connector::patient(end_of_stream.clone(), *idle);
        let client = client(connector, CONNECT_TIMEOUT, KEEP_ALIVE);
        Some(Self { client, end_of_stream, url: local_store.clone()?, idle: *idle, places })
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn pass(&self, head: &RequestHead, upload: Upload) -> Result<Passed, StoreError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| StoreError::Busy)?;
        let progress = upload.progress();
        let sending = self.send(head, upload);
        let sent = while_it_moves(sending, &progress, self.idle).await.ok_or(StoreError::Idle)?;
        let response = sent.map_err(store_error)?;
        let end_of_stream = self.end_of_stream.clone();
        // A stock client bounds what it asks for; S3's own bound is the store's to keep.
        let answer = Answer::new(response, end_of_stream, u64::MAX, self.idle);
        Ok(Passed { answer, place })
    }

    fn send(&self, head: &RequestHead, upload: Upload) -> SendClientRequest {
        let mut request = self.client.request(head.method.clone(), self.uri_of(head));
        copy_headers(&head.headers, request.headers_mut());
        match length_of(head) {
            Length::None => request.send(),
            // An empty body is a length, too, to whoever asks for one.
            Length::Bytes(0) => request.send_body(()),
            Length::Bytes(n_bytes) => asking(request).send_body(SizedStream::new(n_bytes, upload)),
            Length::Chunked => asking(request).send_body(BodyStream::new(upload)),
        }
    }

    fn uri_of(&self, head: &RequestHead) -> Uri {
        let mut parts = self.url.clone().into_parts();
        let path = head.uri.path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        Uri::from_parts(parts).expect("the store's URL has scheme and authority")
    }
}

enum Length {
    None,
    Bytes(u64),
    Chunked,
}

/// What follows a head, by RFC 9112, section 6.3; actix has refused what contradicts itself.
fn length_of(head: &RequestHead) -> Length {
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Length::Chunked;
    }
    let length = head.headers.get(CONTENT_LENGTH);
    match length.and_then(|length| length.to_str().ok()?.parse().ok()) {
        Some(n_bytes) => Length::Bytes(n_bytes),
        None if [Method::PUT, Method::POST].contains(&head.method) => Length::Bytes(0),
        None => Length::None,
    }
}

/// Asks the store before the body goes up, whether or not the client asked us. A store that refuses
/// before it has read would otherwise close the connection under its own answer.
fn asking(request: ClientRequest) -> ClientRequest {
    // Of a store that refused, nobody knows whether it still waits for the body.
    request.insert_header((EXPECT, HeaderValue::from_static("100-continue"))).force_close()
}

/// Whether a header is the request's or the answer's own, and not the connection's.
pub fn is_passed_on(name: &str) -> bool {
    !OF_THE_CONNECTION.contains(&name)
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from.iter().filter(|(name, _)| is_passed_on(name.as_str())) {
        to.append(name.clone(), value.clone());
    }
}

/// Waits for `work` as long as `progress` is never older than `idle`; `None` if it was.
async fn while_it_moves<W: Future>(
    work: W,
    progress: &Rc<Cell<Instant>>,
    idle: Duration,
) -> Option<W::Output> {
    let mut work = pin!(work);
    loop {
        let seen = progress.get();
        match timeout_at(seen + idle, &mut work).await {
            Ok(output) => return Some(output),
            Err(_) if progress.get() == seen => return None,
            Err(_) => {}
        }
    }
}

fn store_error(error: SendRequestError) -> StoreError {
    match error {
        SendRequestError::Body(_) => StoreError::Body(error),
        // awc's word for a connection that closed before the head of an answer.
        SendRequestError::Connect(awc::error::ConnectError::Disconnected) => {
            StoreError::Broken(error)
        }
        SendRequestError::Connect(_) | SendRequestError::Url(_) => StoreError::Connect(error),
        _ => StoreError::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let idle = Duration::from_mins(1);
        let progress = Rc::new(Cell::new(Instant::now()));
        let moves = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.set(Instant::now());
            }
        };
        assert_eq!(while_it_moves(moves, &progress, idle).await, Some(()));
        let stopped = Instant::now();
        assert_eq!(while_it_moves(pending::<()>(), &progress, idle).await, None);
        assert_eq!(stopped.elapsed(), idle);
    }

    #[test]
    fn headers_of_the_connection_stay_on_it() {
        for name in ["authorization", "range", "if-match", "content-md5", "x-amz-trailer", "date"] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in ["host", "connection", "transfer-encoding", "content-length", "te"] {
            assert!(!is_passed_on(name), "{name}");
        }
    }
}
