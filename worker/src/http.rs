//! The worker's HTTP face: one line per route.

mod body;
mod contract;
mod error;
mod head;
mod health;
mod invocations;
mod operator;
mod pages;
mod warm;

pub use body::Bodies;

use crate::{
    actors::{evictor::Evictor, instance::Instance, model_cache::ModelCache},
    config::HttpConfig,
    contract::ContractModels,
    metrics::Metrics,
    runtime::backend::Backend,
    trust,
};
use actix_web::{
    HttpRequest, HttpResponse,
    guard::fn_guard,
    http::{
        Method,
        header::{HeaderValue, WWW_AUTHENTICATE},
    },
    web,
};
use contract::{api, failure};
use prometheus_client::registry::Registry;
use shared::{api::error::ErrorKind, token::ClusterToken};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

/// What the handlers need. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Face {
    pub cache: ModelCache,
    pub evictor: Evictor,
    pub contract: ContractModels,
    /// What runs the models, if not this worker.
    pub backend: Option<Backend>,
    pub instance: Instance,
    pub metrics: Metrics,
    pub registry: Arc<Registry>,
    pub config: HttpConfig,
    pub bodies: Bodies,
    /// What callers must show; `None`: they need not.
    pub token: Option<ClusterToken>,
    /// Whether it is for this machine alone, and whoever is on it need show nothing.
    pub is_local: bool,
    /// Whether `POST /invocations` may name any artifact.
    pub serves_by_address: bool,
    /// Set when the instance takes nothing new.
    pub is_draining: Arc<AtomicBool>,
    /// Invocations between their first byte and their answer.
    pub n_in_flight: Arc<AtomicUsize>,
}

/// Adds the routes of one worker to an actix-web application.
pub fn routes(face: &Face, app: &mut web::ServiceConfig) {
    pages::refuse(face.is_local, app);
    app.app_data(web::Data::new(face.clone())).route("/ping", web::route().to(health::ping));
    if let Some(token) = face.token.clone() {
        // Before every other route, so that none is forgotten.
        let of_strangers =
            web::scope("").guard(fn_guard(move |ctx| trust::is_stranger(&token, ctx)));
        app.service(of_strangers.default_service(web::to(stranger)));
    }
    app.route("/metrics", web::get().to(health::metrics))
        .route("/invocations", web::post().to(invocations::by_address_or_name))
        .configure(contract_routes)
        .service(
            web::resource("/manifold/v1/models")
                .get(operator::list)
                .delete(operator::unload_prefix)
                .default_service(web::to(method_not_allowed)),
        )
        .service(
            web::resource("/manifold/v1/warm")
                .post(warm::warm)
                .default_service(web::to(method_not_allowed)),
        )
        .service(
            web::resource("/manifold/v1/budget")
                .put(operator::set_budget)
                .default_service(web::to(method_not_allowed)),
        )
        .route("/{name}/predict", web::route().to(invocations::by_name))
        .default_service(web::to(async || failure::no_route()));
}

/// The container contract.
fn contract_routes(app: &mut web::ServiceConfig) {
    let no_method = || web::to(async || failure::no_method());
    app.service(
        web::resource("/models")
            .get(contract::list)
            .post(contract::load)
            .default_service(no_method()),
    )
    .service(
        web::resource("/models/{name}")
            .get(contract::get)
            .put(contract::scale)
            .delete(contract::unload)
            .default_service(no_method()),
    )
    .route("/models/{name}/invoke", web::route().to(invocations::by_name))
    .route("/predictions/{name}", web::method(Method::OPTIONS).to(api::describe))
    .route("/predictions/{name}", web::route().to(invocations::by_name))
    .service(web::resource("/api-description").get(api::describe).default_service(no_method()))
    .service(
        web::resource("/")
            .route(web::method(Method::OPTIONS).to(api::describe))
            .default_service(no_method()),
    );
}

async fn stranger(request: HttpRequest) -> HttpResponse {
    let fault = trust::presented(request.headers()).fault();
    let mut response = error::response(ErrorKind::Untrusted, &fault.to_string());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    invocations::saying_whose(response, &request)
}

async fn method_not_allowed() -> HttpResponse {
    error::method_not_allowed()
}
