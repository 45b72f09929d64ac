//! S3 on the router's port: what is signed for S3 goes to the local store, and its answer comes back.
//!
//! Errors of our own are S3's, in its XML, so that its clients raise what they know.

use super::invocations::new_request_id;
use crate::{
    body::BodyReader,
    instance_client::answer::{AnswerError, AnswerStream},
    store_client::{
        Passed, StoreClient, StoreError, is_passed_on,
        upload::{BodyVisitor, Upload},
    },
};
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::{Method, StatusCode, header::HeaderValue},
    web::{Data, Payload},
};
use bytes::Bytes;
use futures_util::Stream as _;
use shared::telemetry::Chain;
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, warn};

/// The way to the store; `None` without one.
pub type Store = Option<StoreClient>;

/// Any method, any path, signed for `s3`.
pub async fn pass(
    request: HttpRequest,
    payload: Payload,
    store: Data<Store>,
    bodies: Data<BodyReader>,
) -> HttpResponse {
    // With credentials configured, what was signed of the body is checked on its way.
    pass_visited(&request, payload, (&store, &bodies), None).await
}

/// Passes a request on, its body under the eyes of `visitor`.
pub async fn pass_visited(
    request: &HttpRequest,
    payload: Payload,
    (store, bodies): (&Store, &BodyReader),
    visitor: Option<Box<dyn BodyVisitor>>,
) -> HttpResponse {
    let payload = Rc::new(RefCell::new(payload));
    let passed = match store {
        Some(store) => {
            let upload = Upload::new(Rc::clone(&payload), visitor);
            store.pass(request.head(), upload).await.map_err(|error| {
                debug!(path = request.path(), error = %Chain(&error), "store did not answer");
                S3Error::of(&error)
            })
        }
        None => Err(S3Error::NO_STORE),
    };
    let refuses = !passed.as_ref().is_ok_and(|it| it.answer.status().is_success());
    // Whoever uploads reads no answer before all is sent. The upload is over: the rest is ours.
    if refuses && let Some(payload) = Rc::into_inner(payload) {
        bodies.drain(&mut payload.into_inner()).await;
    }
    match passed {
        Ok(passed) => response(passed, request.method()),
        Err(error) => error.into_response(request),
    }
}

fn response(passed: Passed, method: &Method) -> HttpResponse {
    let Passed { answer, place } = passed;
    let mut response = HttpResponse::build(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| is_passed_on(name.as_str())) {
        response.append_header((name.clone(), value.clone()));
    }
    let length = answer.content_length();
    let is_bare = method == Method::HEAD
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status());
    if is_bare {
        // The length is that of a body that does not come.
        return response.body(Bare(length));
    }
    response.body(StoreBody { length, stream: answer.into_stream(), _place: place })
}

/// The body of an answer that has none.
struct Bare(Option<u64>);

impl MessageBody for Bare {
    type Error = AnswerError;

    fn size(&self) -> BodySize {
        self.0.map_or(BodySize::None, BodySize::Sized)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerError>>> {
        Poll::Ready(None)
    }
}

/// A body that is passed on piece by piece. An error cuts the client's connection.
struct StoreBody {
    length: Option<u64>,
    stream: AnswerStream,
    _place: OwnedSemaphorePermit,
}

impl MessageBody for StoreBody {
    type Error = AnswerError;

    fn size(&self) -> BodySize {
        self.length.map_or(BodySize::Stream, BodySize::Sized)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerError>>> {
        let item = Pin::new(&mut self.stream).poll_next(cx);
        if let Poll::Ready(Some(Err(error))) = &item {
            warn!(error = %Chain(error), "the store's answer was cut");
        }
        item
    }
}

/// An error in S3's own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct S3Error {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl S3Error {
    const NO_STORE: Self = Self {
        status: StatusCode::NOT_IMPLEMENTED,
        code: "NotImplemented",
        message: "This router has no store (--local-store). Name yours to S3 clients with \
                  AWS_ENDPOINT_URL_S3.",
    };

    fn of(error: &StoreError) -> Self {
        let (status, code, message) = match error {
            StoreError::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
            }
            StoreError::Connect(_) | StoreError::Broken(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The store does not answer. Please try again.",
            ),
            StoreError::Body(_) => (
                StatusCode::BAD_REQUEST,
                "IncompleteBody",
                "The body broke off, or is not what was signed.",
            ),
            StoreError::Idle => (
                StatusCode::BAD_REQUEST,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the \
                 timeout period.",
            ),
        };
        Self { status, code, message }
    }

    fn into_response(self, request: &HttpRequest) -> HttpResponse {
        let Self { status, code, message } = self;
        let id = new_request_id();
        let mut response = HttpResponse::build(status);
        response.insert_header(("x-amz-request-id", id.clone())).content_type("application/xml");
        if request.method() == Method::HEAD {
            return response.finish();
        }
        response.body(body(code, message, &id))
    }
}

fn body(code: &str, message: &str, id: &HeaderValue) -> String {
    let id = id.to_str().unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}\
         </Message><RequestId>{id}</RequestId></Error>"
    )
}
