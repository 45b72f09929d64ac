//! `POST /invocations` and `POST /models/{name}/invoke`.
//!
//! Step 6 of an invocation: parse, acquire a replica, invoke it, answer.

use super::{Face, contract::failure::Failure, error::HttpError, head};
use crate::{
    actors::{
        model_cache::{Acquired, ModelCache},
        replica::InvokeError,
    },
    artifact::OnDeleted,
    runtime::{ModelInput, ModelOutput},
};
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::header::{ACCEPT, CONTENT_TYPE, HeaderName},
    web,
};
use shared::{
    address::ArtifactAddress,
    api::{
        error::ErrorKind,
        invocation::{
            ARTIFACT, CACHE, CACHE_DISABLED, CACHE_SETTING, DEADLINE_MS, INVOCATION_ID, LOAD_MS,
            ON_DELETED, SERVE_STALE,
        },
    },
    telemetry::Chain,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// A replica may die of another invocation while this one waits; the second try gets a new one. Once is
/// also how often others leave for one that runs.
const MAX_TRIES: usize = 2;

/// The longest that a caller may give an invocation: SageMaker's longest asynchronous one.
const LONGEST: Duration = Duration::from_hours(1);

/// `POST /invocations`: by its artifact's address, as routers have it; else by name, as clients of a
/// container have it, who need not say it if there is one model only.
pub(super) async fn by_address_or_name(
    request: HttpRequest,
    body: web::Payload,
    face: web::Data<Face>,
) -> HttpResponse {
    let named = || model_name(request.query_string()).or_else(|| face.contract.lone());
    let name = (!request.headers().contains_key(ARTIFACT)).then(named).flatten();
    let Some(name) = name else { return by_address(request, body, face).await };
    let answered = by_name(request, web::Path::from(name), body, face).await;
    answered.unwrap_or_else(|error| error.error_response())
}

fn model_name(query: &str) -> Option<String> {
    let query = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    query.into_iter().rev().find(|(name, _)| name == "model_name").map(|(_, value)| value)
}

/// Runs a model named by its artifact's address, loading it first if need be.
async fn by_address(
    request: HttpRequest,
    body: web::Payload,
    face: web::Data<Face>,
) -> HttpResponse {
    let answered = noted(&face, &request, async {
        if !face.serves_by_address {
            return Err(HttpError::ByAddressForbidden);
        }
        let _in_flight = accept(&face)?;
        let deadline = deadline(&request, &face)?;
        let address = address(&request)?;
        let on_deleted = on_deleted(&request)?;
        let is_single_use = has(&request, CACHE_SETTING, CACHE_DISABLED)?;
        let body = face.bodies.read(&request, body, deadline).await?;
        let input = input(&request, body)?;
        let _single_use = is_single_use.then(|| SingleUse::new(&face.cache, &address));
        let acquire = async || {
            let acquired = face.cache.acquire_as(&address, on_deleted).await?;
            if !is_single_use {
                acquired.replica.set_staying();
            } else if acquired.waited.is_some() {
                // One that was here already is somebody else's, who wants it to stay.
                acquired.replica.set_passing();
            }
            Ok(acquired)
        };
        invoke(&face, &request, input, deadline, acquire).await
    });
    let answer = answered.await.unwrap_or_else(|error| error.error_response());
    saying_whose(answer, &request)
}

/// Names the invocation in its answer, so that a router can tell whose it is.
pub(super) fn saying_whose(mut answer: HttpResponse, request: &HttpRequest) -> HttpResponse {
    if let Some(id) = request.headers().get(INVOCATION_ID) {
        let name = HeaderName::from_static(INVOCATION_ID);
        answer.headers_mut().insert(name, id.clone());
    }
    answer
}

/// Runs a model that was loaded by name.
pub(super) async fn by_name(
    request: HttpRequest,
    name: web::Path<String>,
    body: web::Payload,
    face: web::Data<Face>,
) -> Result<HttpResponse, Failure> {
    let answered = noted(&face, &request, async {
        let _in_flight = accept(&face)?;
        let deadline = deadline(&request, &face)?;
        let body = face.bodies.read(&request, body, deadline).await?;
        let input = input(&request, body)?;
        let acquire = async || Ok(face.contract.acquire(&name).await?);
        invoke(&face, &request, input, deadline, acquire).await
    });
    Ok(answered.await?)
}

/// Counts and logs an invocation that fails; one that is answered is counted on its way.
async fn noted(
    face: &Face,
    request: &HttpRequest,
    invocation: impl Future<Output = Result<HttpResponse, HttpError>>,
) -> Result<HttpResponse, HttpError> {
    let outcome = invocation.await;
    if let Err(error) = &outcome {
        let kind = error.kind();
        face.metrics.failed_invocations.get_or_create(&[("kind", kind.as_str())]).inc();
        let id = header(request, INVOCATION_ID).ok().flatten().unwrap_or_default();
        let artifact = header(request, ARTIFACT).ok().flatten().unwrap_or(request.path());
        // Clients decide how many there are: the metric counts them, the log is not theirs to fill.
        let kind = kind.as_str();
        debug!(invocation_id = id, artifact, kind, error = %Chain(error), "invocation failed");
    }
    outcome
}

/// Acquires a replica, invokes it, answers.
async fn invoke(
    face: &Face,
    request: &HttpRequest,
    input: ModelInput,
    deadline: Instant,
    acquire: impl AsyncFn() -> Result<Acquired, HttpError>,
) -> Result<HttpResponse, HttpError> {
    for n_tried in 1..=MAX_TRIES {
        let acquired = timeout_at(deadline, acquire()).await;
        let acquired = acquired.unwrap_or(Err(HttpError::StillLoading));
        count(face, &acquired);
        let Acquired { replica, lease, waited } = acquired?;
        let mut input = input.clone();
        if replica.is_outside() {
            input.head = Some(Box::new(head::of_request(request)));
        }
        match replica.invoke(lease, input, deadline).await {
            // It surely never began, and the model is loaded anew for who asks now.
            Err(InvokeError::Died) => {}
            // Its backend wants others unloaded before it is tried again.
            Err(InvokeError::Runtime(error))
                if error.wants_room()
                    && n_tried < MAX_TRIES
                    && makes_way(face, replica.address(), deadline).await => {}
            outcome => return Ok(answer(request, outcome?, waited)),
        }
    }
    Err(InvokeError::Died.into())
}

/// Whether another model has left in time.
async fn makes_way(face: &Face, address: &ArtifactAddress, deadline: Instant) -> bool {
    timeout_at(deadline, face.cache.make_way(address)).await.unwrap_or(false)
}

fn input(request: &HttpRequest, body: web::Bytes) -> Result<ModelInput, HttpError> {
    Ok(ModelInput {
        content_type: header(request, CONTENT_TYPE.as_str())?.map(str::to_owned),
        accept: header(request, ACCEPT.as_str())?.map(str::to_owned),
        body,
        head: None,
    })
}

fn answer(request: &HttpRequest, output: ModelOutput, waited: Option<Duration>) -> HttpResponse {
    let id = header(request, INVOCATION_ID).ok().flatten().unwrap_or_default();
    debug!(invocation_id = id, is_hit = waited.is_none(), "invoked");
    let mut response = HttpResponse::Ok();
    if let Some(said) = &output.head {
        head::begin(&mut response, said);
    }
    if let Some(content_type) = &output.content_type {
        response.insert_header((CONTENT_TYPE, &**content_type));
    }
    response.insert_header((CACHE, if waited.is_some() { "miss" } else { "hit" }));
    if let Some(waited) = waited {
        response.insert_header((LOAD_MS, waited.as_millis().to_string()));
    }
    response.body(output.body)
}

/// Counts an invocation while it is here, unless the instance takes nothing new.
fn accept(face: &Face) -> Result<InFlight, HttpError> {
    // Count first, look then: a drain that begins in between sees the count.
    let in_flight = InFlight::new(&face.n_in_flight);
    if face.is_draining.load(Ordering::SeqCst) {
        return Err(HttpError::Draining);
    }
    Ok(in_flight)
}

/// Only what is resident is a hit: a load that failed was a miss, too.
fn count(face: &Face, acquired: &Result<Acquired, HttpError>) {
    let metrics = &face.metrics.cache;
    match acquired {
        Ok(Acquired { waited: None, .. }) => metrics.hits.inc(),
        Ok(Acquired { waited: Some(waited), .. }) => {
            metrics.loading_wait.0.observe(*waited);
            metrics.misses.inc()
        }
        // It goes to where the model is, and counts there.
        Err(error) if error.kind() == ErrorKind::Draining => 0,
        Err(_) => metrics.misses.inc(),
    };
}

pub(super) fn address(request: &HttpRequest) -> Result<ArtifactAddress, HttpError> {
    let text = header(request, ARTIFACT)?
        .ok_or_else(|| HttpError::BadRequest(format!("header `{ARTIFACT}` is missing")))?;
    text.parse().map_err(|error| HttpError::BadRequest(format!("header `{ARTIFACT}`: {error}")))
}

/// What the variant says about a model whose object was deleted.
pub(super) fn on_deleted(request: &HttpRequest) -> Result<OnDeleted, HttpError> {
    let is_stale = has(request, ON_DELETED, SERVE_STALE)?;
    Ok(if is_stale { OnDeleted::ServeStale } else { OnDeleted::Refuse })
}

/// Whether a header is there that has one value or is absent.
pub(super) fn has(request: &HttpRequest, name: &str, value: &str) -> Result<bool, HttpError> {
    match header(request, name)? {
        None => Ok(false),
        Some(text) if text == value => Ok(true),
        Some(_) => Err(HttpError::BadRequest(format!("header `{name}` is not `{value}`"))),
    }
}

/// When the caller wants the head of the answer; when the configuration says, if the caller does not.
pub(super) fn deadline(request: &HttpRequest, face: &Face) -> Result<Instant, HttpError> {
    let otherwise = Duration::from_secs(face.config.invocation_timeout_s);
    Ok(Instant::now() + within(header(request, DEADLINE_MS)?, otherwise)?)
}

fn within(wanted_ms: Option<&str>, otherwise: Duration) -> Result<Duration, HttpError> {
    let Some(text) = wanted_ms else { return Ok(otherwise) };
    let malformed = |_| HttpError::BadRequest(format!("header `{DEADLINE_MS}` is not a number"));
    Ok(Duration::from_millis(text.parse().map_err(malformed)?).min(LONGEST))
}

/// Returns a header's text; UTF-8, because addresses may be.
fn header<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, HttpError> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| HttpError::BadRequest(format!("header `{name}` is not UTF-8")))
}

/// One invocation whose model shall not stay: however the invocation ends, the model leaves when
/// nobody else holds it.
#[derive(Debug)]
struct SingleUse {
    cache: ModelCache,
    address: ArtifactAddress,
}

impl SingleUse {
    fn new(cache: &ModelCache, address: &ArtifactAddress) -> Self {
        Self { cache: cache.clone(), address: address.clone() }
    }
}

impl Drop for SingleUse {
    fn drop(&mut self) {
        self.cache.discard(&self.address);
    }
}

/// One invocation that is here; counted until dropped.
#[derive(Debug)]
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_the_caller_names_is_not_cut_to_that_of_who_names_none() {
        let minute = Duration::from_mins(1);
        let within = |wanted| within(wanted, minute).ok();
        assert_eq!(within(None), Some(minute));
        assert_eq!(within(Some("900000")), Some(Duration::from_mins(15)));
        assert_eq!(within(Some("10")), Some(Duration::from_millis(10)));
        assert_eq!(within(Some("86400000")), Some(LONGEST));
        assert_eq!(within(Some("soon")), None);
    }
}
