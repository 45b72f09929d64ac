//! What routers and launchers ask of an instance besides invocations. Open to whoever may name any
//! artifact, and to nobody else: a platform that loads by name decides for itself.

use super::{Face, error::HttpError};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use shared::address::ModelDataUrl;
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::Instant;

/// Bytes. Less than a mebibyte is a mistake in the unit; more than a pebibyte no machine has.
const BUDGETS: RangeInclusive<u64> = 1 << 20..=1 << 50;

#[derive(Debug, Deserialize)]
pub(super) struct PrefixQuery {
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Unloaded {
    n_unloaded: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetRequest {
    memory_budget_bytes: u64,
}

/// `DELETE /manifold/v1/models?prefix=P`: answers at once; who is in use goes when it is idle.
pub(super) async fn unload_prefix(
    query: Result<web::Query<PrefixQuery>, actix_web::Error>,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    require_by_address(&face)?;
    let query = query.map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let PrefixQuery { prefix } = query.into_inner();
    let malformed = |error| HttpError::BadRequest(format!("prefix: {error}"));
    ModelDataUrl::try_from(prefix.clone()).map_err(malformed)?;
    let n_unloaded = face.cache.unload_prefix(prefix).await;
    Ok(HttpResponse::Ok().json(Unloaded { n_unloaded }))
}

/// `PUT /manifold/v1/budget`: takes the place of `--memory-budget`.
pub(super) async fn set_budget(
    request: HttpRequest,
    body: web::Payload,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    require_by_address(&face)?;
    let deadline = Instant::now() + Duration::from_secs(face.config.invocation_timeout_s);
    let body = face.bodies.read(&request, body, deadline).await?;
    let BudgetRequest { memory_budget_bytes } = serde_json::from_slice(&body)
        .map_err(|error| HttpError::BadRequest(format!("the body is not a budget: {error}")))?;
    if !BUDGETS.contains(&memory_budget_bytes) {
        let (least, most) = (BUDGETS.start(), BUDGETS.end());
        let message = format!("memory_budget_bytes must be from {least} to {most}");
        return Err(HttpError::BadRequest(message));
    }
    face.evictor.set_budget(memory_budget_bytes);
    Ok(HttpResponse::NoContent().finish())
}

fn require_by_address(face: &Face) -> Result<(), HttpError> {
    if face.serves_by_address { Ok(()) } else { Err(HttpError::ByAddressForbidden) }
}
