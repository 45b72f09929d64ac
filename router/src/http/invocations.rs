//! Step 1 of an invocation: from the client's request to [`Dispatch`] and back.

use super::{
    answer,
    error::{ApiError, Subject},
    front,
    request::{self, Asked, InvalidRequest},
};
use crate::{
    actors::endpoints::{Endpoints, route::Variant},
    auth::{Caller, Gate, Visitor, api::Api, error::AuthError, signature},
    body::{Body, BodyReader},
    config::IdentityConfig,
    dispatch::{Dispatch, Invocation, Served},
    headers::TARGET_MODEL,
    metrics::{InvocationMetrics, Outcome, VariantMetrics},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue},
    web::{self, Data, Payload},
};
use shared::{
    address::ArtifactAddress,
    id::{EndpointName, VariantName},
    telemetry::Chain,
};
use std::{error::Error, sync::Arc};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, debug_span, error};

/// A larger body is hashed beside the HTTP threads: at a gigabyte a second, a quarter of a
/// millisecond is what other invocations of the thread can wait.
const MAX_HASHED_BYTES: usize = 256 * 1024;

/// What invocations need to come in. One per HTTP thread.
#[derive(Debug)]
pub struct Reception {
    pub gate: Gate,
    pub endpoints: Endpoints,
    pub dispatch: Dispatch,
    pub bodies: BodyReader,
    pub identity: IdentityConfig,
    pub metrics: InvocationMetrics,
    /// Counts what names no endpoint of ours.
    pub unknown: VariantMetrics,
}

/// What differs between the operations that invoke a model and wait for its answer.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// What a key must allow.
    pub(super) action: &'static str,
    /// Reads what the request says outside its body.
    pub(super) parse: fn(&HeaderMap) -> Result<Asked, InvalidRequest>,
    /// Makes the client's response of an answer whose head has come.
    pub(super) respond: fn(Served, HeaderValue, &Variant, Visit) -> HttpResponse,
}

/// `POST /endpoints/{endpoint}/invocations`
pub async fn invoke(
    request: HttpRequest,
    payload: Payload,
    reception: Data<Reception>,
) -> HttpResponse {
    let operation = Operation {
        action: "sagemaker:InvokeEndpoint",
        parse: request::parse,
        respond: answer::response,
    };
    serve(operation, &request, payload, &reception).await
}

pub(super) async fn serve(
    operation: Operation,
    request: &HttpRequest,
    mut payload: Payload,
    reception: &Data<Reception>,
) -> HttpResponse {
    let id = new_request_id();
    let mut visit = Visit::begin(reception.clone());
    // A span costs nothing where its level is off, as it is by default.
    let span = debug_span!("invocation", invocation_id = ?id, endpoint = endpoint_of(request));
    let asked = (operation.parse)(request.headers());
    let inbound = Inbound { request, action: operation.action, asked, id: &id };
    let received = reception.receive(inbound, &mut payload, &mut visit);
    match received.instrument(span).await {
        Ok((served, variant)) => (operation.respond)(served, id, &variant, visit),
        Err(failure) => {
            failure.log(request, &id);
            visit.ends(failure.answer.outcome());
            if failure.answer.is_worth_reading() {
                reception.bodies.drain(&mut payload).await;
            }
            failure.answer.into_response(&id)
        }
    }
}

/// A request, but for its body.
struct Inbound<'a> {
    request: &'a HttpRequest,
    action: &'static str,
    asked: Result<Asked, InvalidRequest>,
    id: &'a HeaderValue,
}

/// The endpoint's name as it stands in the path.
pub(super) fn endpoint_of(request: &HttpRequest) -> &str {
    let named = request.match_info().get("endpoint");
    named.or_else(|| front::invoked_endpoint(request.path())).unwrap_or_default()
}

/// Why an invocation was not served, and what its client is told.
#[derive(Debug)]
struct Failure {
    cause: Box<dyn Error>,
    answer: ApiError,
}

