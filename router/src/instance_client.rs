//! Step 5 of an invocation: sends it to one instance, and says what a failure means.
//!
//! # Invariants
//!
//! - Nothing is sent twice from here, redirects are not followed, and no header goes up that is
//!   not named here or in `http/request.rs`.
//! - Every wait ends at the invocation's deadline, with the loss of the instance, or after the
//!   longest silence of an answer.

pub mod answer;
pub mod bearer;
pub mod connection;
pub mod prober;
pub mod releaser;
pub mod lister;
pub mod warmer;
pub(crate) mod clients;
mod head;
mod link;
mod links;

use self::{
    answer::Answer, bearer::Bearer, head::Head, link::Response, links::Links, prober::is_ours,
};
use crate::{config::InstanceConfig, headers, instance::Instance};
use awc::{
    error::{ConnectError, SendRequestError},
    http::{
        StatusCode,
        header::{HOST, HeaderName, HeaderValue},
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    future::{Either, select},
};
use shared::api::{
    error::{ErrorBody, ErrorKind},
    invocation as wire,
};
use std::{fmt, pin::pin, time::Duration};
use tokio::time::{Instant, timeout_at};

/// As much of a failed answer's body as is read: an error text, not a payload.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// As much of an error text as a log shows.
const MAX_SHOWN_CHARS: usize = 200;

/// How long an invocation waits before it begins to listen for the loss of its instance: longer than
/// nearly all take, which so cost nothing, and a hardly noticed part of any lease.
const DEAF: Duration = Duration::from_millis(50);

/// Sends invocations to instances over kept connections. One per HTTP thread.
#[derive(Clone)]
pub struct InstanceClient {
    links: Links,
    config: InstanceConfig,
    bearer: Bearer,
}

/// What is sent.
#[derive(Debug)]
pub struct Outbound<'a> {
    pub artifact: &'a HeaderValue,
    pub options: Options,
    pub invocation_id: &'a HeaderValue,
    /// Those of the client's headers that models may see.
    pub forwarded: &'a [(HeaderName, HeaderValue)],
    pub body: &'a Bytes,
}

/// What a variant wants of its workers beyond SageMaker's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The model shall leave memory and disk after the invocation.
    pub is_cache_disabled: bool,
    /// The model shall be served on when its object was deleted.
    pub serves_stale: bool,
}

/// Why an instance did not answer an invocation.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("could not connect to instance")]
    Connect(#[source] SendRequestError),
    /// Says nothing of the instance, and would be so at any other.
    #[error("this router has no socket left")]
    NoSocket(#[source] SendRequestError),
    #[error("instance closed the connection before it answered")]
    Died(#[source] SendRequestError),
    #[error("instance was lost before it answered")]
    Lost,
    #[error("instance fell silent before it answered")]
    Silent,
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
        write!(f, "{} ({kind})", self.status)?;
        // As a string literal: the text is a stranger's, and a log has one line per event.
        match self.message.char_indices().nth(MAX_SHOWN_CHARS) {
            _ if self.message.is_empty() => Ok(()),
            Some((end, _)) => write!(f, ": {:?}…", &self.message[..end]),
            None => write!(f, ": {:?}", self.message),
        }
    }
}

impl fmt::Debug for InstanceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceClient").field("config", &self.config).finish_non_exhaustive()
    }
}

impl InstanceClient {
    pub fn new(config: InstanceConfig, bearer: Bearer) -> Self {
        Self { links: Links::new(config), config, bearer }
    }

    /// Sends an invocation and waits for the head of the answer, until `deadline`.
    ///
    /// The instance is told to answer within `patience`, which should end before `deadline`.
    pub async fn invoke(
        &self,
        instance: &Instance,
        outbound: &Outbound<'_>,
        patience: Duration,
        deadline: Instant,
    ) -> Result<Answer, InstanceError> {
        let sending = self.send(instance, outbound, patience);
        let sent = unless_lost(instance, deadline, sending).await?;
        let response = sent.map_err(instance_error)?;
        let InstanceConfig { max_answer_bytes, answer_idle, .. } = self.config;
        let answer = Answer::over_link(response, max_answer_bytes, answer_idle);
        if !answer.status().is_success() {
            let refusal = unless_lost(instance, deadline, refusal(answer)).await?;
            if refusal.kind == Some(ErrorKind::Untrusted) {
                self.bearer.note_refusal(instance);
            }
            return Err(InstanceError::Refused(refusal));
        }
        match answer.content_length() {
            Some(n_bytes) if n_bytes > self.config.max_answer_bytes => {
                Err(InstanceError::TooLarge(n_bytes))
            }
            None if !answer.has_end() => Err(InstanceError::Garbled(None)),
            _ => Ok(answer),
        }
    }

