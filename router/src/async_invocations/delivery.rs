//! Brings what came of a job to its place in S3.
//!
//! A store that does not answer puts the writing off, and only that: the outcome is kept, so that the
//! model is not invoked again. Put-off jobs hold answers within a budget; one that does not fit keeps
//! its running place until it is written, and so counts where every running answer does.

use super::{Accepted, job::JobHead};
use crate::{
    http::error::document,
    objects::{ObjectAddress, Objects},
};
use bytes::Bytes;
use shared::telemetry::Chain;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, error};

/// The unit of the budget: a semaphore counts no more than 32 bits at a time.
const KIB: u64 = 1024;

/// What is to be written.
#[derive(Debug)]
pub struct Delivery {
    content_type: String,
    body: Bytes,
    is_failure: bool,
    /// Its part of the budget while the job is put off.
    held: Option<OwnedSemaphorePermit>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Nothing is left to do, also where the store never took it.
    Done,
    /// The store did not answer.
    Later,
}

/// Writes outcomes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deliveries {
    objects: Objects,
    /// KiB of answers that put-off jobs may hold.
    budget: Arc<Semaphore>,
}

impl Delivery {
    pub fn answer(content_type: String, body: Bytes) -> Self {
        Self { content_type, body, is_failure: false, held: None }
    }

    pub fn failure(document: Vec<u8>) -> Self {
        let content_type = "application/json".to_owned();
        Self { content_type, body: document.into(), is_failure: true, held: None }
    }

    fn place<'a>(&self, head: &'a JobHead) -> Option<&'a ObjectAddress> {
        if self.is_failure { head.failure.as_ref() } else { Some(&head.output) }
    }
}

impl Deliveries {
    /// Put-off jobs hold at most `max_bytes`.
    pub fn new(objects: Objects, max_bytes: u64) -> Self {
        let n_kib = usize::try_from(max_bytes / KIB).unwrap_or(usize::MAX);
        Self { objects, budget: Arc::new(Semaphore::new(n_kib.min(Semaphore::MAX_PERMITS))) }
    }

    /// Writes a delivery. Where the store refuses an answer for good, the failure says so.
    pub async fn write(&self, head: &JobHead, delivery: &mut Delivery) -> Delivered {
        loop {
            let Some(place) = delivery.place(head) else { return Delivered::Done };
            let Delivery { content_type, body, .. } = &*delivery;
            let written = self.objects.write(place, content_type, body.clone()).await;
            let Err(error) = written else { return Delivered::Done };
            let reason = Chain(&error);
            if !error.is_definite() && !head.is_lost(SystemTime::now()) {
                debug!(job = head.id, error = %reason, "writing an outcome is put off");
                return Delivered::Later;
            }
            error!(
                job = head.id, endpoint = %head.endpoint, error = %reason,
                "the outcome of a job was not written"
            );
            if delivery.is_failure || !error.is_definite() {
                return Delivered::Done;
            }
            let message = format!("Failed to write the output: {error}.");
            *delivery = Delivery::failure(document("ValidationError", &message));
        }
    }

    /// Returns whether a job that is put off may hold its outcome.
    pub fn hold(&self, accepted: &mut Accepted) -> bool {
        let Some(delivery) = accepted.delivery.as_mut().filter(|it| it.held.is_none()) else {
            return true;
        };
        let n_kib = u32::try_from((delivery.body.len() as u64).div_ceil(KIB)).unwrap_or(u32::MAX);
        delivery.held = Arc::clone(&self.budget).try_acquire_many_owned(n_kib).ok();
        delivery.held.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::job::tests::job, *};
    use crate::config::ObjectsConfig;

    #[test]
    fn put_off_answers_stay_within_their_budget() {
        let config = ObjectsConfig { s3_endpoint: None, s3_region: None };
        let deliveries = Deliveries::new(Objects::new(config), 2 * KIB);
        let answered = |size| {
            let mut accepted = Accepted::new(job("a", b""), None);
            let body = Bytes::from(vec![0; size]);
            accepted.delivery = Some(Delivery::answer("text/plain".to_owned(), body));
            accepted
        };
        let (mut first, mut second) = (answered(1025), answered(1));
        assert!(deliveries.hold(&mut first) && deliveries.hold(&mut first), "it holds it once");
        assert!(!deliveries.hold(&mut second));
        drop(first);
        assert!(deliveries.hold(&mut second));
        assert!(deliveries.hold(&mut Accepted::new(job("b", b""), None)), "it has no outcome");
    }
}
