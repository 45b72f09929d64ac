//! Step 2: the life of one invocation, from parsed request to the head of the answer.
//!
//! Read this file first: every other module is one step of [`Dispatch::invoke`].
//!
//! # Invariants
//!
//! - All waiting happens here, in the invocation's own task. Actors only decide, so one slow
//!   instance delays only the invocations that it serves.
//! - An invocation is sent again only if it surely did not begin, or if its instance died before
//!   the head of the answer and the variant allows repeats; and only within the retry budget.
//! - One that ran too long is never sent again: it would run too long elsewhere, too.
//! - "Try again" is not said to one that took two instances with it, and "it never fits" only
//!   once every instance has said so.

use crate::{
    actors::{endpoints::route::Variant, membership::Membership, placement::Placement},
    body::Body,
    config::DispatchConfig,
    group::Place,
    headers,
    instance::Instance,
    instance_client::{InstanceClient, InstanceError, Options, Outbound, Refusal, answer::Answer},
    metrics::InvocationMetrics,
    policy::retry::{Failed, History, Next, RetryBudget},
};
use awc::http::header::{HeaderName, HeaderValue};
use shared::{address::ArtifactAddress, api::error::ErrorKind, id::FleetId, telemetry::Chain};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tracing::debug;

/// A router that starts has heard of nobody. Workers report every second: those that there are have
/// done so by then.
const FIRST_HEARTBEATS: Duration = Duration::from_millis(1500);

/// How often it is looked whether one has.
const FIRST_POLL: Duration = Duration::from_millis(10);

/// What a client asked for, parsed and whole.
#[derive(Debug)]
pub struct Invocation<'a> {
    pub id: &'a HeaderValue,
    pub variant: &'a Variant,
    /// What it asks for, among the variant's artifacts.
    pub artifact: &'a ArtifactAddress,
    /// Those of the client's headers that models may see.
    pub forwarded: Vec<(HeaderName, HeaderValue)>,
    pub body: Body,
    /// Time from here to the head of the answer.
    pub within: Duration,
}

/// What an invocation needs on its way. One per HTTP thread.
#[derive(Debug)]
pub struct Dispatch {
    pub placement: Placement,
    pub membership: Membership,
    pub client: InstanceClient,
    pub retries: Arc<RetryBudget>,
    pub config: DispatchConfig,
    pub metrics: InvocationMetrics,
    /// When the router started: the zero of the retry budget's clock.
    pub started: Instant,
}

/// An answer whose head has come.
#[derive(Debug)]
pub struct Served {
    pub answer: Answer,
    pub instance: Arc<Instance>,
}

/// The key of placement: two endpoints with the same artifact share its replica, if they share
/// instances.
type Key<'a> = (&'a FleetId, &'a str);

