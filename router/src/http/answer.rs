//! The way back: an instance's answer becomes the client's, streamed.

use super::invocations::Visit;
use crate::{
    actors::endpoints::route::Variant,
    dispatch::Served,
    headers,
    instance::Instance,
    instance_client::answer::{AnswerError, AnswerStream},
    metrics::Outcome,
};
use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::{BodySize, MessageBody},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::Stream as _;
use shared::telemetry::Chain;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tracing::warn;

/// What a client gets to see of an answer's head, and under which name. A model names a new
/// session in the header in which requests name theirs (SageMaker, "Stateful sessions").
static PASSED: [(&HeaderName, &HeaderName); 7] = [
    (&CONTENT_TYPE, &CONTENT_TYPE),
    (&headers::CUSTOM_ATTRIBUTES, &headers::CUSTOM_ATTRIBUTES),
    (&headers::SESSION_ID, &headers::NEW_SESSION_ID),
    (&headers::NEW_SESSION_ID, &headers::NEW_SESSION_ID),
    (&headers::CLOSED_SESSION_ID, &headers::CLOSED_SESSION_ID),
    (&headers::CACHE, &headers::CACHE),
    (&headers::LOAD_MS, &headers::LOAD_MS),
];

/// Makes the client's response. SageMaker answers 200 to whatever success a model reports.
pub(super) fn response(
    served: Served,
    id: HeaderValue,
    variant: &Variant,
    mut visit: Visit,
) -> HttpResponse {
    let mut response = head(&served, &id, variant);
    let Served { answer, instance } = served;
    let length =
        answer.content_length().or((answer.status() == StatusCode::NO_CONTENT).then_some(0));
    if length == Some(0) {
        // Nobody polls an empty body for its end.
        visit.ends(Outcome::Ok);
    }
    response.body(AnswerBody { length, stream: answer.into_stream(), visit, id, instance })
}

/// Begins the client's response with what it gets to see of the answer's head.
pub(super) fn head(served: &Served, id: &HeaderValue, variant: &Variant) -> HttpResponseBuilder {
    let Served { answer, instance } = served;
    let mut response = HttpResponse::Ok();
    for (theirs, ours) in &PASSED {
        if let Some(value) = answer.header(theirs) {
            response.insert_header(((*ours).clone(), value.clone()));
        }
    }
    response
        .insert_header((headers::REQUEST_ID.clone(), id.clone()))
        .insert_header((headers::INVOKED_VARIANT.clone(), variant.name.as_str()))
        .insert_header((headers::INSTANCE.clone(), instance.id.as_str()));
    response
}

/// A body that is passed on piece by piece. An error cuts the client's connection: what broke is
/// never completed as if it were whole.
struct AnswerBody {
    length: Option<u64>,
    stream: AnswerStream,
    visit: Visit,
    id: HeaderValue,
    instance: Arc<Instance>,
}

impl MessageBody for AnswerBody {
    type Error = AnswerError;

    fn size(&self) -> BodySize {
        self.length.map_or(BodySize::Stream, BodySize::Sized)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerError>>> {
        let item = Pin::new(&mut self.stream).poll_next(cx);
        match &item {
            Poll::Ready(None) => self.visit.ends(Outcome::Ok),
            Poll::Ready(Some(Err(error))) => {
                let (id, instance) = (&self.id, &self.instance.id);
                warn!(invocation_id = ?id, %instance, error = %Chain(error), "answer cut");
                self.visit.ends(Outcome::Cut);
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        item
    }
}
