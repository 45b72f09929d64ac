//! Heartbeats and goodbyes of workers; the list of instances for operators.

use super::{error::ApiError, invocations::new_request_id};
use crate::{
    actors::membership::{Membership, RegisterError},
    body::{BodyError, BodyReader},
    config::{BodyConfig, MembershipConfig},
    policy::roster::Refused,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};
use prometheus_client::metrics::gauge::Gauge;
use shared::{
    api::membership::{Heartbeat, Lease, MAX_HOT},
    id::{InstanceId, InvalidName},
};
use std::net::IpAddr;

/// A heartbeat is half a kilobyte, and whatever it says of hot models: each with the longest key
/// that S3 allows, escaped.
const MAX_HEARTBEAT_BYTES: u64 = 4096 + MAX_HOT as u64 * 2304;

/// Heartbeats that are read at the same time.
const MAX_HEARTBEATS: u64 = 256;

/// Takes heartbeats. Their bodies have a budget of their own: were it spent on invocations,
/// instances would expire under load.
#[derive(Debug)]
pub struct Registrar {
    membership: Membership,
    bodies: BodyReader,
    allow_foreign_addresses: bool,
}

impl Registrar {
    pub fn new(membership: Membership, config: MembershipConfig, bodies: BodyConfig) -> Self {
        let MembershipConfig { allow_foreign_addresses, .. } = config;
        let max_bytes = MAX_HEARTBEAT_BYTES;
        let budget_bytes = MAX_HEARTBEAT_BYTES * MAX_HEARTBEATS;
        let bodies = BodyConfig { max_bytes, budget_bytes, ..bodies };
        let bodies = BodyReader::new(bodies, Gauge::default());
        Self { membership, bodies, allow_foreign_addresses }
    }

    /// Reads what is as small as a heartbeat.
    pub fn bodies(&self) -> &BodyReader {
        &self.bodies
    }
}

/// `PUT /manifold/v1/instances/{instance}`
pub async fn heartbeat(
    request: HttpRequest,
    instance: Path<String>,
    mut payload: Payload,
    registrar: Data<Registrar>,
) -> HttpResponse {
    let from = request.peer_addr().map(|peer| peer.ip());
    match registrar.register(instance.into_inner(), from, &mut payload).await {
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
    async fn register(
        &self,
        instance: String,
        from: Option<IpAddr>,
        payload: &mut Payload,
    ) -> Result<Lease, ApiError> {
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
        if heartbeat.hot.len() > MAX_HOT {
            let message = format!("The heartbeat names more than {MAX_HOT} hot models.");
            return Err(ApiError::validation(&message));
        }
        self.check_address(heartbeat.address.ip(), from)?;
        self.membership.heartbeat(heartbeat).await.map_err(|error| match error {
            RegisterError::Refused(Refused::Full) | RegisterError::Unavailable(_) => {
                ApiError::unavailable("This router takes no more instances now.")
            }
            RegisterError::Refused(error) => {
                ApiError::validation(&format!("Heartbeat refused: {error}."))
            }
        })
    }

    /// Whoever registers an address makes this router send requests there, with the bodies of
    /// clients: hence only one's own.
    fn check_address(&self, address: IpAddr, from: Option<IpAddr>) -> Result<(), ApiError> {
        if self.allow_foreign_addresses
            || from.is_some_and(|from| from.to_canonical() == address.to_canonical())
        {
            return Ok(());
        }
        let from = from.map_or_else(|| "nowhere".to_owned(), |from| from.to_string());
        Err(ApiError::forbidden(&format!(
            "The heartbeat comes from {from} but registers {address}. Where addresses are \
             translated, the router needs --allow-foreign-addresses."
        )))
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
