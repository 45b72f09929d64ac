//! `/models`: SageMaker's container contract for multi-model hosting (developer guide, "Build your
//! own container for multi-model endpoints"). Requests are `snake_case`, answers `camelCase`.

use super::{Face, error::HttpError};
use crate::contract::{Listed, MAX_PAGE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use shared::address::ArtifactAddress;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A name may be any hash the platform likes; none is near this long.
const MAX_NAME_BYTES: usize = 1024;

#[derive(Debug, Deserialize)]
struct LoadRequest {
    model_name: String,
    url: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    model_name: String,
    model_url: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    models: Vec<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    next_page_token: Option<String>,
    limit: Option<usize>,
}

impl From<Listed> for Model {
    fn from(listed: Listed) -> Self {
        Self { model_name: listed.name, model_url: listed.url }
    }
}

/// `GET /models?next_page_token=T&limit=N`: the token is the last name of the page before.
pub(super) async fn list(
    query: Result<web::Query<PageQuery>, actix_web::Error>,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    let query = query.map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let limit = query.limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).unwrap_or(MAX_PAGE);
    let (listed, has_more) = face.contract.list(query.next_page_token.as_deref(), limit);
    let last = listed.last().map(|it| it.name.clone());
    let next_page_token = last.filter(|_| has_more);
    let models = listed.into_iter().map(Model::from).collect();
    Ok(HttpResponse::Ok().json(Page { models, next_page_token }))
}

/// `POST /models`: answers when the model can serve.
pub(super) async fn load(
    request: HttpRequest,
    body: web::Payload,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    let deadline = deadline(&face);
    let body = face.bodies.read(&request, body, deadline).await?;
    let LoadRequest { model_name, url } = serde_json::from_slice(&body).map_err(|error| {
        HttpError::BadRequest(format!("the body is not a load request: {error}"))
    })?;
    if model_name.is_empty() || model_name.len() > MAX_NAME_BYTES {
        let message = format!("model_name must have 1 to {MAX_NAME_BYTES} bytes");
        return Err(HttpError::BadRequest(message));
    }
    let address = address(&url)?;
    let load = face.contract.load(model_name.clone(), url, address);
    timeout_at(deadline, load).await.map_err(|_| HttpError::StillLoading)??;
    let status = serde_json::json!({ "status": format!("Model \"{model_name}\" loaded") });
    Ok(HttpResponse::Ok().json(status))
}

pub(super) async fn get(
    name: web::Path<String>,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    Ok(HttpResponse::Ok().json(Model::from(face.contract.get(&name)?)))
}

/// `DELETE /models/{name}`: answers when the memory is free.
pub(super) async fn unload(
    name: web::Path<String>,
    face: web::Data<Face>,
) -> Result<HttpResponse, HttpError> {
    let unload = face.contract.unload(&name);
    timeout_at(deadline(&face), unload).await.map_err(|_| HttpError::StillInUse)??;
    let status = serde_json::json!({ "status": format!("Model \"{name}\" unregistered") });
    Ok(HttpResponse::Ok().json(status))
}

/// When the platform stops waiting for a load or an unload.
fn deadline(face: &Face) -> Instant {
    Instant::now() + Duration::from_secs(face.config.load_timeout_s)
}

/// The platform gives a folder, `/opt/ml/models/<hash>/model`; others may give an address.
fn address(url: &str) -> Result<ArtifactAddress, HttpError> {
    let address = if url.starts_with('/') { format!("file://{url}") } else { url.to_owned() };
    address.parse().map_err(|error| HttpError::BadRequest(format!("url: {error}")))
}
