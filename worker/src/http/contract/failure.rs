//! Errors of the container contract, in the words of Multi Model Server: platforms and programs tell them
//! apart by status and `type`.

use crate::{
    actors::model_cache::AcquireError,
    contract::ContractError,
    http::error::{HttpError, status_of},
};
use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use shared::api::{error::ErrorKind, invocation::ERROR_KIND};
use std::fmt;

/// An error of the container contract.
#[derive(Clone, Debug)]
pub(in crate::http) struct Failure {
    error: HttpError,
    /// What Multi Model Server says before the cause, if anything.
    prefix: &'static str,
    /// Its status, where it is not that of the error's kind.
    status: Option<StatusCode>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: u16,
    r#type: &'a str,
    message: String,
}

impl Failure {
    /// Of a load: what is wrong with the model itself says that it did not start.
    pub(super) fn of_load(error: ContractError) -> Self {
        let is_model_s = matches!(
            error,
            ContractError::Acquire(AcquireError::Runtime(_)) | ContractError::Scale(_)
        );
        let prefix = if is_model_s { "Failed to start workers: " } else { "" };
        Self { prefix, ..HttpError::from(error).into() }
    }

    /// Of an unload that takes too long.
    pub(super) fn still_in_use() -> Self {
        let (prefix, status) =
            ("Timed out while cleaning resources: ", Some(StatusCode::REQUEST_TIMEOUT));
        Self { error: HttpError::StillInUse, prefix, status }
    }

    fn message(&self) -> String {
        format!("{}{}", self.prefix, self.error)
    }

    fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| status_of(&self.error))
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self { error, prefix: "", status: None }
    }
}

impl From<ContractError> for Failure {
    fn from(error: ContractError) -> Self {
        HttpError::from(error).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl ResponseError for Failure {
    fn error_response(&self) -> HttpResponse {
        let (kind, status) = (self.error.kind(), self.status());
        let kind_text = kind.as_str();
        answer(status, kind_text, type_of(kind, status), self.message())
    }
}

/// No such path.
pub(in crate::http) fn no_route() -> HttpResponse {
    let message = "Requested resource is not found, please refer to API document.";
    let kind = ErrorKind::ModelNotFound.as_str();
    answer(StatusCode::NOT_FOUND, kind, "ResourceNotFoundException", message.to_owned())
}

/// A path that has no such method.
pub(in crate::http) fn no_method() -> HttpResponse {
    let message = "Requested method is not allowed, please refer to API document.".to_owned();
    let kind = "method-not-allowed";
    answer(StatusCode::METHOD_NOT_ALLOWED, kind, "MethodNotAllowedException", message)
}

fn answer(status: StatusCode, kind: &str, r#type: &str, message: String) -> HttpResponse {
    let body = Body { code: status.as_u16(), r#type, message };
    HttpResponse::build(status).insert_header((ERROR_KIND, kind)).json(body)
}

/// The name that Multi Model Server has for an error, or the nearest one.
fn type_of(kind: ErrorKind, status: StatusCode) -> &'static str {
    if status == StatusCode::REQUEST_TIMEOUT {
        return "RequestTimeoutException";
    }
    match kind {
        ErrorKind::BadRequest | ErrorKind::Untrusted | ErrorKind::Forbidden => {
            "BadRequestException"
        }
        ErrorKind::ModelNotFound | ErrorKind::ArtifactNotFound => "ModelNotFoundException",
        ErrorKind::AlreadyLoaded => "ConflictStatusException",
        ErrorKind::BadArtifact => "InvalidModelException",
        ErrorKind::StoreUnavailable => "DownloadModelException",
        ErrorKind::StillLoading | ErrorKind::Overloaded | ErrorKind::Draining => {
            "ServiceUnavailableException"
        }
        ErrorKind::InsufficientMemory
        | ErrorKind::BadInput
        | ErrorKind::UnsupportedMediaType
        | ErrorKind::NotAcceptable
        | ErrorKind::ModelFailed
        | ErrorKind::TimedOut => "InternalServerException",
    }
}
