//! What the container contract answers, as JSON.

use crate::{
    contract::{Known, Listed, MAX_PAGE},
    runtime::WorkerDescription,
};
use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Says what was done.
pub(super) fn done(status: StatusCode, what: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "status": what }))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    model_name: String,
    model_url: String,
}

impl From<Listed> for Model {
    fn from(listed: Listed) -> Self {
        Self { model_name: listed.name, model_url: listed.url }
    }
}

/// A page of models.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    models: Vec<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl Page {
    pub(super) fn new(listed: Vec<Listed>, next: Option<usize>) -> Self {
        debug_assert!(listed.len() <= MAX_PAGE);
        let models = listed.into_iter().map(Model::from).collect();
        Self { models, next_page_token: next.map(|it| it.to_string()) }
    }
}

/// A model and what runs it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    #[serde(flatten)]
    model: Model,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'static str>,
    min_workers: usize,
    max_workers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<usize>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_delay: Option<u128>,
    loaded_at_startup: bool,
    workers: Vec<Worker>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Worker {
    /// The number of its process.
    id: String,
    start_time: String,
    /// One that is not ready is not listed.
    status: &'static str,
    gpu: bool,
    /// Bytes.
    memory_usage: u64,
}

impl From<WorkerDescription> for Worker {
    fn from(worker: WorkerDescription) -> Self {
        let since = OffsetDateTime::from(worker.since).replace_nanosecond(0);
        let start_time = since.ok().and_then(|it| it.format(&Rfc3339).ok()).unwrap_or_default();
        let memory_usage = worker.memory_bytes;
        Self { id: worker.id.to_string(), start_time, status: "READY", gpu: false, memory_usage }
    }
}

impl From<Known> for Described {
    fn from(known: Known) -> Self {
        let Known { listed, workers, description } = known;
        let (batch_size, max_batch_delay) =
            description.as_ref().map(|it| (it.batch_size, it.max_batch_delay.as_millis())).unzip();
        let runtime = description.as_ref().map(|it| it.runtime);
        let (model_version, engine, running) =
            description.map(|it| (it.version, it.engine, it.workers)).unwrap_or_default();
        Self {
            model: listed.into(),
            model_version,
            engine,
            runtime,
            min_workers: workers.min,
            max_workers: workers.max,
            batch_size,
            max_batch_delay,
            loaded_at_startup: false,
            workers: running.into_iter().map(Worker::from).collect(),
        }
    }
}
