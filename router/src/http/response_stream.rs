//! `InvokeEndpointWithResponseStream`: the same invocation, its answer as frames of an event stream.
//!
//! # Invariants
//!
//! - A part is at most 64 KiB, however large the pieces are in which an instance answers.
//! - An answer that breaks after its head ends with an exception frame: the client is told, and never
//!   takes half an answer for the whole.

mod frame;

use super::{
    answer,
    invocations::{Operation, Reception, Visit, serve},
    request::{self, Asked, InvalidRequest},
};
use crate::{
    actors::endpoints::route::Variant,
    dispatch::Served,
    headers::{MODEL_ACCEPT, MODEL_CONTENT_TYPE, SESSION_ID},
    instance::Instance,
    instance_client::answer::{AnswerError, AnswerStream},
    metrics::Outcome,
};
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
    web::{Data, Payload},
};
use bytes::Bytes;
use frame::{Exception, PART_BYTES};
use futures_util::Stream as _;
use shared::{id::NAME_CONSTRAINT, telemetry::Chain};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tracing::warn;

/// How long a stream may last from its head to its end: SageMaker's 8 minutes for the whole, of
/// which less than one has passed by then.
const MAX_STREAM: Duration = Duration::from_mins(8);

/// `POST /endpoints/{endpoint}/invocations-response-stream`
pub async fn invoke(
    request: HttpRequest,
    payload: Payload,
    reception: Data<Reception>,
) -> HttpResponse {
    let action = "sagemaker:InvokeEndpointWithResponseStream";
    serve(Operation { action, parse, respond }, &request, payload, &reception).await
}

/// As for `InvokeEndpoint`, but that the model's `Accept` has a header of its own, and that no
/// session can be opened. The target model, which the operation does not know, is taken as well.
fn parse(request: &HeaderMap) -> Result<Asked, InvalidRequest> {
    let mut headers = request.clone();
    headers.remove(ACCEPT);
    if let Some(accept) = request.get(&MODEL_ACCEPT) {
        headers.insert(ACCEPT, accept.clone());
    }
    let asked = request::parse(&headers)?;
    match request.get(&SESSION_ID) {
        Some(session) if session.as_bytes() == b"NEW_SESSION" => Err(InvalidRequest::Member {
            member: "sessionId",
            value: Some("NEW_SESSION".to_owned()),
            constraint: NAME_CONSTRAINT,
        }),
        _ => Ok(asked),
    }
}

fn respond(served: Served, id: HeaderValue, variant: &Variant, visit: Visit) -> HttpResponse {
    let mut response = answer::head(&served, &id, variant);
    let Served { answer, instance } = served;
    if let Some(content_type) = answer.header(&CONTENT_TYPE) {
        response.insert_header((MODEL_CONTENT_TYPE.clone(), content_type.clone()));
    }
    response.insert_header((CONTENT_TYPE, frame::CONTENT_TYPE));
    response.body(FrameBody {
        stream: answer.into_stream(),
        rest: Bytes::new(),
        until: Box::pin(sleep(MAX_STREAM)),
        is_over: false,
        visit,
        id,
        instance,
    })
}

/// An answer as frames.
struct FrameBody {
    stream: AnswerStream,
    /// What has come of the answer and is not yet in a frame.
    rest: Bytes,
    until: Pin<Box<Sleep>>,
    is_over: bool,
    visit: Visit,
    id: HeaderValue,
    instance: Arc<Instance>,
}

impl FrameBody {
    /// Ends the stream with what has become of it.
    fn breaks(&mut self, exception: Exception, error: Option<&AnswerError>) -> Bytes {
        let (id, instance) = (&self.id, &self.instance.id);
        let error = error.map(|error| Chain(error).to_string());
        warn!(invocation_id = ?id, %instance, ?exception, error, "answer broken off");
        self.visit.ends(Outcome::Cut);
        self.is_over = true;
        frame::exception(exception)
    }
}

impl MessageBody for FrameBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Ok(self.breaks(Exception::TimeExceeded, None))));
        }
        while self.rest.is_empty() {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => self.rest = piece,
                Poll::Ready(Some(Err(error))) => {
                    let frame = self.breaks(Exception::of(&error), Some(&error));
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    self.visit.ends(Outcome::Ok);
                    self.is_over = true;
                    return Poll::Ready(None);
                }
            }
        }
        let n_bytes = self.rest.len().min(PART_BYTES);
        let part = self.rest.split_to(n_bytes);
        Poll::Ready(Some(Ok(frame::part(part))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::TARGET_MODEL;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TARGET_MODEL.clone(), HeaderValue::from_static("model.tar.gz"));
        for (name, value) in of {
            headers.insert(name.parse().unwrap(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_models_accept_is_not_the_streams() {
        let accept = |headers| {
            let forwarded = parse(&headers).unwrap().forwarded;
            forwarded.into_iter().find(|(name, _)| *name == ACCEPT).map(|(_, value)| value)
        };
        assert_eq!(accept(headers(&[("accept", "*/*")])), None);
        let both = headers(&[("accept", "*/*"), ("x-amzn-sagemaker-accept", "text/csv")]);
        assert_eq!(accept(both), Some(HeaderValue::from_static("text/csv")));
    }

    #[test]
    fn a_stream_opens_no_session() {
        let session = headers(&[("x-amzn-sagemaker-session-id", "NEW_SESSION")]);
        let error = parse(&session).unwrap_err().to_string();
        assert!(error.contains("'NEW_SESSION' at 'sessionId'"), "{error}");
        assert!(parse(&headers(&[("x-amzn-sagemaker-session-id", "abc")])).is_ok());
    }
}
