//! `/ping` and `/metrics`.

use crate::actors::{
    deployments::Deployments, endpoints::Endpoints, membership::Membership, placement::Placement,
};
use actix_web::{HttpResponse, http::header::CONTENT_TYPE, web::Data};
use prometheus_client::registry::Registry;

/// Whether this router should get traffic. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    pub endpoints: Endpoints,
    pub membership: Membership,
    pub placement: Placement,
    pub deployments: Deployments,
}

impl Health {
    /// Whether every actor lives: one that has died never comes back.
    pub fn is_alive(&self) -> bool {
        let Self { endpoints, membership, placement, deployments } = self;
        endpoints.is_alive()
            && membership.is_alive()
            && placement.is_alive()
            && deployments.is_alive()
    }
}

/// `GET /ping`
pub async fn ping(health: Data<Health>) -> HttpResponse {
    if health.is_alive() {
        HttpResponse::Ok().finish()
    } else {
        HttpResponse::ServiceUnavailable().finish()
    }
}

/// `GET /metrics`
pub async fn metrics(registry: Data<Registry>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, shared::metrics::CONTENT_TYPE))
        .body(shared::metrics::encode_text(&registry))
}