/// Why an invocation was not served.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    #[error("no instance is in service")]
    NoInstance,
    /// Every instance that was tried could not take it now; the last one for this reason.
    #[error("instances are busy")]
    Busy(#[source] InstanceError),
    /// Instances died under it, so many that it is likely the cause.
    #[error("instances died under the invocation")]
    Deadly(#[source] InstanceError),
    /// The failure of the last attempt.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl Dispatch {
    /// Sends an invocation to the instance that its artifact prefers, else to the next ones.
    ///
    /// The body is dropped when this returns: once the head of the answer is there, nothing is
    /// sent again.
    pub async fn invoke(&self, invocation: Invocation<'_>) -> Result<Served, InvokeError> {
        let began = Instant::now();
        let deadline = began + invocation.within;
        let variant = invocation.variant;
        let artifact = HeaderValue::try_from(invocation.artifact.to_text())
            .expect("neither a variant's URL nor a target model holds control characters");
        let key = str::from_utf8(artifact.as_bytes()).expect("it was made of text");

        self.retries.earn();
        let mut trail = Trail::new(History::new(self.config.max_tries, variant.repeats));
        let mut place = match self.placement.place(&variant.fleet, key, &[]) {
            Some(place) => place,
            None => self.first_place(&variant.fleet, key, deadline).await?,
        };
        loop {
            let error = match self.send(&invocation, &artifact, &place, deadline).await {
                Ok((answer, took)) => {
                    self.metrics.placed(place.affinity);
                    self.metrics.overhead.observe(began.elapsed().saturating_sub(took));
                    return Ok(Served { answer, instance: place.instance });
                }
                Err(error) => error,
            };
            place = self.go_on(error, (&variant.fleet, key), &place, &mut trail)?;
        }
    }

    /// Waits for somebody to place on, if the router has just started and may not have heard of them.
    async fn first_place(
        &self,
        fleet: &FleetId,
        key: &str,
        deadline: Instant,
    ) -> Result<Place, InvokeError> {
        let deadline = deadline.min(self.started + FIRST_HEARTBEATS);
        while Instant::now() < deadline {
            sleep(FIRST_POLL).await;
            if let Some(place) = self.placement.place(fleet, key, &[]) {
                return Ok(place);
            }
        }
        Err(InvokeError::NoInstance)
    }

    /// Returns where a failed invocation goes next, or what becomes of it.
    fn go_on(
        &self,
        error: InstanceError,
        key: Key<'_>,
        last: &Place,
        trail: &mut Trail,
    ) -> Result<Place, InvokeError> {
        let next = trail.add(&error);
        if is_sign_of_death(&error) && next != Next::Same {
            self.membership.suspect(&last.instance);
        }
        match self.next_place(next, key, last, trail) {
            Ok(place) if self.may_retry(&error, &last.instance) => Ok(place),
            Ok(_) => Err(trail.verdict(Stop::Enough, error)),
            Err(stop) => Err(trail.verdict(stop, error)),
        }
    }

    /// Returns the answer and how long it took.
    async fn send(
        &self,
        invocation: &Invocation<'_>,
        artifact: &HeaderValue,
        place: &Place,
        deadline: Instant,
    ) -> Result<(Answer, Duration), InstanceError> {
        let outbound = Outbound {
            artifact,
            options: Options {
                is_cache_disabled: invocation.variant.is_cache_disabled,
                serves_stale: invocation.variant.serves_stale,
            },
            invocation_id: invocation.id,
            forwarded: &invocation.forwarded,
            body: &invocation.body.bytes,
        };
        let (sent, in_flight) = (Instant::now(), place.instance.begin());
        let left = deadline.saturating_duration_since(sent);
        let patience = left.saturating_sub(self.config.deadline_margin);
        debug!(
            invocation_id = ?invocation.id,
            artifact = %invocation.artifact,
            instance = %place.instance.id,
            "sending"
        );
        let answer = self.client.invoke(&place.instance, &outbound, patience, deadline).await?;
        let took = sent.elapsed();
        in_flight.served(took, waited_for_load(&answer));
        Ok((answer, took))
    }

    fn next_place(
        &self,
        next: Next,
        key: Key<'_>,
        last: &Place,
        trail: &mut Trail,
    ) -> Result<Place, Stop> {
        if next == Next::Same {
            return Ok(last.clone());
        }
        trail.tried.push(Arc::clone(&last.instance));
        let other = self.placement.place(key.0, key.1, &trail.tried).ok_or(Stop::AllAsked)?;
        if next == Next::Other { Ok(other) } else { Err(Stop::Enough) }
    }

    fn may_retry(&self, error: &InstanceError, instance: &Instance) -> bool {
        // What moves with its model is not sent again for a failure, and brings no storm.
        let may = failed(error) == Some(Failed::Left) || self.retries.spend(self.started.elapsed());
        if may {
            self.metrics.retried(reason(error));
            debug!(instance = %instance.id, error = %Chain(error), "sending again");
        } else {
            debug!(instance = %instance.id, error = %Chain(error), "no retry left in the budget");
        }
        may
    }
}

/// How long of an answer's time its model took to load.
fn waited_for_load(answer: &Answer) -> Option<Duration> {
    let millis = answer.header(&headers::LOAD_MS)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// What a failure says about whether the invocation began; `None` if sending it again is out of
/// the question.
fn failed(error: &InstanceError) -> Option<Failed> {
    match error {
        InstanceError::Connect(_) => Some(Failed::NotBegun),
        InstanceError::Died(_) => Some(Failed::Died),
        InstanceError::Lost => Some(Failed::Lost),
        InstanceError::Silent => Some(Failed::Silent),
        InstanceError::Refused(Refusal { kind: Some(ErrorKind::Draining), .. }) => {
            Some(Failed::Left)
        }
        InstanceError::Refused(refusal) => {
            let kind = refusal.kind.filter(|kind| kind.is_worth_another_instance());
            kind.map(|_| Failed::Refused)
        }
        // What we lack here, we lack for every instance.
        InstanceError::NoSocket(_)
        | InstanceError::Garbled(_)
        | InstanceError::TimedOut
        | InstanceError::TooLarge(_) => None,
    }
}

/// Whether the instance should be probed. A live one says that it is late by the deadline's
/// margin before we give it up.
fn is_sign_of_death(error: &InstanceError) -> bool {
    use InstanceError::{Connect, Died, TimedOut};
    matches!(error, Connect(_) | Died(_) | TimedOut)
}

fn reason(error: &InstanceError) -> &'static str {
    match error {
        InstanceError::Connect(_) => "connect",
        InstanceError::Died(_) => "died",
        InstanceError::Lost | InstanceError::Silent => "lost",
        InstanceError::Refused(refusal) => refusal.kind.map_or("refused", ErrorKind::as_str),
        InstanceError::NoSocket(_)
        | InstanceError::Garbled(_)
        | InstanceError::TimedOut
        | InstanceError::TooLarge(_) => "none",
    }
}

/// Why an invocation goes nowhere after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Every instance in service has been asked.
    AllAsked,
    /// There are others, but it is out of tries, or they are out of the question.
    Enough,
}

