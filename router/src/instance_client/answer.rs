//! The answer of an instance, from its head to its end.

use super::{connection::EndOfStream, link::Response};
use awc::{
    ClientResponse,
    error::PayloadError,
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING},
    },
};
use bytes::Bytes;
use futures_util::Stream;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// The head of an answer, whose body is still to come.
pub struct Answer {
    source: Source,
    max_bytes: u64,
    max_silence: Duration,
}

/// Where an answer comes from. Both kinds have one size: none of them is rare.
enum Source {
    Link(Response),
    Awc(ClientResponse, EndOfStream),
}

/// Why an answer ended before it was whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("answer broke off")]
    Broken(#[source] Option<PayloadError>),
    #[error("answer grew beyond {0} bytes")]
    TooLarge(u64),
    #[error("answer fell silent")]
    Silent,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Answer {
    /// An answer that awc received.
    pub(crate) fn new(
        response: ClientResponse,
        end_of_stream: EndOfStream,
        max_bytes: u64,
        max_silence: Duration,
    ) -> Self {
        Self { source: Source::Awc(response, end_of_stream), max_bytes, max_silence }
    }

    pub(super) fn over_link(response: Response, max_bytes: u64, max_silence: Duration) -> Self {
        Self { source: Source::Link(response), max_bytes, max_silence }
    }

    pub fn status(&self) -> StatusCode {
        match &self.source {
            Source::Link(response) => response.head.status,
            Source::Awc(response, _) => response.status(),
        }
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        match &self.source {
            Source::Link(response) => &response.head.headers,
            Source::Awc(response, _) => response.headers(),
        }
    }

    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers().get(name)
    }

    /// The length that the answer announces. In chunks it may announce one, too: that means
    /// nothing (RFC 9112, section 6.3), and the chunks decide.
    pub fn content_length(&self) -> Option<u64> {
        if self.header(&TRANSFER_ENCODING).is_some() {
            return None;
        }
        self.header(&CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Whether its end can be seen. An answer that only ends with its connection could not be told
    /// from one that broke; the codec takes it for an empty one.
    pub fn has_end(&self) -> bool {
        self.content_length().is_some()
            || self.header(&TRANSFER_ENCODING).is_some_and(is_chunked)
            || self.status() == StatusCode::NO_CONTENT
    }

    pub fn into_stream(self) -> AnswerStream {
        AnswerStream { n_bytes: 0, silence: None, answer: self }
    }
}

/// Of the codings that an answer may be transferred in, we undo only this one.
pub(super) fn is_chunked(encoding: &HeaderValue) -> bool {
    encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The body of an answer. Ends with an error unless it was whole.
pub struct AnswerStream {
    answer: Answer,
    n_bytes: u64,
    /// Runs while we wait; most answers are there at once and need no timer.
    silence: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("n_bytes", &self.n_bytes).finish_non_exhaustive()
    }
}

impl AnswerStream {
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<AnswerError> {
        let max_silence = self.answer.max_silence;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(max_silence)));
        silence.as_mut().poll(cx).map(|()| AnswerError::Silent)
    }
}

impl Source {
    /// Ends with `Some(Err(None))` if the connection ended before the answer did.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Option<PayloadError>>>> {
        match self {
            Self::Link(response) => response.poll_next(cx),
            Self::Awc(response, end_of_stream) => {
                end_of_stream.clear();
                Poll::Ready(match ready!(Pin::new(response).poll_next(cx)) {
                    // An answer that is whole ends before the end of its connection is read.
                    None if end_of_stream.was_met() => Some(Err(None)),
                    None => None,
                    Some(piece) => Some(piece.map_err(Some)),
                })
            }
        }
    }
}

impl Stream for AnswerStream {
    type Item = Result<Bytes, AnswerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(item) = self.answer.source.poll_next(cx) else {
            return Poll::Ready(Some(Err(ready!(self.poll_silence(cx)))));
        };
        self.silence = None;
        Poll::Ready(match item {
            None => None,
            Some(Err(error)) => Some(Err(AnswerError::Broken(error))),
            Some(Ok(chunk)) => {
                self.n_bytes += chunk.len() as u64;
                let max_bytes = self.answer.max_bytes;
                let fits = self.n_bytes <= max_bytes;
                Some(if fits { Ok(chunk) } else { Err(AnswerError::TooLarge(max_bytes)) })
            }
        })
    }
}