    async fn send(
        &self,
        instance: &Instance,
        outbound: &Outbound<'_>,
        patience: Duration,
    ) -> Result<Response, SendRequestError> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let write = |up: &mut Head| {
            up.put(&HOST, &instance.host);
            for (name, value) in outbound.forwarded {
                up.put(name, value);
            }
            up.put(&headers::ARTIFACT, outbound.artifact);
            up.put_number(&headers::DEADLINE_MS, patience_ms);
            for (name, value) in outbound.options.headers().chain(self.bearer.header()) {
                up.put(name, &value);
            }
        };
        self.links.send(instance, outbound.invocation_id, write, outbound.body).await
    }
}

impl Options {
    /// Returns how a worker is told.
    fn headers(self) -> impl Iterator<Item = (&'static HeaderName, HeaderValue)> {
        let is_cache_disabled = self
            .is_cache_disabled
            .then(|| (&headers::CACHE_SETTING, HeaderValue::from_static(wire::CACHE_DISABLED)));
        let serves_stale = self
            .serves_stale
            .then(|| (&headers::ON_DELETED, HeaderValue::from_static(wire::SERVE_STALE)));
        is_cache_disabled.into_iter().chain(serves_stale)
    }
}

/// Waits for `work` at an instance, until `deadline` or the loss of the instance.
///
/// The loss comes as a signal, at once. But to wait for one that all invocations at an instance share
/// takes a lock, and twice for each of them: so only those do that wait for long.
async fn unless_lost<W: Future>(
    instance: &Instance,
    deadline: Instant,
    work: W,
) -> Result<W::Output, InstanceError> {
    let mut work = pin!(work);
    let deaf_until = deadline.min(Instant::now() + DEAF);
    if let Ok(output) = timeout_at(deaf_until, &mut work).await {
        return Ok(output);
    }
    let lost = pin!(instance.lost());
    match timeout_at(deadline, select(work, lost)).await {
        Ok(Either::Left((output, _))) => Ok(output),
        Ok(Either::Right(((), _))) if instance.is_silent() => Err(InstanceError::Silent),
        Ok(Either::Right(((), _))) => Err(InstanceError::Lost),
        Err(_) => Err(InstanceError::TimedOut),
    }
}

/// Sorts errors by what they say of the invocation: never sent, perhaps run, or answered. They are
/// awc's, which our own links use, too.
fn instance_error(error: SendRequestError) -> InstanceError {
    use actix_web::error::ParseError;
    match error {
        error if is_ours(&error) => InstanceError::NoSocket(error),
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
            Self::Connect(_)
            | Self::NoSocket(_)
            | Self::Died(_)
            | Self::Lost
            | Self::Silent
            | Self::Garbled(_)
            | Self::TimedOut => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_refusal_is_shown_with_its_text_on_one_line() {
        let refusal = |message: &str| {
            Refusal { status: 500, kind: None, message: message.to_owned() }.to_string()
        };
        assert_eq!(refusal(""), "500 (model error)");
        assert_eq!(refusal("a\nb"), r#"500 (model error): "a\nb""#);
        assert_eq!(refusal(&"ü".repeat(201)), format!("500 (model error): {:?}…", "ü".repeat(200)));
    }

    #[test]
    fn a_connection_for_which_we_lack_a_socket_is_no_sign_of_death() {
        let refused = |errno: rustix::io::Errno| {
            instance_error(SendRequestError::Connect(ConnectError::Io(io::Error::from(errno))))
        };
        let error = refused(rustix::io::Errno::MFILE);
        assert!(matches!(error, InstanceError::NoSocket(_)), "{error}");
        let error = refused(rustix::io::Errno::CONNREFUSED);
        assert!(matches!(error, InstanceError::Connect(_)), "{error}");
    }
}