/// What an invocation has been through.
#[derive(Debug)]
struct Trail {
    history: History,
    tried: Vec<Arc<Instance>>,
    /// Whether something other than a lack of memory stood in the way: that may pass.
    is_other_than_memory: bool,
}

impl Trail {
    fn new(history: History) -> Self {
        Self { history, tried: Vec::new(), is_other_than_memory: false }
    }

    /// Records a failed attempt, and that what is returned is done.
    fn add(&mut self, error: &InstanceError) -> Next {
        let memory = Some(ErrorKind::InsufficientMemory);
        let is_memory = matches!(error, InstanceError::Refused(it) if it.kind == memory);
        self.is_other_than_memory |= !is_memory;
        failed(error).map_or(Next::GiveUp, |failed| self.history.next(failed))
    }

    /// Where no instance took the invocation, only "it fits nowhere" is final; the rest may pass.
    fn verdict(&self, stop: Stop, last: InstanceError) -> InvokeError {
        let fits_nowhere = stop == Stop::AllAsked && !self.is_other_than_memory;
        match failed(&last) {
            Some(_) if self.history.is_deadly() => InvokeError::Deadly(last),
            Some(Failed::NotBegun | Failed::Refused | Failed::Left) if !fits_nowhere => {
                InvokeError::Busy(last)
            }
            Some(_) | None => last.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: ErrorKind) -> InstanceError {
        let refusal = Refusal { status: kind.status(), kind: Some(kind), message: String::new() };
        InstanceError::Refused(refusal)
    }

    #[track_caller]
    fn check(errors: Vec<InstanceError>, stop: Stop, expected: &str) {
        let mut trail = Trail::new(History::new(3, true));
        for error in &errors {
            trail.add(error);
        }
        let shown = format!("{errors:?}, {stop:?}");
        let last = errors.into_iter().last().unwrap();
        assert_eq!(trail.verdict(stop, last).to_string(), expected, "{shown}");
    }

    #[track_caller]
    fn check_verdict(kinds: &[ErrorKind], expected: &str) {
        check(kinds.iter().map(|kind| refused(*kind)).collect(), Stop::AllAsked, expected);
    }

    #[test]
    fn what_two_instances_died_of_is_not_to_be_tried_again() {
        use InstanceError::Lost;
        check(vec![Lost, Lost], Stop::Enough, "instances died under the invocation");
        check(vec![Lost, Lost], Stop::AllAsked, "instances died under the invocation");
        check(vec![Lost], Stop::AllAsked, "instance was lost before it answered");
    }

    #[test]
    fn a_model_that_was_not_offered_everywhere_may_still_fit() {
        let full = || refused(ErrorKind::InsufficientMemory);
        check(vec![full(), full()], Stop::Enough, "instances are busy");
    }

    #[test]
    fn a_model_that_fits_nowhere_is_the_models_error() {
        use ErrorKind::{InsufficientMemory, Overloaded};
        check_verdict(&[InsufficientMemory; 3], "instance answered 507 (insufficient-memory)");
        check_verdict(&[InsufficientMemory, Overloaded], "instances are busy");
        check_verdict(&[Overloaded, InsufficientMemory], "instances are busy");
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        use ErrorKind::{ArtifactNotFound, Draining, StoreUnavailable};
        check_verdict(&[StoreUnavailable], "instances are busy");
        check_verdict(&[Draining, StoreUnavailable], "instances are busy");
        check_verdict(&[Draining, ArtifactNotFound], "instance answered 404 (artifact-not-found)");
    }

    #[test]
    fn only_what_another_instance_may_answer_is_sent_again() {
        for kind in ErrorKind::ALL {
            let again = failed(&refused(kind)).is_some();
            assert_eq!(again, kind.is_worth_another_instance(), "{kind}");
        }
        assert_eq!(failed(&InstanceError::TimedOut), None);
        assert_eq!(failed(&InstanceError::Lost), Some(Failed::Lost));
        assert_eq!(failed(&InstanceError::TooLarge(1)), None);
    }
}