impl Failure {
    fn of<E: Error + 'static>(cause: E, answer: impl FnOnce(&E) -> ApiError) -> Self {
        let answer = answer(&cause);
        Self { cause: Box::new(cause), answer }
    }

    fn of_auth(error: AuthError) -> Self {
        Self::of(error, ApiError::of_auth)
    }

    /// The client learns what it can do; only the log learns why.
    fn log(&self, request: &HttpRequest, id: &HeaderValue) {
        let Self { cause, answer } = self;
        let (cause, code) = (Chain(&**cause), answer.code());
        let (endpoint, target_model) = (endpoint_of(request), request.headers().get(&TARGET_MODEL));
        if answer.outcome() == Outcome::InternalFailure {
            error!(invocation_id = ?id, endpoint, ?target_model, code, error = %cause, "our bug");
        } else {
            debug!(
                invocation_id = ?id, endpoint, ?target_model, code, error = %cause,
                "invocation failed"
            );
        }
    }
}

impl Reception {
    async fn receive(
        &self,
        inbound: Inbound<'_>,
        payload: &mut Payload,
        visit: &mut Visit,
    ) -> Result<(Served, Arc<Variant>), Failure> {
        let Inbound { request, action, asked, id } = inbound;
        let visitor = self.gate.admit(request, Api::Runtime).map_err(Failure::of_auth)?;
        let name = endpoint_of(request);
        let endpoint = request::endpoint_name(name)
            .map_err(|error| Failure::of(error, |it| ApiError::of_request(it, name, id)))?;
        let asked = match self.ask(&endpoint, asked, id) {
            Err(failure) if self.gate.is_open() => return Err(failure),
            // A stranger must not learn what there is: it is told once the caller is known.
            asked => asked,
        };
        let body = self.read(request, payload).await?;
        let caller = identify(visitor, &body).await.map_err(Failure::of_auth)?;
        self.may(action, &caller, &endpoint, asked.as_ref().ok().map(|it| &it.asked))
            .map_err(Failure::of_auth)?;
        if let Ok(Target { variant, .. }) = &asked {
            visit.is_for(variant);
        }
        let Target { asked, variant, artifact } = self.now(asked?, &endpoint, id)?;
        visit.is_for(&variant);
        let invocation = Invocation {
            id,
            variant: &variant,
            artifact: &artifact,
            forwarded: asked.forwarded,
            body,
            within: self.dispatch.config.deadline,
        };
        let served = self.dispatch.invoke(invocation).await.map_err(|error| {
            let subject = Subject { endpoint, artifact, config: &self.dispatch.config };
            Failure::of(error, |it| ApiError::of_invoke(it, &subject, &self.identity))
        })?;
        Ok((served, variant))
    }

    async fn read(&self, request: &HttpRequest, payload: &mut Payload) -> Result<Body, Failure> {
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        let body = self.bodies.read(payload, announced).await;
        body.map_err(|error| Failure::of(error, |it| ApiError::of_body(it, &self.dispatch.config)))
    }

    /// Checks that the caller may invoke asynchronously what is asked for.
    pub(super) fn authorize(
        &self,
        caller: &Caller,
        endpoint: &EndpointName,
        asked: Option<&Asked>,
    ) -> Result<(), ApiError> {
        let action = "sagemaker:InvokeEndpointAsync";
        self.may(action, caller, endpoint, asked).map_err(|error| ApiError::of_auth(&error))
    }

    fn may(
        &self,
        action: &str,
        caller: &Caller,
        endpoint: &EndpointName,
        asked: Option<&Asked>,
    ) -> Result<(), AuthError> {
        let IdentityConfig { region, account_id } = &self.identity;
        let region = caller.scope().map_or(region, |scope| &scope.region);
        // Endpoints have ARNs in lower case.
        let resource = || {
            format!("arn:aws:sagemaker:{region}:{account_id}:endpoint/{endpoint}").to_lowercase()
        };
        let target_model = asked.and_then(|asked| asked.target_model.as_ref());
        caller.may(action, target_model, resource)
    }

