//! Answers to what no handler takes: paths and methods that are not there, and requests that come from
//! where they should not.

use super::{error::ApiError, invocations::new_request_id, neighbours::presented};
use crate::{body::BodyReader, metrics::Outcome};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderValue, WWW_AUTHENTICATE},
    },
    web::{Data, Payload},
};

/// Any path that is none of ours.
pub async fn unknown_operation(payload: Payload, bodies: Data<BodyReader>) -> HttpResponse {
    let message = "The requested operation is not recognized by the service.";
    refuse(StatusCode::NOT_FOUND, message, payload, &bodies).await
}

/// A method that a path of ours does not have.
pub async fn wrong_method(
    request: HttpRequest,
    payload: Payload,
    bodies: Data<BodyReader>,
) -> HttpResponse {
    let message = format!("The requested operation does not allow {}.", request.method());
    refuse(StatusCode::METHOD_NOT_ALLOWED, &message, payload, &bodies).await
}

/// What a browser sends on behalf of a page.
pub async fn page(payload: Payload, bodies: Data<BodyReader>) -> HttpResponse {
    denied("Requests of web pages are not taken.", payload, &bodies).await
}

/// What comes under a name that is not this machine's.
pub async fn foreign_host(payload: Payload, bodies: Data<BodyReader>) -> HttpResponse {
    let message =
        "This router serves its own machine alone: reach it by an address, or as localhost.";
    denied(message, payload, &bodies).await
}

/// Who calls what is for the cluster alone, and does not show its token.
pub async fn stranger(
    request: HttpRequest,
    mut payload: Payload,
    bodies: Data<BodyReader>,
) -> HttpResponse {
    let error = ApiError::untrusted(presented(request.headers()).fault());
    bodies.drain(&mut payload).await;
    let mut response = error.into_response(&new_request_id());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

async fn denied(message: &str, mut payload: Payload, bodies: &BodyReader) -> HttpResponse {
    bodies.drain(&mut payload).await;
    ApiError::forbidden(message).into_response(&new_request_id())
}

async fn refuse(
    status: StatusCode,
    message: &str,
    mut payload: Payload,
    bodies: &BodyReader,
) -> HttpResponse {
    bodies.drain(&mut payload).await;
    let code = "UnknownOperationException";
    let error = ApiError::new(status, code, Outcome::ClientError, message);
    error.into_response(&new_request_id())
}
