//! `/models`: SageMaker's container contract for multi-model hosting (developer guide, "Build your
//! own container for multi-model endpoints"), in the words of Multi Model Server 1.1, whose parameters,
//! answers and errors its users' programs know. Requests are `snake_case`, answers `camelCase`.

mod answers;
pub(super) mod api;
pub(super) mod failure;
mod parameters;

use super::{Face, error::HttpError};
use crate::contract::{ContractModels, Registration, Workers};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use answers::{Described, Page, done};
use failure::Failure;
use parameters::Wanted;
use shared::telemetry::Chain;
use std::{num::NonZeroUsize, time::Duration};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// `GET /models?next_page_token=T&limit=N`: the token is how many names to pass over.
pub(super) async fn list(request: HttpRequest, face: web::Data<Face>) -> HttpResponse {
    let (offset, limit) = parameters::page(request.query_string());
    let (listed, has_more) = face.contract.list(offset, limit);
    HttpResponse::Ok().json(Page::new(listed, has_more.then_some(offset + limit)))
}

/// `POST /models`: answers when the model can serve, unless it shall not be waited for.
pub(super) async fn load(
    request: HttpRequest,
    body: web::Payload,
    face: web::Data<Face>,
) -> Result<HttpResponse, Failure> {
    let deadline = deadline(&face);
    let body = face.bodies.read(&request, body, deadline).await?;
    let wanted = parameters::load(&request, &body)?;
    let Wanted { registration, is_synchronous } = wanted;
    let Registration { name, is_idle, .. } = registration.clone();
    if is_idle {
        face.contract.load(registration).await?;
        return Ok(done(StatusCode::OK, &format!("Model \"{name}\" registered")));
    }
    if !is_synchronous {
        load_later(face.contract.clone(), registration);
        return Ok(done(StatusCode::ACCEPTED, "Processing worker updates..."));
    }
    let loaded = timeout_at(deadline, face.contract.load(registration)).await;
    loaded.map_err(|_| HttpError::StillLoading)?.map_err(Failure::of_load)?;
    Ok(done(StatusCode::OK, "Workers scaled"))
}

/// Whoever does not wait for a load is told of its end by the log, and by what is listed.
fn load_later(models: ContractModels, registration: Registration) {
    tokio::spawn(async move {
        let name = registration.name.clone();
        if let Err(error) = models.load(registration).await {
            warn!(model = name, error = %Chain(&error), "a model did not load");
        }
    });
}

/// `GET /models/{name}`
pub(super) async fn get(
    name: web::Path<String>,
    face: web::Data<Face>,
) -> Result<HttpResponse, Failure> {
    Ok(HttpResponse::Ok().json(Described::from(face.contract.get(&name)?)))
}

/// `PUT /models/{name}?min_worker=N&max_worker=M`: answers at once, unless it shall be waited for.
pub(super) async fn scale(
    request: HttpRequest,
    name: web::Path<String>,
    face: web::Data<Face>,
) -> Result<HttpResponse, Failure> {
    let (workers, is_synchronous) = parameters::scale(request.query_string())?;
    // Who names a model that is not there is told so, waited for or not.
    face.contract.get(&name)?;
    if !is_synchronous {
        scale_later(face.contract.clone(), name.into_inner(), workers);
        return Ok(done(StatusCode::ACCEPTED, "Processing worker updates..."));
    }
    let scaled = timeout_at(deadline(&face), face.contract.scale(&name, workers)).await;
    scaled.map_err(|_| HttpError::StillLoading)?.map_err(Failure::of_load)?;
    Ok(done(StatusCode::OK, "Workers scaled"))
}

fn scale_later(models: ContractModels, name: String, workers: Workers) {
    tokio::spawn(async move {
        if let Err(error) = models.scale(&name, workers).await {
            warn!(model = name, error = %Chain(&error), "a model was not scaled");
        }
    });
}

/// `DELETE /models/{name}`: answers when the memory is free.
pub(super) async fn unload(
    name: web::Path<String>,
    face: web::Data<Face>,
) -> Result<HttpResponse, Failure> {
    let unload = face.contract.unload(&name);
    let unloaded = timeout_at(deadline(&face), unload).await;
    unloaded.map_err(|_| Failure::still_in_use())??;
    Ok(done(StatusCode::OK, &format!("Model \"{name}\" unregistered")))
}

/// When the platform stops waiting for a load or an unload.
fn deadline(face: &Face) -> Instant {
    Instant::now() + Duration::from_secs(face.config.load_timeout_s)
}

/// How many processes a load asks for: none registers only.
fn n_processes(initial_workers: Option<usize>) -> (Option<NonZeroUsize>, bool) {
    (initial_workers.and_then(NonZeroUsize::new), initial_workers == Some(0))
}
