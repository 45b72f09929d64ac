//! The route table: one line per route.

pub mod front;
pub mod request;
pub mod invocations;
pub mod answer;
pub mod control;
pub mod response_stream;
pub mod async_invocations;
pub mod instances;
pub mod handover;
pub mod fleets;
pub mod neighbours;
pub mod health;
pub mod store;
pub mod query;
mod sts;
mod iam;
pub mod error;
pub mod refusals;

use actix_web::{
    guard::{GuardContext, fn_guard},
    middleware::from_fn,
    web::{self, ServiceConfig, delete, get, post, put, resource, scope},
};
use shared::token::ClusterToken;

/// Which of the routes a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// All of them, to everybody.
    Open,
    /// All of them; what is for workers and launchers, to who shows the cluster's token, or if there
    /// is none to this machine alone.
    Guarded,
    /// What is for clients.
    Public,
    /// What is for workers and launchers.
    Internal,
}

/// The routes of a face. What their handlers need is in the application's data. `is_local`: whether
/// only this machine reaches the listener, so that no other name can be right. With a `token`, what is
/// for workers and launchers is for those who show it.
pub fn routes(
    face: Face,
    is_local: bool,
    token: Option<ClusterToken>,
) -> impl Fn(&mut ServiceConfig) {
    // With credentials, the name is signed.
    let is_name_checked = is_local && face == Face::Open;
    move |config| {
        if face != Face::Internal {
            // Nearly all that comes is this: the guard says that nothing of what follows is meant.
            let is_plain = move |ctx: &GuardContext<'_>| {
                front::is_plain_invocation(ctx)
                    && !(is_name_checked && front::is_for_foreign_host(ctx))
            };
            let plain = scope("").guard(fn_guard(is_plain));
            config.service(plain.default_service(web::to(invocations::invoke)));
        }
        // Before all else: whoever may come in does not come as a page, or under a stranger's name.
        let of_pages = scope("").guard(fn_guard(front::is_of_a_page));
        config.service(of_pages.default_service(web::to(refusals::page)));
        if is_name_checked {
            let foreign = scope("").guard(fn_guard(front::is_for_foreign_host));
            config.service(foreign.default_service(web::to(refusals::foreign_host)));
        }
        if face != Face::Internal {
            clients(config);
        }
        if face != Face::Public
            && let Some(token) = &token
        {
            strangers(config, token);
        }
        let route = |path| resource(path).default_service(web::to(refusals::wrong_method));
        // Their labels are names of endpoints, which strangers shall not learn.
        let metrics = || route("/metrics").route(get().to(health::metrics));
        match face {
            Face::Guarded if token.is_none() => {
                let guarded = scope("/manifold").wrap(from_fn(neighbours::only));
                config
                    .service(guarded.configure(neighbours))
                    .service(metrics().wrap(from_fn(neighbours::only)));
            }
            Face::Open | Face::Guarded | Face::Internal => {
                config.service(scope("/manifold").configure(neighbours)).service(metrics());
            }
            Face::Public => {}
        }
        config
            .service(route("/ping").route(get().to(health::ping)))
            .default_service(web::to(refusals::unknown_operation));
    }
}

/// What clients call, with SDKs of AWS.
fn clients(config: &mut ServiceConfig) {
    let route = |path| resource(path).default_service(web::to(refusals::wrong_method));
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
        );
}

/// Refuses whoever shows no token, whatever of [`neighbours`] or the metrics they ask for: also what is
/// added to them later.
fn strangers(config: &mut ServiceConfig, token: &ClusterToken) {
    let is_stranger = || {
        let token = token.clone();
        fn_guard(move |ctx| neighbours::is_stranger(&token, ctx))
    };
    let refuse = || web::to(refusals::stranger);
    config
        .service(scope("/manifold").guard(is_stranger()).default_service(refuse()))
        .service(resource("/metrics").guard(is_stranger()).default_service(refuse()));
}

/// What workers, launchers and operators call.
fn neighbours(config: &mut ServiceConfig) {
    let route = |path| resource(path).default_service(web::to(refusals::wrong_method));
    config
        .service(route("/v1/instances").route(get().to(instances::list)))
        .service(
            route("/v1/instances/{instance}")
                .route(put().to(instances::heartbeat))
                .route(delete().to(instances::goodbye)),
        )
        .service(route("/v1/instances/{instance}/rehome").route(post().to(handover::rehome)))
        .service(route("/v1/instances/{instance}/share").route(get().to(handover::share)))
        .service(route("/v1/fleets").route(post().to(fleets::report)));
}
