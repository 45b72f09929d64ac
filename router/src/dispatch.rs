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

use crate::{
    actors::{
        endpoints::Variant,
        membership::{Instance, Membership},
        placement::{Place, Placement},
    },
    body::Body,
    config::DispatchConfig,
    instance_client::{InstanceClient, InstanceError, Outbound, answer::Answer},
    metrics::InvocationMetrics,
    policy::retry::{Failed, History, Next, RetryBudget},
};
use awc::http::header::{HeaderName, HeaderValue};
use shared::{address::InvalidAddress, api::error::ErrorKind, id::TargetModel, telemetry::Chain};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{debug, warn};

/// What a client asked for, parsed and whole.
#[derive(Debug)]
pub struct Invocation {
    pub id: HeaderValue,
    pub variant: Arc<Variant>,
    pub target_model: TargetModel,
    /// Those of the client's headers that models may see.
    pub forwarded: Vec<(HeaderName, HeaderValue)>,
    pub body: Body,
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

/// Why an invocation was not served.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    #[error("target model has no valid address")]
    Address(#[from] InvalidAddress),
    #[error("no instance is in service")]
    NoInstance,
    /// Every instance that was tried could not take it now.
    #[error("instances are busy")]
    Busy,
    /// The failure of the last attempt.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl Dispatch {
    /// Sends an invocation to the instance that its artifact prefers, else to the next ones.
    ///
    /// The body is dropped when this returns: once the head of the answer is there, nothing is
    /// sent again.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Served, InvokeError> {
        let began = Instant::now();
        let deadline = began + self.config.deadline;
        let variant = &invocation.variant;
        // The key of placement: two endpoints with the same artifact share its replica.
        let key = variant.model_data_url.join(&invocation.target_model)?.to_string();
        let artifact = HeaderValue::from_bytes(key.as_bytes())
            .expect("neither a variant's URL nor a target model holds control characters");

        self.retries.earn();
        let mut history = History::new(self.config.max_tries, variant.repeats);
        let mut tried = Vec::new();
        let mut refusals = Refusals::default();
        let mut place = self.placement.place(&key, &tried).ok_or(InvokeError::NoInstance)?;
        loop {
            let sent = Instant::now();
            let error = match self.send(&invocation, &artifact, &place, deadline).await {
                Ok(answer) => {
                    self.metrics.placed(place.is_first);
                    let added = began.elapsed().saturating_sub(sent.elapsed());
                    self.metrics.overhead.observe(added);
                    return Ok(Served { answer, instance: place.instance });
                }
                Err(error) => error,
            };
            refusals.add(&error);
            let next = failed(&error).map_or(Next::GiveUp, |failed| history.next(failed));
            if is_sign_of_death(&error) && next != Next::Same {
                self.membership.suspect(&place.instance);
            }
            if next == Next::Other {
                tried.push(Arc::clone(&place.instance));
            }
            match self.next_place(next, &key, &tried, &place) {
                Some(next_place) if self.may_retry(&error, &place.instance) => place = next_place,
                _ => return Err(refusals.verdict(error)),
            }
        }
    }

    async fn send(
        &self,
        invocation: &Invocation,
        artifact: &HeaderValue,
        place: &Place,
        deadline: Instant,
    ) -> Result<Answer, InstanceError> {
        let outbound = Outbound {
            artifact,
            invocation_id: &invocation.id,
            forwarded: &invocation.forwarded,
            body: &invocation.body.bytes,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = left.saturating_sub(self.config.deadline_margin);
        debug!(
            invocation_id = ?invocation.id,
            target_model = %invocation.target_model,
            instance = %place.instance.id,
            "sending"
        );
        self.client.invoke(&place.instance.uri, &outbound, patience, deadline).await
    }

    fn next_place(
        &self,
        next: Next,
        key: &str,
        tried: &[Arc<Instance>],
        last: &Place,
    ) -> Option<Place> {
        match next {
            Next::Same => Some(last.clone()),
            Next::Other => self.placement.place(key, tried),
            Next::GiveUp => None,
        }
    }

    fn may_retry(&self, error: &InstanceError, instance: &Instance) -> bool {
        let may = self.retries.spend(self.started.elapsed());
        if may {
            self.metrics.retried(reason(error));
            debug!(instance = %instance.id, error = %Chain(error), "sending again");
        } else {
            warn!(instance = %instance.id, error = %Chain(error), "no retry left in the budget");
        }
        may
    }
}

/// What a failure says about whether the invocation began; `None` if sending it again is out of
/// the question.
fn failed(error: &InstanceError) -> Option<Failed> {
    match error {
        InstanceError::Connect(_) => Some(Failed::NotBegun),
        InstanceError::Died(_) => Some(Failed::Died),
        InstanceError::Refused(refusal) => {
            let kind = refusal.kind.filter(|kind| kind.is_worth_another_instance());
            kind.map(|_| Failed::NotBegun)
        }
        InstanceError::Garbled(_) | InstanceError::TimedOut | InstanceError::TooLarge(_) => None,
    }
}

fn is_sign_of_death(error: &InstanceError) -> bool {
    matches!(error, InstanceError::Connect(_) | InstanceError::Died(_))
}

fn reason(error: &InstanceError) -> &'static str {
    match error {
        InstanceError::Connect(_) => "connect",
        InstanceError::Died(_) => "died",
        InstanceError::Refused(refusal) => refusal.kind.map_or("refused", ErrorKind::as_str),
        InstanceError::Garbled(_) | InstanceError::TimedOut | InstanceError::TooLarge(_) => "none",
    }
}

/// What the attempts before the last one add to the answer.
#[derive(Debug, Default)]
struct Refusals {
    /// Whether something other than a lack of memory stood in the way: that may pass.
    is_other_than_memory: bool,
}

impl Refusals {
    fn add(&mut self, error: &InstanceError) {
        let memory = Some(ErrorKind::InsufficientMemory);
        let is_memory = matches!(error, InstanceError::Refused(it) if it.kind == memory);
        self.is_other_than_memory |= !is_memory;
    }

    /// Where no instance took the invocation, only "it fits nowhere" is final; the rest may pass.
    fn verdict(&self, last: InstanceError) -> InvokeError {
        match failed(&last) {
            Some(Failed::NotBegun) if self.is_other_than_memory => {
                debug!(error = %Chain(&last), "no instance could take the invocation");
                InvokeError::Busy
            }
            _ => last.into(),
        }
    }
}

/// How long a client should wait before it tries again.
pub fn retry_after_ms(config: &DispatchConfig) -> u64 {
    u64::try_from(config.retry_after.as_millis().max(Duration::from_millis(1).as_millis()))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance_client::Refusal;

    fn refused(kind: ErrorKind) -> InstanceError {
        let refusal = Refusal { status: kind.status(), kind: Some(kind), message: String::new() };
        InstanceError::Refused(refusal)
    }

    #[track_caller]
    fn check_verdict(kinds: &[ErrorKind], expected: &str) {
        let mut refusals = Refusals::default();
        for kind in kinds {
            refusals.add(&refused(*kind));
        }
        let last = refused(*kinds.last().unwrap());
        assert_eq!(refusals.verdict(last).to_string(), expected, "{kinds:?}");
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
        assert_eq!(failed(&InstanceError::TooLarge(1)), None);
    }
}
