//! Does the jobs: reads the input, invokes, has what came of it written.
//!
//! What may pass (no instance, a busy one, a store that does not answer) puts a job off until its
//! time is over; all else is its outcome. One task, beside those that serve HTTP.
//!
//! # When it dies
//!
//! The router exits, as when an actor dies. What is not done is in the records.

use super::{
    Accepted, Queue,
    delivery::{Delivered, Deliveries, Delivery},
    job::{Job, JobHead},
    log::JobLog,
    schedule::{Destination, Schedule},
};
use crate::{
    actors::endpoints::Endpoints,
    body::{BodyError, BodyReader},
    config::{AsyncConfig, IdentityConfig},
    dispatch::{Dispatch, Invocation, InvokeError, Served},
    http::error::{ApiError, Subject, document},
    metrics::Outcome,
    objects::{Objects, ObjectsError},
};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use shared::{address::ArtifactAddress, backoff::Backoff, telemetry::Chain};
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, info};

/// Soon after a burst; seldom enough while there are no instances, which may be so for hours.
const PUT_OFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };

/// What a model's answer is, if it does not say.
const ANY_CONTENT: &str = "application/octet-stream";

const OTHER_MODELS: &str =
    "The endpoint was updated since the request was accepted, and serves no such model.";

/// What jobs need on their way.
pub struct Runner {
    pub endpoints: Endpoints,
    pub dispatch: Dispatch,
    pub bodies: BodyReader,
    pub identity: IdentityConfig,
    pub objects: Objects,
    pub deliveries: Deliveries,
    pub log: JobLog,
    pub config: AsyncConfig,
    /// Largest input from S3.
    pub max_input_bytes: u64,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What comes of an attempt, unless it is an answer.
#[derive(Debug)]
enum JobError {
    /// It may go well later; why not now.
    Later(String),
    /// The document that says why not.
    Failed(Vec<u8>),
}

impl Runner {
    /// Does what was left over, then what comes, until nobody can accept any more. Once `is_stopping`
    /// nothing is begun: it would be cut off.
    pub async fn run(self, mut queue: Queue, mut is_stopping: watch::Receiver<bool>) {
        let mut schedule = Schedule::new(self.config.max_running_async);
        info!(n_jobs = queue.n_left_over(), "going on with asynchronous invocations");
        let mut running = FuturesUnordered::new();
        let mut put_off = FuturesUnordered::new();
        loop {
            while !*is_stopping.borrow()
                && let Some(accepted) = schedule.next(|destination| self.limit(destination))
            {
                running.push(self.attempt(accepted));
            }
            let added = tokio::select! {
                accepted = queue.next() => match accepted {
                    Some(accepted) => accepted,
                    None => return,
                },
                Some(accepted) = put_off.next() => accepted,
                Some((accepted, is_done)) = running.next() => {
                    schedule.ended(&Destination::of(&accepted.job.head));
                    if !is_done {
                        put_off.push(pause(accepted));
                    }
                    continue;
                }
                // Without who says so, there is nobody to stop for.
                Ok(()) = is_stopping.changed() => continue,
            };
            schedule.add(Destination::of(&added.job.head), added);
        }
    }

    /// How many jobs may run at once: of a variant by its own instances, of an endpoint by all.
    fn limit(&self, to: &Destination) -> usize {
        let output = self.endpoints.async_output(&to.endpoint);
        let per_instance = output.and_then(|it| it.max_concurrent_per_instance);
        let per_instance = per_instance.unwrap_or(self.config.async_per_instance);
        per_instance.saturating_mul(self.n_instances(to).max(1))
    }

    fn n_instances(&self, to: &Destination) -> usize {
        let catalog = self.endpoints.catalog();
        let endpoint = catalog.endpoint(to.endpoint.as_str());
        let deployment = endpoint.and_then(|it| it.active.as_ref());
        let variants = deployment.into_iter().flat_map(|it| &it.variants);
        let meant = variants.filter(|it| to.variant.as_ref().is_none_or(|name| it.name == *name));
        meant.map(|it| self.dispatch.placement.n_instances(&it.fleet)).sum()
    }

    /// Returns the job, and whether it is done.
    async fn attempt(&self, mut accepted: Accepted) -> (Accepted, bool) {
        if accepted.delivery.is_none() {
            match self.outcome(&accepted.job).await {
                Ok(delivery) => accepted.delivery = Some(delivery),
                Err(reason) => {
                    debug!(job = accepted.job.head.id, reason, "asynchronous invocation put off");
                    accepted.n_put_off = accepted.n_put_off.saturating_add(1);
                    return (accepted, false);
                }
            }
            // A store that does not answer is another matter than an instance that is busy.
            accepted.n_put_off = 0;
        }
        while self.deliver(&mut accepted).await == Delivered::Later {
            accepted.n_put_off = accepted.n_put_off.saturating_add(1);
            if self.deliveries.hold(&mut accepted) {
                return (accepted, false);
            }
            // It keeps its running place with its answer.
            sleep(delay(&accepted)).await;
        }
        if let Err(error) = self.log.finish(&accepted.job.head.id).await {
            error!(error = %Chain(&error), "a job that is done will be done again after a restart");
        }
        (accepted, true)
    }

