//! The one place where an error becomes a status: names, texts and bodies of SageMaker's runtime
//! API. The table is in `docs/api.md`.

use super::request::InvalidRequest;
use crate::{
    actors::endpoints::PickError,
    async_invocations::AcceptError,
    auth::error::AuthError,
    body::BodyError,
    config::{DispatchConfig, IdentityConfig},
    dispatch::InvokeError,
    headers,
    instance_client::{InstanceError, Refusal},
    metrics::Outcome,
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header::HeaderValue},
};
use serde::Serialize;
use shared::{address::ArtifactAddress, api::error::ErrorKind, id::EndpointName, token::Untrusted};
use std::borrow::Cow;

/// SageMaker's bound for `Message` (API model of 2017-05-13).
const MAX_MESSAGE_CHARS: usize = 2048;

/// Room for a stack trace; the API model has no bound here.
const MAX_ORIGINAL_CHARS: usize = 8192;

const VALIDATION: &str = "ValidationError";
const UNAVAILABLE: &str = "ServiceUnavailable";

const TIMED_OUT: &str = "Your invocation timed out while waiting for a response from container \
    primary. Review the latency metrics for each container in Amazon CloudWatch, resolve the \
    issue, and try again.";

/// What an invocation was about.
#[derive(Debug)]
pub struct Subject<'a> {
    pub endpoint: EndpointName,
    pub artifact: ArtifactAddress,
    pub config: &'a DispatchConfig,
}

/// An error of the runtime API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    outcome: Outcome,
    retry_after_ms: Option<u64>,
    body: ErrorBody,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    message: String,
    /// Boxed: it is rare, and makes every other error large.
    #[serde(flatten)]
    model: Option<Box<ModelFailure>>,
}

/// What a `ModelError` says beyond its message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ModelFailure {
    error_code: &'static str,
    log_stream_arn: String,
    original_message: String,
    original_status_code: u16,
}

impl ApiError {
    /// The caller is not known, or may not do this.
    pub fn of_auth(error: &AuthError) -> Self {
        Self::new(error.status(), error.code(), Outcome::ClientError, &error.to_string())
    }

    /// The request says something wrong, or not enough, outside its body.
    pub fn of_request(error: &InvalidRequest, endpoint: &str, id: &HeaderValue) -> Self {
        match error {
            InvalidRequest::NotMultiModel => Self::validation(&format!(
                "Endpoint {endpoint} is not a multi-model endpoint and does not support target \
                 model header."
            )),
            InvalidRequest::Address(error) => Self::validation(&format!(
                "1 validation error detected: Value at 'targetModel' failed to satisfy \
                 constraint: {error}"
            )),
            InvalidRequest::NoTargetModel => {
                let id = id.to_str().unwrap_or_default();
                Self::validation(&format!("Request {id} is missing a target model header."))
            }
            InvalidRequest::Name(_) | InvalidRequest::Member { .. } => {
                Self::validation(&error.to_string())
            }
        }
    }

    pub fn of_pick(error: &PickError, identity: &IdentityConfig) -> Self {
        let account = &identity.account_id;
        Self::validation(&match error {
            PickError::UnknownEndpoint(endpoint) => {
                format!("Endpoint {endpoint} of account {account} not found.")
            }
            PickError::NoVariant(endpoint) => {
                format!("Endpoint {endpoint} of account {account} has no variant with a weight.")
            }
            PickError::UnknownVariant(endpoint, variant) => {
                format!("Variant {variant} of endpoint {endpoint} of account {account} not found.")
            }
        })
    }

    /// An asynchronous invocation was not accepted.
    pub fn of_accept(error: &AcceptError, config: &DispatchConfig) -> Self {
        match error {
            AcceptError::Full => {
                let text = "The queue of asynchronous invocations is full. Please try again.";
                Self::unavailable(text).with_retry_after(config)
            }
            AcceptError::Records(_) => Self::internal(),
            AcceptError::Stopping => Self::busy(config),
        }
    }

