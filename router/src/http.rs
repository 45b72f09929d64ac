//! The route table: one line per route.

pub mod front;
pub mod request;
pub mod invocations;
pub mod answer;
pub mod control;
pub mod response_stream;
pub mod async_invocations;
pub mod instances;
pub mod fleets;
pub mod health;
pub mod store;
pub mod query;
mod sts;
mod iam;
pub mod error;

use actix_web::{
    guard::fn_guard,
    web::{self, ServiceConfig, delete, get, post, put, resource, scope},
};

/// The routes of the router. What their handlers need is in the application's data.
pub fn routes(config: &mut ServiceConfig) {
    let wrong_method = || web::to(error::wrong_method);
    let route = |path| resource(path).default_service(wrong_method());
    // What a request was signed for comes before what its path looks like.
    let for_store = scope("").guard(fn_guard(front::is_for_store));
    let for_control_plane = scope("").guard(fn_guard(front::is_for_control_plane));
    let for_sts_or_iam = scope("").guard(fn_guard(front::is_query));
    config
        .service(for_store.default_service(web::to(store::pass)))
        .service(for_control_plane.default_service(web::to(control::call)))
        .service(for_sts_or_iam.default_service(web::to(query::call)))
        .service(
            route("/endpoints/{endpoint:[^/]*}/invocations").route(post().to(invocations::invoke)),
        )
        .service(
            route("/endpoints/{endpoint:[^/]*}/invocations-response-stream")
                .route(post().to(response_stream::invoke)),
        )
        .service(
            route("/endpoints/{endpoint:[^/]*}/async-invocations")
                .route(post().to(async_invocations::invoke)),
        )
        .service(route("/manifold/v1/instances").route(get().to(instances::list)))
        .service(
            route("/manifold/v1/instances/{instance}")
                .route(put().to(instances::heartbeat))
                .route(delete().to(instances::goodbye)),
        )
        .service(route("/manifold/v1/fleets").route(post().to(fleets::report)))
        .service(route("/ping").route(get().to(health::ping)))
        .service(route("/metrics").route(get().to(health::metrics)))
        .default_service(web::to(error::unknown_operation));
}
