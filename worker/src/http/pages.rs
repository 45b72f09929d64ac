//! Refuses what a browser sends for a page, which could otherwise load and invoke models of whoever looks
//! at it.

use super::error;
use actix_web::{
    HttpResponse,
    guard::{GuardContext, fn_guard},
    http::header::{HOST, HeaderValue, ORIGIN},
    web,
};
use shared::{api::error::ErrorKind, page};

/// Adds the refusals, before every other route. `is_local`: whether only this machine reaches the
/// listener, so that no other name can be right. A platform's containers are reached under its names.
pub(super) fn refuse(is_local: bool, app: &mut web::ServiceConfig) {
    let of_pages = web::scope("").guard(fn_guard(is_of_a_page));
    app.service(of_pages.default_service(web::to(of_a_page)));
    if is_local {
        let foreign = web::scope("").guard(fn_guard(is_for_foreign_host));
        app.service(foreign.default_service(web::to(for_foreign_host)));
    }
}

fn is_of_a_page(ctx: &GuardContext<'_>) -> bool {
    let headers = &ctx.head().headers;
    let site = headers.get(page::SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    page::is_sender(headers.contains_key(ORIGIN), site)
}

fn is_for_foreign_host(ctx: &GuardContext<'_>) -> bool {
    !page::names_this_machine(ctx.head().headers.get(HOST).map(HeaderValue::as_bytes))
}

async fn of_a_page() -> HttpResponse {
    error::response(ErrorKind::Forbidden, "requests of web pages are not taken")
}

async fn for_foreign_host() -> HttpResponse {
    let message =
        "this worker serves its own machine alone: reach it by an address, or as localhost";
    error::response(ErrorKind::Forbidden, message)
}
