//! The route table: one line per route.

pub mod request;
pub mod invocations;
pub mod answer;
pub mod control;
pub mod instances;
pub mod health;
pub mod error;

use actix_web::web::{self, ServiceConfig, delete, get, post, put, resource};

/// The routes of the router. What their handlers need is in the application's data.
pub fn routes(config: &mut ServiceConfig) {
    let wrong_method = || web::to(error::wrong_method);
    let route = |path| resource(path).default_service(wrong_method());
    config
        .service(
            route("/endpoints/{endpoint:[^/]*}/invocations").route(post().to(invocations::invoke)),
        )
        .service(route("/manifold/v1/instances").route(get().to(instances::list)))
        .service(
            route("/manifold/v1/instances/{instance}")
                .route(put().to(instances::heartbeat))
                .route(delete().to(instances::goodbye)),
        )
        .service(route("/ping").route(get().to(health::ping)))
        .service(route("/metrics").route(get().to(health::metrics)))
        .default_service(web::to(error::unknown_operation));
}
