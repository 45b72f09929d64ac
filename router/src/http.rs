//! The route table: one line per route.

pub mod request;
pub mod invocations;
pub mod answer;
pub mod instances;
pub mod neighbours;
pub mod health;
pub mod error;

use actix_web::{
    middleware::from_fn,
    web::{self, ServiceConfig, delete, get, post, put, resource, scope},
};

/// Which of the routes a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// All of them, to everybody.
    Open,
    /// All of them; what is for workers and launchers, to this machine alone.
    Guarded,
    /// What is for clients.
    Public,
    /// What is for workers and launchers.
    Internal,
}

/// The routes of a face. What their handlers need is in the application's data.
pub fn routes(face: Face) -> impl Fn(&mut ServiceConfig) {
    move |config| {
        if face != Face::Internal {
            clients(config);
        }
        match face {
            Face::Open | Face::Internal => {
                config.service(scope("/manifold").configure(neighbours));
            }
            Face::Guarded => {
                let guarded = scope("/manifold").wrap(from_fn(neighbours::only));
                config.service(guarded.configure(neighbours));
            }
            Face::Public => {}
        }
        let route = |path| resource(path).default_service(web::to(error::wrong_method));
        config
            .service(route("/ping").route(get().to(health::ping)))
            .service(route("/metrics").route(get().to(health::metrics)))
            .default_service(web::to(error::unknown_operation));
    }
}

/// What clients call, with SDKs of AWS.
fn clients(config: &mut ServiceConfig) {
    let route = |path| resource(path).default_service(web::to(error::wrong_method));
    config.service(
        route("/endpoints/{endpoint:[^/]*}/invocations").route(post().to(invocations::invoke)),
    );
}

/// What workers, launchers and operators call.
fn neighbours(config: &mut ServiceConfig) {
    let route = |path| resource(path).default_service(web::to(error::wrong_method));
    config.service(route("/v1/instances").route(get().to(instances::list))).service(
        route("/v1/instances/{instance}")
            .route(put().to(instances::heartbeat))
            .route(delete().to(instances::goodbye)),
    );
}
