//! The control plane: `POST` with `X-Amz-Target: SageMaker.…`.

pub mod wire;

use super::invocations::new_request_id;
use crate::{
    actors::endpoints::{Call, Endpoints, OperateError},
    auth::{Gate, api::Api, error::AuthError, scope::CredentialScope},
    body::{BodyError, BodyReader},
    config::{BodyConfig, Config, IdentityConfig},
    control::{Request, error::ControlError, model_data_urls},
    objects::Objects,
    records::RecordsError,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::HOST,
    web::{Data, Payload},
};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use shared::telemetry::Chain;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{debug, error, warn};

/// The longest call that makes sense: 15 containers with 32 KB of environment each, and as much
/// again for what they are called.
const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// Twice the longest name of a region.
const MAX_REGION_CHARS: usize = 32;

/// How long the store may take to say whether there are any models.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// Calls that are read at the same time.
const MAX_CALLS: u64 = 64;

/// What calls of the control plane need. One for all HTTP threads.
#[derive(Debug)]
pub struct ControlDesk {
    endpoints: Endpoints,
    bodies: BodyReader,
    identity: IdentityConfig,
    gate: Gate,
    /// Where `CreateModel` looks whether there are any models; `None`: it does not.
    objects: Option<Objects>,
}

impl ControlDesk {
    pub fn new(
        endpoints: Endpoints,
        objects: Option<Objects>,
        gate: Gate,
        config: &Config,
    ) -> Self {
        let (max_bytes, budget_bytes) = (MAX_BODY_BYTES, MAX_BODY_BYTES * MAX_CALLS);
        let bodies = BodyConfig { max_bytes, budget_bytes, ..config.body };
        let bodies = BodyReader::new(bodies, Gauge::default());
        Self { endpoints, bodies, identity: config.identity.clone(), gate, objects }
    }

    async fn operate(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
    ) -> Result<Value, Failure> {
        let visitor = self.gate.admit(request, Api::Control)?;
        let operation = wire::operation(request.headers())?;
        let body = self.bodies.read(payload, None).await?;
        let caller = visitor.identify(&body.bytes)?;
        let account_id = &self.identity.account_id;
        let all = || format!("arn:aws:sagemaker:*:{account_id}:*");
        caller.may(&format!("sagemaker:{operation}"), None, all)?;
        if operation == "CreateEndpointConfig" && mentions(&body.bytes, "AsyncInferenceConfig") {
            // The router writes there with its own rights, so the caller must have them.
            caller.may("s3:PutObject", None, || "arn:aws:s3:::*".to_owned())?;
        }
        let scope = CredentialScope::of(request.headers(), request.query_string());
        let call = Call {
            request: Request::parse(operation, &body.bytes)?,
            region: scope
                .map(|scope| scope.region)
                .filter(|region| is_region(region))
                .unwrap_or_else(|| self.identity.region.clone()),
            own_hosts: host(request).into_iter().collect(),
        };
        if call.request.operation() == "CreateModel" {
            self.check_model_data(&call).await?;
        }
        Ok(self.endpoints.operate(call).await?)
    }
}

impl ControlDesk {
    /// Refuses a model of which nothing lies where it says, as SageMaker does.
    async fn check_model_data(&self, call: &Call) -> Result<(), ControlError> {
        let Some(objects) = &self.objects else { return Ok(()) };
        for data in model_data_urls(call.request.input(), &call.own_hosts)? {
            let url = String::from(data.url);
            let Some((bucket, prefix)) =
                url.strip_prefix("s3://").and_then(|it| it.split_once('/'))
            else {
                continue;
            };
            match timeout(STORE_PATIENCE, objects.has_objects(bucket, prefix)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err(ControlError::no_model_data(&url)),
                // It may be there: only a definite answer refuses a model.
                Ok(Err(error)) => warn!(url, error = %Chain(&error), "model data not looked for"),
                Err(_) => warn!(url, "model data not looked for: the store did not answer in time"),
            }
        }
        Ok(())
    }
}

/// Whether a body has a member of this name, or says it anywhere else.
fn mentions(body: &[u8], name: &str) -> bool {
    body.windows(name.len()).any(|it| it == name.as_bytes())
}

/// What may stand in an ARN: without credentials, anybody writes what they like.
fn is_region(region: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    region.len() <= MAX_REGION_CHARS && region.bytes().all(is_legal)
}

/// Under which name the caller reaches us. Not what a proxy says of it: that is not signed.
pub(super) fn host(request: &HttpRequest) -> Option<String> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    host.map(str::to_owned).or_else(|| request.uri().authority().map(ToString::to_string))
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Refused(#[from] ControlError),
    #[error(transparent)]
    Operate(#[from] OperateError),
}

/// What a client is told that was not refused and not served: to try again where that may help.
fn of_failure(error: &OperateError) -> ControlError {
    let OperateError::Records(error) = error else { return ControlError::internal() };
    ControlError::unavailable(match error {
        RecordsError::Etcd(_) | RecordsError::Unreachable => {
            "The cluster's etcd does not answer, so nothing can be changed now. Please try again."
        }
        RecordsError::Lost => {
            "The cluster's etcd has lost its records and is being given them back. Please try again."
        }
        RecordsError::Conflict => "Too many changes at the same time. Please try again.",
        RecordsError::Unknown => {
            "The cluster's etcd did not say whether the change was made. Please look before you try \
             again."
        }
        RecordsError::Open(..) | RecordsError::Storage(_) | RecordsError::Malformed { .. } => {
            return ControlError::internal();
        }
    })
}

/// `POST`, on any path
pub async fn call(
    request: HttpRequest,
    mut payload: Payload,
    desk: Data<ControlDesk>,
) -> HttpResponse {
    let id = new_request_id();
    let failure = match desk.operate(&request, &mut payload).await {
        Ok(output) => return wire::answer(&output, &id),
        Err(failure) => failure,
    };
    desk.bodies.drain(&mut payload).await;
    match &failure {
        Failure::Auth(error) => wire::auth_refusal(error, &id),
        Failure::Body(error) => wire::body_refusal(error, &id),
        Failure::Refused(error) | Failure::Operate(OperateError::Refused(error)) => {
            debug!(request_id = ?id, %error, "control plane refused");
            wire::refusal(error, &id)
        }
        Failure::Operate(error @ (OperateError::Records(_) | OperateError::Unavailable(_))) => {
            error!(request_id = ?id, error = %Chain(error), "control plane failed");
            wire::refusal(&of_failure(error), &id)
        }
    }
}
