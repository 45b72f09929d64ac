//! `POST /manifold/v1/warm`: loads a model by its artifact's address without invoking it.
//!
//! For routers that want a model here before its invocations come: a further replica of a hot one, or
//! the share of an instance that leaves.

use super::{
    Face,
    error::HttpError,
    invocations::{address, deadline, has, on_deleted},
    operator::require_by_address,
};
use crate::{
    actors::model_cache::{AcquireError, Acquired},
    metrics::Warmed,
};
use actix_web::{HttpRequest, HttpResponse, web};
use shared::{
    api::invocation::{ARTIFACT, CACHE, CACHE_DISABLED, CACHE_SETTING, LOAD_MS},
    telemetry::Chain,
};
use std::sync::atomic::Ordering;
use tokio::time::timeout_at;
use tracing::debug;

/// Answers once the model is resident. One that is loading already is waited for, not loaded again.
pub(super) async fn warm(
    request: HttpRequest,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    require_by_address(&face)?;
    let outcome = acquire(&request, &face).await;
    let warmed = match &outcome {
        Ok(Acquired { waited: Some(_), .. }) => Warmed::Loaded,
        Ok(Acquired { waited: None, .. }) => Warmed::Resident,
        Err(_) => Warmed::Failed,
    };
    face.metrics.cache.warms.get_or_create(&[("outcome", warmed)]).inc();
    if let Err(error) = &outcome {
        debug!(artifact = ?request.headers().get(ARTIFACT), error = %Chain(error), "not warmed");
    }
    // The lease ends here: what nobody invokes is the first to go when room is short.
    let Acquired { waited, .. } = outcome?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE, if waited.is_some() { "miss" } else { "hit" }));
    if let Some(waited) = waited {
        response.insert_header((LOAD_MS, waited.as_millis().to_string()));
    }
    Ok(response.finish())
}

async fn acquire(request: &HttpRequest, face: &Face) -> Result<Acquired, HttpError> {
    if face.is_draining.load(Ordering::SeqCst) {
        return Err(HttpError::Draining);
    }
    let deadline = deadline(request, face)?;
    let (address, on_deleted) = (address(request)?, on_deleted(request)?);
    if has(request, CACHE_SETTING, CACHE_DISABLED)? {
        let message =
            format!("header `{CACHE_SETTING}`: a model that shall not stay is not warmed");
        return Err(HttpError::BadRequest(message));
    }
    let acquiring = timeout_at(deadline, face.cache.acquire_as(&address, on_deleted)).await;
    let acquired: Result<_, AcquireError> = acquiring.map_err(|_| HttpError::StillLoading)?;
    Ok(acquired?)
}
