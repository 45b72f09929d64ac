//! Step 5 of an invocation: sends it to one instance, and says what a failure means.
//!
//! # Invariants
//!
//! - Nothing is sent twice from here, redirects are not followed, and no header goes up that is
//!   not named here or in `http/request.rs`.
//! - Every wait ends at the invocation's deadline, or after the longest silence of an answer.

pub mod answer;
pub mod connection;

use self::{
    answer::Answer,
    connection::{Connector, EndOfStream},
};
use crate::{config::InstanceConfig, headers};
use awc::{
    body::SizedStream,
    error::{ConnectError, SendRequestError},
    http::{
        StatusCode, Uri,
        header::{HeaderName, HeaderValue},
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use shared::api::error::{ErrorBody, ErrorKind};
use std::{convert::Infallible, fmt, io, net::SocketAddr, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// A body beyond this goes up in pieces: awc would copy it whole into its write buffer.
const PIECE_BYTES: usize = 64 * 1024;

/// As much of a failed answer's body as is read: an error text, not a payload.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Connections live for a day: their age is no reason to close them.
const CONNECTION_LIFETIME: Duration = Duration::from_hours(24);

/// Sends invocations to instances over kept connections. One per HTTP thread.
#[derive(Clone)]
pub struct InstanceClient {
    client: awc::Client,
    end_of_stream: EndOfStream,
    config: InstanceConfig,
}

/// What is sent.
#[derive(Debug)]
pub struct Outbound<'a> {
    pub artifact: &'a HeaderValue,
    pub invocation_id: &'a HeaderValue,
    /// Those of the client's headers that models may see.
    pub forwarded: &'a [(HeaderName, HeaderValue)],
    pub body: &'a Bytes,
}

/// Why an instance did not answer an invocation.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("could not connect to instance")]
    Connect(#[source] SendRequestError),
    #[error("instance closed the connection before it answered")]
    Died(#[source] SendRequestError),
    #[error("instance answered something that is not HTTP, or has no end")]
    Garbled(#[source] Option<SendRequestError>),
    #[error("instance did not answer in time")]
    TimedOut,
    #[error("instance answered {0}")]
    Refused(Refusal),
    #[error("answer of {0} bytes is too large")]
    TooLarge(u64),
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Why the worker refused; `None` if the error is the model's own.
    pub kind: Option<ErrorKind>,
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.map_or("model error", ErrorKind::as_str);
        write!(f, "{} ({kind})", self.status)
    }
}

impl fmt::Debug for InstanceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceClient").field("config", &self.config).finish_non_exhaustive()
    }
}

impl InstanceClient {
    pub fn new(config: InstanceConfig) -> Self {
        let end_of_stream = EndOfStream::default();
        let client = client(config.connect_timeout, config.keep_alive, &end_of_stream);
        Self { client, end_of_stream, config }
    }

    /// Sends an invocation and waits for the head of the answer, until `deadline`.
    ///
    /// The instance is told to answer within `patience`, which should end before `deadline`.
    pub async fn invoke(
        &self,
        uri: &Uri,
        outbound: &Outbound<'_>,
        patience: Duration,
        deadline: Instant,
    ) -> Result<Answer, InstanceError> {
        let sent = timeout_at(deadline, self.send(uri, outbound, patience)).await;
        let response = sent.map_err(|_| InstanceError::TimedOut)?.map_err(instance_error)?;
        let answer = Answer::new(response, self.end_of_stream.clone(), &self.config);
        if !answer.status().is_success() {
            let refusal = timeout_at(deadline, refusal(answer)).await;
            return Err(refusal.map_or(InstanceError::TimedOut, InstanceError::Refused));
        }
        match answer.content_length() {
            Some(n_bytes) if n_bytes > self.config.max_answer_bytes => {
                Err(InstanceError::TooLarge(n_bytes))
            }
            None if !answer.has_end() => Err(InstanceError::Garbled(None)),
            _ => Ok(answer),
        }
    }

    fn send(
        &self,
        uri: &Uri,
        outbound: &Outbound<'_>,
        patience: Duration,
    ) -> awc::SendClientRequest {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let mut request = self.client.post(uri.clone());
        let up = request.headers_mut();
        for (name, value) in outbound.forwarded {
            up.insert(name.clone(), value.clone());
        }
        up.insert(headers::ARTIFACT.clone(), outbound.artifact.clone());
        up.insert(headers::INVOCATION_ID.clone(), outbound.invocation_id.clone());
        up.insert(headers::DEADLINE_MS.clone(), patience_ms.into());
        if outbound.body.len() <= PIECE_BYTES {
            return request.send_body(outbound.body.clone());
        }
        let length = outbound.body.len() as u64;
        request.send_body(SizedStream::new(length, pieces(outbound.body.clone())))
    }
}

/// Asks an instance whether it is alive. For `Membership`, on its own thread.
#[derive(Clone)]
pub struct Prober {
    client: awc::Client,
    patience: Duration,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Prober {
    pub fn new(connect_timeout: Duration, patience: Duration) -> Self {
        // Always a new connection: an old one would say nothing of the instance's listener.
        Self { client: client(connect_timeout, Duration::ZERO, &EndOfStream::default()), patience }
    }

    /// Whether the instance answers `GET /ping` with 200.
    pub async fn is_alive(&self, address: SocketAddr) -> bool {
        let ping = self.client.get(format!("http://{address}/ping")).force_close().send();
        matches!(timeout(self.patience, ping).await, Ok(Ok(answer)) if answer.status().is_success())
    }
}

fn client(connect_timeout: Duration, keep_alive: Duration, end: &EndOfStream) -> awc::Client {
    let connector = awc::Connector::new()
        .connector(Connector::new(end.clone()))
        // In flight is bounded where invocations come in, not by a hidden queue here.
        .limit(0)
        .timeout(connect_timeout)
        .conn_keep_alive(keep_alive)
        .conn_lifetime(CONNECTION_LIFETIME);
    awc::Client::builder()
        .connector(connector)
        // Deadlines are the invocation's own; awc's would cost a second timer.
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}

fn pieces(body: Bytes) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(
        (0..body.len())
            .step_by(PIECE_BYTES)
            .map(move |start| Ok(body.slice(start..body.len().min(start + PIECE_BYTES)))),
    )
}

/// Sorts awc's errors by what they say of the invocation: never sent, perhaps run, or answered.
fn instance_error(error: SendRequestError) -> InstanceError {
    use actix_web::error::ParseError;
    match error {
        // awc's word for a connection that closed before the head of an answer.
        SendRequestError::Connect(ConnectError::Disconnected)
        | SendRequestError::Send(_)
        | SendRequestError::Response(ParseError::Io(_) | ParseError::Incomplete) => {
            InstanceError::Died(error)
        }
        SendRequestError::Response(_) => InstanceError::Garbled(Some(error)),
        SendRequestError::Connect(_) | SendRequestError::Url(_) | SendRequestError::Http(_) => {
            InstanceError::Connect(error)
        }
        // Neither HTTP/2, tunnels nor awc's own time-outs are used. If one came, it may have run.
        _ => InstanceError::Died(error),
    }
}

/// Reads an error of the worker, or of the model behind it.
async fn refusal(answer: Answer) -> Refusal {
    let status = answer.status();
    let kind =
        answer.header(&headers::ERROR_KIND).and_then(|kind| kind.to_str().ok()?.parse().ok());
    let text = read_text(answer).await;
    let message = match kind {
        Some(_) => serde_json::from_str::<ErrorBody>(&text).map_or(text, |body| body.message),
        None => text,
    };
    Refusal { status: status.as_u16(), kind, message }
}

/// Reads as much as counts. What breaks off is still the best text there is.
async fn read_text(answer: Answer) -> String {
    let mut stream = answer.into_stream();
    let mut text = BytesMut::new();
    while let Some(Ok(chunk)) = stream.next().await {
        let room = MAX_ERROR_BYTES - text.len();
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

impl InstanceError {
    /// The status that the instance gave; 0 if there was no answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status,
            Self::TooLarge(_) => StatusCode::OK.as_u16(),
            Self::Connect(_) | Self::Died(_) | Self::Garbled(_) | Self::TimedOut => 0,
        }
    }
}

/// Where invocations of the instance at `address` go.
pub fn invocations_uri(address: SocketAddr) -> Result<Uri, io::Error> {
    let uri = Uri::builder().scheme("http").authority(address.to_string());
    uri.path_and_query("/invocations").build().map_err(io::Error::other)
}
