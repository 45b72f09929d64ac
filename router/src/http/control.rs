//! The control plane: `POST /` with `X-Amz-Target: SageMaker.…`, JSON 1.1.

use super::invocations::new_request_id;
use crate::{
    actors::endpoints::{Call, Endpoints, OperateError},
    auth::scope::CredentialScope,
    body::{BodyError, BodyReader},
    config::{BodyConfig, IdentityConfig},
    control::{Request, error::ControlError},
    headers,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web::{Data, Payload},
};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use shared::telemetry::Chain;
use tracing::{debug, error};

/// The longest call that makes sense: 15 containers with 32 KB of environment each, and as much
/// again for what they are called.
const MAX_BODY_BYTES: u64 = 1024 * 1024;

/// Calls that are read at the same time.
const MAX_CALLS: u64 = 64;

/// What precedes the operation in `X-Amz-Target`.
pub const TARGET_PREFIX: &str = "SageMaker.";

const JSON: &str = "application/x-amz-json-1.1";

/// What calls of the control plane need. One for all HTTP threads.
#[derive(Debug)]
pub struct ControlDesk {
    endpoints: Endpoints,
    bodies: BodyReader,
    identity: IdentityConfig,
}

impl ControlDesk {
    pub fn new(endpoints: Endpoints, bodies: BodyConfig, identity: IdentityConfig) -> Self {
        let (max_bytes, budget_bytes) = (MAX_BODY_BYTES, MAX_BODY_BYTES * MAX_CALLS);
        let bodies = BodyConfig { max_bytes, budget_bytes, ..bodies };
        Self { endpoints, bodies: BodyReader::new(bodies, Gauge::default()), identity }
    }

    async fn operate(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
    ) -> Result<Value, Failure> {
        let target = request.headers().get(&headers::TARGET).and_then(|it| it.to_str().ok());
        let operation = target.and_then(|it| it.strip_prefix(TARGET_PREFIX)).unwrap_or_default();
        let body = self.bodies.read(payload, None).await?;
        let scope = CredentialScope::of(request.headers(), request.query_string());
        let call = Call {
            request: Request::parse(operation, &body.bytes)?,
            region: scope.map_or_else(|| self.identity.region.clone(), |scope| scope.region),
            own_hosts: vec![request.connection_info().host().to_owned()],
        };
        Ok(self.endpoints.operate(call).await?)
    }
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Refused(#[from] ControlError),
    #[error(transparent)]
    Operate(#[from] OperateError),
}

/// `POST /`
pub async fn call(
    request: HttpRequest,
    mut payload: Payload,
    desk: Data<ControlDesk>,
) -> HttpResponse {
    let id = new_request_id();
    let (status, body) = match desk.operate(&request, &mut payload).await {
        Ok(Value::Null) => (StatusCode::OK, Value::Object(serde_json::Map::new())),
        Ok(output) => (StatusCode::OK, output),
        Err(failure) => {
            let (status, refusal) = refusal(&failure);
            if status.is_server_error() {
                error!(request_id = ?id, error = %Chain(&failure), "control plane failed");
            } else {
                debug!(request_id = ?id, error = %Chain(&failure), "control plane refused");
            }
            desk.bodies.drain(&mut payload).await;
            (status, refusal.body())
        }
    };
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, JSON))
        .insert_header((headers::REQUEST_ID.clone(), id))
        .body(body.to_string())
}

fn refusal(failure: &Failure) -> (StatusCode, ControlError) {
    let error = match failure {
        Failure::Refused(error) | Failure::Operate(OperateError::Refused(error)) => error.clone(),
        Failure::Operate(OperateError::Records(_) | OperateError::Unavailable(_)) => {
            ControlError::internal()
        }
        Failure::Body(error) => {
            ControlError::validation(format!("The request was not taken: {error}."))
        }
    };
    let status = StatusCode::from_u16(error.code.status());
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
}
