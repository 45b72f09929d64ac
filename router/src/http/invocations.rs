//! Step 1 of an invocation: from the client's request to [`Dispatch`] and back.

use super::{
    answer,
    error::{ApiError, Subject},
    request::{self, Asked},
};
use crate::{
    actors::endpoints::{Endpoints, Variant},
    auth::{Caller, Gate, Visitor, api::Api, error::AuthError, signature},
    body::{Body, BodyReader},
    config::IdentityConfig,
    dispatch::{Dispatch, Invocation, Served},
    headers::TARGET_MODEL,
    metrics::{InvocationMetrics, Outcome, VariantMetrics},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_LENGTH, HeaderValue},
    web::{self, Data, Payload},
};
use shared::{id::EndpointName, telemetry::Chain};
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

/// `POST /endpoints/{endpoint}/invocations`
pub async fn invoke(
    request: HttpRequest,
    mut payload: Payload,
    reception: Data<Reception>,
) -> HttpResponse {
    let id = new_request_id();
    let mut visit = Visit::begin(&reception);
    // A span costs nothing where its level is off, as it is by default.
    let span = debug_span!("invocation", invocation_id = ?id, endpoint = endpoint_of(&request));
    let received = reception.receive(&request, &mut payload, &id, &mut visit);
    match received.instrument(span).await {
        Ok((served, variant)) => answer::response(served, id, &variant, visit),
        Err(failure) => {
            failure.log(&request, &id);
            visit.ends(failure.answer.outcome());
            if failure.answer.is_worth_reading() {
                reception.bodies.drain(&mut payload).await;
            }
            failure.answer.into_response(&id)
        }
    }
}

/// The endpoint's name as it stands in the path.
fn endpoint_of(request: &HttpRequest) -> &str {
    request.match_info().get("endpoint").unwrap_or_default()
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
        request: &HttpRequest,
        payload: &mut Payload,
        id: &HeaderValue,
        visit: &mut Visit,
    ) -> Result<(Served, Arc<Variant>), Failure> {
        let visitor = self.gate.admit(request, Api::Runtime).map_err(Failure::of_auth)?;
        let endpoint = request::endpoint_name(endpoint_of(request))
            .map_err(|error| Failure::of(error, |it| ApiError::of_request(it, id)))?;
        let asked = match self.ask(&endpoint, request, id) {
            Err(failure) if self.gate.is_open() => return Err(failure),
            // A stranger must not learn what there is: it is told once the caller is known.
            asked => asked,
        };
        if let Ok((_, variant)) = &asked {
            visit.variant = variant.metrics.clone();
        }
        let body = self.read(request, payload).await?;
        let caller = identify(visitor, &body).await.map_err(Failure::of_auth)?;
        self.check(&caller, &endpoint, asked.as_ref().ok().map(|(asked, _)| asked))?;
        let (asked, variant) = asked?;

        let invocation = Invocation {
            id: id.clone(),
            variant: Arc::clone(&variant),
            target_model: asked.target_model.clone(),
            forwarded: asked.forwarded,
            body,
        };
        let served = self.dispatch.invoke(invocation).await.map_err(|error| {
            let artifact = variant.model_data_url.join(&asked.target_model).ok();
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

    /// Checks that the caller may invoke what is asked for.
    fn check(
        &self,
        caller: &Caller,
        endpoint: &EndpointName,
        asked: Option<&Asked>,
    ) -> Result<(), Failure> {
        let IdentityConfig { region, account_id } = &self.identity;
        let region = caller.scope().map_or(region, |scope| &scope.region);
        // Endpoints have ARNs in lower case.
        let resource = || {
            format!("arn:aws:sagemaker:{region}:{account_id}:endpoint/{endpoint}").to_lowercase()
        };
        let target_model = asked.map(|asked| &asked.target_model);
        caller.may("sagemaker:InvokeEndpoint", target_model, resource).map_err(Failure::of_auth)
    }

    /// Everything that the request says outside its body.
    fn ask(
        &self,
        endpoint: &EndpointName,
        request: &HttpRequest,
        id: &HeaderValue,
    ) -> Result<(Asked, Arc<Variant>), Failure> {
        let asked = request::parse(request.headers());
        // An unknown endpoint is the better news, also where the headers are wrong as well.
        let target = asked.as_ref().ok().and_then(|asked| asked.target_variant.as_ref());
        let variant = self
            .endpoints
            .pick_variant(endpoint, target)
            .map_err(|error| Failure::of(error, |it| ApiError::of_pick(it, &self.identity)))?;
        let asked = asked.map_err(|error| Failure::of(error, |it| ApiError::of_request(it, id)))?;
        Ok((asked, variant))
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
    variant: VariantMetrics,
    metrics: InvocationMetrics,
    outcome: Outcome,
}

impl Visit {
    fn begin(reception: &Reception) -> Self {
        reception.metrics.in_flight.inc();
        Self {
            arrived: Instant::now(),
            variant: reception.unknown.clone(),
            metrics: reception.metrics.clone(),
            outcome: Outcome::Abandoned,
        }
    }

    pub(super) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.variant.count(self.outcome);
        self.metrics.latency.observe(self.arrived.elapsed());
        self.metrics.in_flight.dec();
    }
}

/// A random UUID, as AWS gives. From the thread's generator: no system call per invocation.
pub(super) fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).expect("a UUID is a header value")
}
