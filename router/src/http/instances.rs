//! Heartbeats and goodbyes of workers; the list of instances for operators.

use super::{error::ApiError, invocations::new_request_id};
use crate::{
    actors::membership::{Membership, RegisterError},
    body::{BodyError, BodyReader},
    config::BodyConfig,
    policy::roster::Refused,
};
use actix_web::{
    HttpResponse,
    web::{Data, Path, Payload},
};
use prometheus_client::metrics::gauge::Gauge;
use shared::{
    api::membership::{Heartbeat, Lease},
    id::{InstanceId, InvalidName},
};

/// A heartbeat is half a kilobyte; whatever is a hundred times larger is none.
const MAX_HEARTBEAT_BYTES: u64 = 64 * 1024;

/// Heartbeats that are read at the same time.
const MAX_HEARTBEATS: u64 = 256;

/// Takes heartbeats. Their bodies have a budget of their own: were it spent on invocations,
/// instances would expire under load.
#[derive(Debug)]
pub struct Registrar {
    membership: Membership,
    bodies: BodyReader,
}

impl Registrar {
    pub fn new(membership: Membership, bodies: BodyConfig) -> Self {
        let max_bytes = MAX_HEARTBEAT_BYTES;
        let budget_bytes = MAX_HEARTBEAT_BYTES * MAX_HEARTBEATS;
        let bodies = BodyConfig { max_bytes, budget_bytes, ..bodies };
        Self { membership, bodies: BodyReader::new(bodies, Gauge::default()) }
    }
}

/// `PUT /manifold/v1/instances/{instance}`
pub async fn heartbeat(
    instance: Path<String>,
    mut payload: Payload,
    registrar: Data<Registrar>,
) -> HttpResponse {
    match registrar.register(instance.into_inner(), &mut payload).await {
        Ok(lease) => HttpResponse::Ok().json(lease),
        Err(error) => {
            if error.is_worth_reading() {
                registrar.bodies.drain(&mut payload).await;
            }
            error.into_response(&new_request_id())
        }
    }
}

impl Registrar {
    async fn register(&self, instance: String, payload: &mut Payload) -> Result<Lease, ApiError> {
        let instance = parse_instance(instance)?;
        let body = self.bodies.read(payload, None).await.map_err(|error| match error {
            BodyError::BudgetSpent => ApiError::unavailable("Too many requests are in progress."),
            error => ApiError::validation(&format!("Heartbeat not taken: {error}")),
        })?;
        let heartbeat: Heartbeat = serde_json::from_slice(&body.bytes)
            .map_err(|error| ApiError::validation(&format!("Not a heartbeat: {error}")))?;
        if heartbeat.instance != instance {
            let message = "The heartbeat names another instance than the path.";
            return Err(ApiError::validation(message));
        }
        self.membership.heartbeat(heartbeat).await.map_err(|error| match error {
            RegisterError::Refused(Refused::Full) | RegisterError::Unavailable(_) => {
                ApiError::unavailable("This router takes no more instances now.")
            }
            RegisterError::Refused(error) => {
                ApiError::validation(&format!("Heartbeat refused: {error}."))
            }
        })
    }
}

/// `DELETE /manifold/v1/instances/{instance}`
pub async fn goodbye(instance: Path<String>, registrar: Data<Registrar>) -> HttpResponse {
    let instance = match parse_instance(instance.into_inner()) {
        Ok(instance) => instance,
        Err(error) => return error.into_response(&new_request_id()),
    };
    match registrar.membership.goodbye(instance).await {
        // A goodbye may come twice; what it wants is so either way.
        Ok(_) => HttpResponse::NoContent().finish(),
        Err(_) => stopping(),
    }
}

/// `GET /manifold/v1/instances`
pub async fn list(registrar: Data<Registrar>) -> HttpResponse {
    match registrar.membership.list().await {
        Ok(instances) => HttpResponse::Ok().json(instances),
        Err(_) => stopping(),
    }
}

fn parse_instance(instance: String) -> Result<InstanceId, ApiError> {
    instance.try_into().map_err(|error: InvalidName| ApiError::validation(&error.to_string()))
}

fn stopping() -> HttpResponse {
    ApiError::unavailable("This router is overloaded or stopping.").into_response(&new_request_id())
}
