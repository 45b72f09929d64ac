//! Invocations that are accepted now and answered later, into S3.
//!
//! # Invariants
//!
//! - A job is in the records before its client hears of it, and leaves them after its outcome is in
//!   S3: each is done at least once, also over a kill.
//! - At most so many jobs are there as the queue holds, and at most so many run as may.
//!
//! [`runner`] does the jobs, in the order of [`schedule`]; [`log`] keeps them.

pub mod job;
pub mod log;
pub mod output;
pub mod runner;
pub mod schedule;

use self::{job::Job, log::JobLog};
use crate::records::RecordsError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Takes jobs. Cheap to clone; the same on every HTTP thread.
#[derive(Clone, Debug)]
pub struct AsyncInvocations {
    log: JobLog,
    places: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Accepted>,
}

/// What the runner takes jobs from.
#[derive(Debug)]
pub struct Queue {
    log: JobLog,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

/// A job that is in the log.
#[derive(Debug)]
pub struct Accepted {
    pub job: Job,
    /// How often it was put off.
    pub n_put_off: u32,
    /// Its place in the queue; jobs from before a restart may be more than there are places.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the queue is full")]
    Full,
    #[error("the job could not be recorded")]
    Records(#[from] RecordsError),
    #[error("the router is stopping")]
    Stopping,
}

impl AsyncInvocations {
    /// Returns the two ends of a queue of at most `max_jobs`.
    pub fn new(log: JobLog, max_jobs: usize) -> (Self, Queue) {
        // Every message holds a place: the semaphore bounds the channel.
        let (queue, accepted) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(max_jobs));
        (Self { log: log.clone(), places, queue }, Queue { log, accepted })
    }

    /// Records a job, and hands it to the runner. Once this returns, it will be done.
    pub async fn accept(&self, job: Job) -> Result<(), AcceptError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AcceptError::Full)?;
        let Self { log, queue, .. } = self.clone();
        // In a task of its own: a client that leaves must not part the job from its record.
        let accepting = tokio::spawn(async move {
            log.add(&job).await?;
            let accepted = Accepted { job, n_put_off: 0, place: Some(place) };
            queue.send(accepted).map_err(|_| AcceptError::Stopping)
        });
        accepting.await.unwrap_or(Err(AcceptError::Stopping))
    }
}

impl Queue {
    pub fn log(&self) -> JobLog {
        self.log.clone()
    }

    /// Returns what was accepted before a restart, and is not done.
    pub async fn left_over(&self) -> Result<Vec<Accepted>, RecordsError> {
        let jobs = self.log.all().await?;
        Ok(jobs.into_iter().map(|job| Accepted { job, n_put_off: 0, place: None }).collect())
    }

    /// Returns `None` once nobody can accept any more.
    pub async fn next(&mut self) -> Option<Accepted> {
        self.accepted.recv().await
    }
}

#[cfg(test)]
mod tests;