    /// Everything that the request says outside its body.
    fn ask(
        &self,
        endpoint: &EndpointName,
        asked: Result<Asked, InvalidRequest>,
        id: &HeaderValue,
    ) -> Result<Target, Failure> {
        // An unknown endpoint is the better news, also where the headers are wrong as well.
        let target = asked.as_ref().ok().and_then(|asked| asked.target_variant.as_ref());
        let variant = self.pick(endpoint, target)?;
        let asked = asked.map_err(|error| {
            Failure::of(error, |it| ApiError::of_request(it, endpoint.as_str(), id))
        })?;
        Target::new(asked, variant).map_err(|error| {
            Failure::of(error, |it| ApiError::of_request(it, endpoint.as_str(), id))
        })
    }

    /// Picks again where the body took so long that the endpoint has other variants now.
    fn now(
        &self,
        target: Target,
        endpoint: &EndpointName,
        id: &HeaderValue,
    ) -> Result<Target, Failure> {
        if self.endpoints.has(endpoint, &target.variant) {
            return Ok(target);
        }
        let variant = self.pick(endpoint, target.asked.target_variant.as_ref())?;
        Target::new(target.asked, variant).map_err(|error| {
            Failure::of(error, |it| ApiError::of_request(it, endpoint.as_str(), id))
        })
    }

    fn pick(
        &self,
        endpoint: &EndpointName,
        target: Option<&VariantName>,
    ) -> Result<Arc<Variant>, Failure> {
        let picked = self.endpoints.pick_variant(endpoint, target);
        picked.map_err(|error| Failure::of(error, |it| ApiError::of_pick(it, &self.identity)))
    }
}

/// What an invocation is for.
struct Target {
    asked: Asked,
    variant: Arc<Variant>,
    artifact: ArtifactAddress,
}

impl Target {
    fn new(asked: Asked, variant: Arc<Variant>) -> Result<Self, InvalidRequest> {
        let artifact = artifact(&asked, &variant)?;
        Ok(Self { asked, variant, artifact })
    }
}

/// The artifact that is meant, or what is wrong with how it was asked for.
pub(super) fn artifact(
    asked: &Asked,
    variant: &Variant,
) -> Result<ArtifactAddress, InvalidRequest> {
    match variant.artifacts.address(asked.target_model.as_ref()) {
        Some(artifact) => Ok(artifact?),
        None if asked.target_model.is_some() => Err(InvalidRequest::NotMultiModel),
        None => Err(InvalidRequest::NoTargetModel),
    }
}

/// Proves who sent a body.
async fn identify(visitor: Visitor, body: &Body) -> Result<Caller, AuthError> {
    if body.bytes.len() <= MAX_HASHED_BYTES || visitor.is_anybody() {
        return visitor.identify(&body.bytes);
    }
    let bytes = body.bytes.clone();
    match web::block(move || signature::sha256(&bytes)).await {
        Ok(hash) => visitor.identify_hash(&hash),
        // The pool is gone, with the process about to follow.
        Err(_) => visitor.identify(&body.bytes),
    }
}

/// One invocation from its arrival to the end of its answer. Counted when it is dropped, so also
/// when the client has left.
#[derive(Debug)]
pub struct Visit {
    arrived: Instant,
    /// `None`: it names none of ours.
    variant: Option<Arc<Variant>>,
    reception: Data<Reception>,
    outcome: Outcome,
}

impl Visit {
    fn begin(reception: Data<Reception>) -> Self {
        reception.metrics.in_flight.inc();
        Self { arrived: Instant::now(), variant: None, reception, outcome: Outcome::Abandoned }
    }

    fn is_for(&mut self, variant: &Arc<Variant>) {
        // All threads count who holds a variant: not more often than needed.
        if !self.variant.as_ref().is_some_and(|it| Arc::ptr_eq(it, variant)) {
            self.variant = Some(Arc::clone(variant));
        }
    }

    pub(super) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Reception { metrics, unknown, .. } = &**self.reception;
        self.variant.as_ref().map_or(unknown, |it| &it.metrics).count(self.outcome);
        metrics.latency.observe(self.arrived.elapsed());
        metrics.in_flight.dec();
    }
}

/// A random UUID, as AWS gives. From the thread's generator: no system call per invocation.
pub(super) fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).expect("a UUID is a header value")
}
