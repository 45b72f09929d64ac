//! Connections to the routers: kept alive, used again, last used first. The only file of the load
//! driver that speaks HTTP.

use super::requests::Whole;
use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};

/// Below the idle time after which servers close a connection (5 s is the shortest that is usual):
/// what is sent just then is lost, and none of the cluster's doing.
const MAX_IDLE: Duration = Duration::from_secs(4);

/// Connections that were found closed before anything was sent on them, in a row.
const MAX_STALE: usize = 3;

/// As much of an error's body as says what it is.
const MAX_TEXT_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Connections {
    /// `host:port`.
    authority: String,
    idle: RefCell<Vec<Idle>>,
    n_opened: Cell<u64>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Whole>,
    since: Instant,
}

/// An answer that came whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) n_bytes: u64,
    /// The beginning of the body, if it is an error's.
    pub(super) text: String,
    pub(super) is_as_expected: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("could not connect")]
    Connect(#[source] io::Error),
    /// The invocation may have begun.
    #[error("the connection broke before an answer came")]
    NoAnswer(#[source] hyper::Error),
    #[error("the connection broke within the answer")]
    Cut(#[source] hyper::Error),
}

impl Connections {
    pub(super) fn new(authority: String) -> Self {
        Self { authority, idle: RefCell::default(), n_opened: Cell::new(0) }
    }

    pub(super) fn n_opened(&self) -> u64 {
        self.n_opened.get()
    }

    /// Sends a request and reads its whole answer. If `expected` is there, the answer's body is
    /// compared with it. Cancel safe: a connection that is dropped on the way is closed.
    pub(super) async fn exchange(
        &self,
        mut request: Request<Whole>,
        expected: Option<&Bytes>,
    ) -> Result<Answer, LinkError> {
        let mut n_stale = 0;
        loop {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let answer = read(response, expected).await.map_err(LinkError::Cut)?;
                    self.idle.borrow_mut().push(Idle { sender, since: Instant::now() });
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    // The connection was closed while it was idle: nothing was sent.
                    Some(unsent) if n_stale < MAX_STALE => {
                        n_stale += 1;
                        request = unsent;
                    }
                    _ => return Err(LinkError::NoAnswer(failed.into_error())),
                },
            }
        }
    }

    async fn sender(&self) -> Result<SendRequest<Whole>, LinkError> {
        while let Some(mut sender) = self.idle_sender() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        self.connect().await
    }

    /// Takes the connection that was used last, unless that is long ago.
    fn idle_sender(&self) -> Option<SendRequest<Whole>> {
        let mut idle = self.idle.borrow_mut();
        let last = idle.pop()?;
        if last.since.elapsed() > MAX_IDLE {
            // The others were used earlier still.
            idle.clear();
            return None;
        }
        Some(last.sender)
    }

    async fn connect(&self) -> Result<SendRequest<Whole>, LinkError> {
        let stream = TcpStream::connect(&self.authority).await.map_err(LinkError::Connect)?;
        // Requests are written at once: nothing is gained by waiting for more to send.
        stream.set_nodelay(true).map_err(LinkError::Connect)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(LinkError::NoAnswer)?;
        // It ends with its sender, and its error reaches the one who waits for an answer.
        tokio::task::spawn_local(async { drop(connection.await) });
        self.n_opened.set(self.n_opened.get() + 1);
        Ok(sender)
    }
}

async fn read(
    response: Response<Incoming>,
    expected: Option<&Bytes>,
) -> Result<Answer, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let is_error = !head.status.is_success();
    let mut text = BytesMut::new();
    let mut expected_rest = expected.map(|bytes| &bytes[..]);
    let mut n_bytes = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(bytes) = frame?.into_data() else { continue };
        n_bytes += bytes.len() as u64;
        if is_error {
            text.extend_from_slice(&bytes[..bytes.len().min(MAX_TEXT_BYTES - text.len())]);
        }
        expected_rest = expected_rest.and_then(|rest| rest.strip_prefix(&bytes[..]));
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        n_bytes,
        text: String::from_utf8_lossy(&text).into_owned(),
        is_as_expected: expected.is_none() || expected_rest.is_some_and(<[u8]>::is_empty),
    })
}