    pub fn of_body(error: &BodyError, config: &DispatchConfig) -> Self {
        match error {
            BodyError::TooLarge(max_bytes) => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                let message = format!(
                    "1 validation error detected: Value at 'body' failed to satisfy constraint: \
                     Member must have length less than or equal to {max_bytes}"
                );
                Self::new(status, VALIDATION, Outcome::ClientError, &message)
            }
            BodyError::TooSlow => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeoutException",
                Outcome::ClientError,
                "Your socket connection to the server was not written to fast enough.",
            ),
            BodyError::BudgetSpent => Self::unavailable("Too many large requests are in progress.")
                .with_retry_after(config),
            BodyError::Broken(_) => Self::validation("The request body is incomplete."),
        }
    }

    pub fn of_invoke(
        error: &InvokeError,
        subject: &Subject<'_>,
        identity: &IdentityConfig,
    ) -> Self {
        match error {
            InvokeError::NoInstance => {
                Self::unavailable("No instance of the endpoint is in service.")
                    .with_retry_after(subject.config)
            }
            InvokeError::Busy(_) => Self::busy(subject.config),
            InvokeError::Deadly(_) => Self::no_response(subject, identity),
            InvokeError::Instance(error) => Self::of_instance(error, subject, identity),
        }
    }

    fn of_instance(
        error: &InstanceError,
        subject: &Subject<'_>,
        identity: &IdentityConfig,
    ) -> Self {
        let model = |status, original: &str| Self::model(status, original, subject, identity);
        match error {
            InstanceError::Connect(_) | InstanceError::NoSocket(_) => Self::busy(subject.config),
            InstanceError::Died(_)
            | InstanceError::Lost
            | InstanceError::Silent
            | InstanceError::Garbled(_) => Self::no_response(subject, identity),
            InstanceError::TimedOut => model(0, TIMED_OUT),
            InstanceError::TooLarge(n_bytes) => model(
                error.status(),
                &format!("The response of {n_bytes} bytes is too large and was not loaded."),
            ),
            InstanceError::Refused(refusal) => Self::of_refusal(refusal, subject, identity),
        }
    }

    fn of_refusal(refusal: &Refusal, subject: &Subject<'_>, identity: &IdentityConfig) -> Self {
        let Refusal { status, kind, message } = refusal;
        let Some(kind) = kind else {
            return Self::model(*status, message, subject, identity);
        };
        match kind {
            // To a client without the right to see a bucket, S3 itself does not tell the two.
            ErrorKind::ArtifactNotFound | ErrorKind::Forbidden => Self::no_artifact(subject),
            ErrorKind::BadArtifact
            | ErrorKind::BadInput
            | ErrorKind::UnsupportedMediaType
            | ErrorKind::NotAcceptable
            | ErrorKind::ModelFailed
            | ErrorKind::InsufficientMemory => Self::model(*status, message, subject, identity),
            ErrorKind::TimedOut => Self::model(0, TIMED_OUT, subject, identity),
            ErrorKind::StillLoading => Self::still_loading(subject.config),
            // A token is being exchanged, and the instance or we are late: clients cannot help it.
            ErrorKind::Untrusted
            | ErrorKind::StoreUnavailable
            | ErrorKind::Overloaded
            | ErrorKind::Draining => Self::busy(subject.config),
            // Invocations by address have none of these: one side has a bug.
            ErrorKind::BadRequest | ErrorKind::ModelNotFound | ErrorKind::AlreadyLoaded => {
                Self::internal()
            }
        }
    }

    fn no_response(subject: &Subject<'_>, identity: &IdentityConfig) -> Self {
        let text = format!(
            "Amazon SageMaker could not get a response from the {} endpoint. This can occur when \
             CPU or memory utilization is high. To check your utilization, see Amazon CloudWatch. \
             To fix this problem, use an instance type with more CPU capacity or memory.",
            subject.endpoint
        );
        Self::model(0, &text, subject, identity)
    }

    fn no_artifact(subject: &Subject<'_>) -> Self {
        let place = match &subject.artifact {
            ArtifactAddress::S3 { bucket, key } => format!("bucket: {bucket}, key: {key}"),
            ArtifactAddress::File { path } => format!("path: {}", path.display()),
        };
        Self::validation(&format!(
            "Failed to download model data({place}). Please ensure that there is an object \
             located at the URL and that the role passed to CreateModel has permissions to \
             download the object."
        ))
    }

    fn still_loading(config: &DispatchConfig) -> Self {
        let text = "The model is still being downloaded or loaded. Please try again.";
        if config.answer_model_not_ready {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let code = "ModelNotReadyException";
            return Self::new(status, code, Outcome::NotReady, text);
        }
        let error = Self { outcome: Outcome::NotReady, ..Self::unavailable(text) };
        error.with_retry_after(config)
    }

    fn busy(config: &DispatchConfig) -> Self {
        Self::unavailable("The service is unable to handle the request now. Please try again.")
            .with_retry_after(config)
    }

    /// A `ModelError`; `status` 0 means that there was no answer.
    fn model(
        status: u16,
        original: &str,
        subject: &Subject<'_>,
        identity: &IdentityConfig,
    ) -> Self {
        let IdentityConfig { region, account_id } = identity;
        let group = format!("/aws/sagemaker/Endpoints/{}", subject.endpoint);
        let is_client_error = (400..500).contains(&status);
        let who = if is_client_error { "client" } else { "server" };
        let before = format!("Received {who} error ({status}) from primary with message \"");
        let after = format!(
            "\". See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}\
             #logEventViewer:group={group} in account {account_id} for more information."
        );
        // Both are ASCII: the original text gives way, not where to look.
        let room = MAX_MESSAGE_CHARS - before.len() - after.len();
        let message = format!("{before}{}{after}", shortened(original, room));
        let error_code =
            if is_client_error { "CLIENT_ERROR_FROM_MODEL" } else { "INTERNAL_FAILURE_FROM_MODEL" };
        let failure = ModelFailure {
            error_code,
            log_stream_arn: format!("arn:aws:logs:{region}:{account_id}:log-group:{group}"),
            original_message: shortened(original, MAX_ORIGINAL_CHARS).into_owned(),
            original_status_code: status,
        };
        let status = StatusCode::FAILED_DEPENDENCY;
        let mut error = Self::new(status, "ModelError", Outcome::ModelError, &message);
        error.body.model = Some(Box::new(failure));
        error
    }

    /// The caller does not show the cluster's token.
    pub(super) fn untrusted(error: Untrusted) -> Self {
        let code = match error {
            Untrusted::Missing => "MissingAuthenticationTokenException",
            Untrusted::Wrong => "UnrecognizedClientException",
        };
        let status = StatusCode::UNAUTHORIZED;
        Self::new(status, code, Outcome::ClientError, &sentence(&error.to_string()))
    }

    /// What the caller asks for is not the caller's to ask.
    pub(super) fn forbidden(message: &str) -> Self {
        let code = "AccessDeniedException";
        Self::new(StatusCode::FORBIDDEN, code, Outcome::ClientError, message)
    }

    pub(super) fn validation(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, VALIDATION, Outcome::ClientError, message)
    }

    pub(super) fn unavailable(message: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, UNAVAILABLE, Outcome::Unavailable, message)
    }

    fn internal() -> Self {
        let text = "The request processing has failed because of an unknown error, exception or \
                    failure.";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "InternalFailure", Outcome::InternalFailure, text)
    }

    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        outcome: Outcome,
        message: &str,
    ) -> Self {
        let message = shortened(message, MAX_MESSAGE_CHARS).into_owned();
        let body = ErrorBody { message, model: None };
        Self { status, code, outcome, retry_after_ms: None, body }
    }

    fn with_retry_after(mut self, config: &DispatchConfig) -> Self {
        // A client that waits for nothing would spin.
        let retry_after_ms = config.retry_after.as_millis().max(1);
        self.retry_after_ms = Some(u64::try_from(retry_after_ms).unwrap_or(u64::MAX));
        self
    }

    /// The error for who reads it later, without its head.
    pub fn document(&self) -> Vec<u8> {
        let mut body = serde_json::to_value(&self.body).expect("text and numbers can be written");
        body["Code"] = self.code.into();
        body.to_string().into_bytes()
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the rest of the request's body should be read, so that the client sees this error.
    /// Not from a client that sends too slowly: that is what it is told.
    pub fn is_worth_reading(&self) -> bool {
        self.status != StatusCode::REQUEST_TIMEOUT
    }

    pub fn into_response(self, id: &HeaderValue) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response
            .insert_header((headers::REQUEST_ID.clone(), id.clone()))
            .insert_header((headers::ERROR_TYPE.clone(), self.code));
        if let Some(retry_after_ms) = self.retry_after_ms {
            response.insert_header((headers::RETRY_AFTER_MS.clone(), retry_after_ms));
        }
        response.json(self.body)
    }
}

/// Makes a sentence of an error's words.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

/// An error that no request of the runtime API has, in the same form.
pub fn document(code: &str, message: &str) -> Vec<u8> {
    serde_json::json!({ "Code": code, "Message": message }).to_string().into_bytes()
}

/// Returns at most `max_chars` characters of `text`.
fn shortened(text: &str, max_chars: usize) -> Cow<'_, str> {
    if text.chars().nth(max_chars).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

#[cfg(test)]
mod tests;
