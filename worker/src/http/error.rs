//! The one place where an error becomes a status.

use crate::{
    actors::{model_cache::AcquireError, replica::InvokeError},
    contract::ContractError,
    runtime::RuntimeError,
};
use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use shared::api::{
    error::{ErrorBody, ErrorKind},
    invocation::ERROR_KIND,
};

/// Why a call was not answered as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    BadRequest(String),
    #[error("this worker serves no artifacts by address; see --allow-invocations-by-address")]
    ByAddressForbidden,
    #[error("the instance is stopping")]
    Draining,
    #[error("the model is still loading; the load goes on")]
    StillLoading,
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the request body did not arrive in time")]
    SlowBody,
    #[error("too many request bodies are held at once")]
    BodiesFull,
    #[error("the model is still in use; it is unloaded afterwards")]
    StillInUse,
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error(transparent)]
    Invoke(#[from] InvokeError),
    #[error(transparent)]
    Contract(#[from] ContractError),
}

impl HttpError {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::BadRequest(_) | Self::TooLarge(_) | Self::SlowBody => ErrorKind::BadRequest,
            Self::ByAddressForbidden => ErrorKind::Forbidden,
            Self::Draining => ErrorKind::Draining,
            Self::StillLoading => ErrorKind::StillLoading,
            Self::StillInUse => ErrorKind::TimedOut,
            Self::BodiesFull => ErrorKind::Overloaded,
            Self::Acquire(error) => error.kind(),
            Self::Invoke(error) => error.kind(),
            Self::Contract(error) => error.kind(),
        }
    }
}

impl ResponseError for HttpError {
    fn error_response(&self) -> HttpResponse {
        answer(status_of(self), self.kind().as_str(), &self.to_string())
    }
}

/// The status of an error: its kind's, but for what HTTP or a handler says more exactly.
pub(super) fn status_of(error: &HttpError) -> StatusCode {
    match error {
        HttpError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        HttpError::SlowBody => StatusCode::REQUEST_TIMEOUT,
        // What a handler wants its client to be told.
        HttpError::Invoke(InvokeError::Runtime(RuntimeError::Handler { status, .. })) => {
            own_status(*status)
        }
        error => kind_status(error.kind()),
    }
}

/// A handler's status, if HTTP has it and it is one of an error.
fn own_status(status: u16) -> StatusCode {
    let status = StatusCode::from_u16(status).ok();
    let is_error = |it: &StatusCode| it.is_client_error() || it.is_server_error();
    status.filter(is_error).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Builds the answer that every error of the worker has.
pub(super) fn response(kind: ErrorKind, message: &str) -> HttpResponse {
    answer(kind_status(kind), kind.as_str(), message)
}

fn kind_status(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(kind.status()).expect("every kind has a valid status")
}

/// Nothing that a router does leads here, so it is no [`ErrorKind`].
pub(super) fn method_not_allowed() -> HttpResponse {
    let message = "the method is not allowed here";
    answer(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}

fn answer(status: StatusCode, kind: &str, message: &str) -> HttpResponse {
    let code = status.as_u16();
    let body = ErrorBody { code, kind: kind.to_owned(), message: message.to_owned() };
    HttpResponse::build(status).insert_header((ERROR_KIND, kind)).json(body)
}