    async fn deliver(&self, accepted: &mut Accepted) -> Delivered {
        let Accepted { job, delivery, .. } = accepted;
        match delivery {
            Some(delivery) => self.deliveries.write(&job.head, delivery).await,
            None => Delivered::Done,
        }
    }

    /// Returns what comes of a job, or says why nothing yet.
    async fn outcome(&self, job: &Job) -> Result<Delivery, String> {
        let head = &job.head;
        let failed = if head.is_expired(SystemTime::now()) {
            document("RequestExpired", "The request expired in the queue.")
        } else {
            match self.invoke(job).await {
                Ok((content_type, body)) => {
                    debug!(job = head.id, "asynchronous invocation answered");
                    return Ok(Delivery::answer(content_type, body));
                }
                Err(JobError::Later(reason)) => return Err(reason),
                Err(JobError::Failed(document)) => document,
            }
        };
        let text = String::from_utf8_lossy(&failed);
        debug!(job = head.id, endpoint = %head.endpoint, %text, "asynchronous invocation failed");
        Ok(Delivery::failure(failed))
    }

    async fn invoke(&self, job: &Job) -> Result<(String, Bytes), JobError> {
        let JobHead { id, endpoint, target_model, target_variant, .. } = &job.head;
        let variant = self
            .endpoints
            .pick_variant(endpoint, target_variant.as_ref())
            .map_err(|error| failed(&ApiError::of_pick(&error, &self.identity)))?;
        // It was right when it was accepted: else the endpoint was updated since.
        let Some(Ok(artifact)) = variant.artifacts.address(target_model.as_ref()) else {
            return Err(JobError::Failed(document("ValidationError", OTHER_MODELS)));
        };
        if self.dispatch.placement.n_instances(&variant.fleet) == 0 {
            return Err(JobError::Later("no instance is in service".to_owned()));
        }
        let input = self.input(job).await?;
        let length = input.len() as u64;
        let body = self.bodies.read(&mut stream::iter([Ok(input)]), Some(length)).await;
        let body = body.map_err(|error| self.of_body(&error))?;
        let id = HeaderValue::from_str(id).map_err(|error| JobError::Later(error.to_string()))?;
        let invocation = Invocation {
            id: &id,
            variant: &variant,
            artifact: &artifact,
            forwarded: job.head.headers(),
            body,
            within: job.head.timeout(),
        };
        let served = self.dispatch.invoke(invocation).await;
        let answered = match served {
            Ok(served) => read(served).await,
            Err(error) => Err(self.of_invoke(&error, job, artifact)),
        };
        match &answered {
            Ok(_) => variant.metrics.count(Outcome::Ok),
            Err(JobError::Failed(_)) => variant.metrics.count(Outcome::ModelError),
            Err(JobError::Later(_)) => {}
        }
        answered
    }

    async fn input(&self, job: &Job) -> Result<Bytes, JobError> {
        let Some(at) = &job.head.input else {
            return Ok(job.inline.clone());
        };
        self.objects.read(at, self.max_input_bytes).await.map_err(|error| match error {
            ObjectsError::Unavailable(..) => JobError::Later(error.to_string()),
            ObjectsError::NotFound(_)
            | ObjectsError::Denied(_)
            | ObjectsError::Refused(..)
            | ObjectsError::TooLarge(..) => {
                let message = format!("Failed to read the input: {error}.");
                JobError::Failed(document("ValidationError", &message))
            }
        })
    }

    fn of_body(&self, error: &BodyError) -> JobError {
        match error {
            BodyError::TooLarge(_) => failed(&ApiError::of_body(error, &self.dispatch.config)),
            _ => JobError::Later(error.to_string()),
        }
    }

    fn of_invoke(&self, error: &InvokeError, job: &Job, artifact: ArtifactAddress) -> JobError {
        let config = &self.dispatch.config;
        let subject = Subject { endpoint: job.head.endpoint.clone(), artifact, config };
        let answer = ApiError::of_invoke(error, &subject, &self.identity);
        match answer.outcome() {
            Outcome::Unavailable | Outcome::NotReady => JobError::Later(Chain(error).to_string()),
            _ => failed(&answer),
        }
    }
}

fn failed(error: &ApiError) -> JobError {
    JobError::Failed(error.document())
}

/// Reads an answer whole; the way from the instance bounds its size and its silence.
async fn read(served: Served) -> Result<(String, Bytes), JobError> {
    let Served { answer, instance } = served;
    let content_type = answer.header(&CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content_type = content_type.unwrap_or(ANY_CONTENT).to_owned();
    let mut stream = answer.into_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            debug!(instance = %instance.id, error = %Chain(&error), "answer broken off");
            JobError::Failed(document("ModelError", "The answer of the model broke off."))
        })?;
        whole.extend_from_slice(&piece);
    }
    Ok((content_type, whole.freeze()))
}

async fn pause(accepted: Accepted) -> Accepted {
    sleep(delay(&accepted)).await;
    accepted
}

fn delay(accepted: &Accepted) -> Duration {
    PUT_OFF.delay(accepted.n_put_off.saturating_sub(1))
}
