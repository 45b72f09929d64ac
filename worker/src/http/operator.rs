//! What routers and launchers ask of an instance besides invocations. Open to whoever may name any
//! artifact, and to nobody else: a platform that loads by name decides for itself.

use super::{Face, error::HttpError};
use crate::actors::model_cache::Below;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use shared::address::ModelDataUrl;
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::Instant;

/// Bytes. Less than a mebibyte is a mistake in the unit; more than a pebibyte no machine has.
const BUDGETS: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// `GET /manifold/v1/models`: what is resident, and how hot it is.
pub(super) async fn list(face: web::Data<Face>) -> Result<HttpResponse, HttpError> {
    require_by_address(&face)?;
    Ok(HttpResponse::Ok().json(face.cache.residents()))
}

/// A query as it stands there, because names in it may come again.
pub(super) type Pairs = Vec<(String, String)>;

#[derive(Debug, Serialize)]
struct Unloaded {
    n_unloaded: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetRequest {
    memory_budget_bytes: u64,
}

/// `DELETE /manifold/v1/models?prefix=P&except=Q…`: answers at once; who is in use goes when it is
/// idle.
pub(super) async fn unload_prefix(
    query: Result<web::Query<Pairs>, actix_web::Error>,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    require_by_address(&face)?;
    let query = query.map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let n_unloaded = face.cache.unload_below(below(query.into_inner())?).await;
    Ok(HttpResponse::Ok().json(Unloaded { n_unloaded }))
}

fn below(query: Pairs) -> Result<Below, HttpError> {
    let (mut prefixes, mut except) = (Vec::new(), Vec::new());
    for (name, url) in query {
        let kind = match name.as_str() {
            "prefix" => &mut prefixes,
            "except" => &mut except,
            _ => continue,
        };
        let malformed = |error| HttpError::BadRequest(format!("{name}: {error}"));
        ModelDataUrl::try_from(url.clone()).map_err(malformed)?;
        kind.push(url);
    }
    let [prefix] = <[String; 1]>::try_from(prefixes)
        .map_err(|_| HttpError::BadRequest("there must be one prefix".to_owned()))?;
    Ok(Below { prefix, except })
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

pub(super) fn require_by_address(face: &Face) -> Result<(), HttpError> {
    if face.serves_by_address { Ok(()) } else { Err(HttpError::ByAddressForbidden) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_prefix_and_any_number_of_exceptions() {
        let of = |query: &str| {
            let pairs = web::Query::<Pairs>::from_query(query).unwrap();
            below(pairs.into_inner()).ok()
        };
        let whole = of("prefix=s3://bkt/a/&except=s3://bkt/a/b%2Fc&except=s3://bkt/a/d").unwrap();
        assert_eq!(whole.except, ["s3://bkt/a/b/c", "s3://bkt/a/d"]);
        assert_eq!(of("prefix=s3://bkt/a").unwrap().except, [""; 0]);
        for bad in ["", "except=s3://bkt/a", "prefix=s3://bkt/&prefix=s3://bkt/b", "prefix=x"] {
            assert!(of(bad).is_none(), "{bad}");
        }
        assert!(of("prefix=s3://bkt/&except=").is_none(), "it would keep everything");
    }
}
