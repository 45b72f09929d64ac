//! Invocations that are accepted now and answered later, into S3.
//!
//! # Invariants
//!
//! - A job is in the records before its client hears of it, and leaves them after its outcome is in
//!   S3: each is done at least once, also over a kill.
//! - No more jobs are accepted or taken over than the queue has places; only those that a former life
//!   left may be more. At most so many run as may.
//!
//! With several routers any of them may finish a job: see [`sharing`].
//!
//! [`runner`] does the jobs, in the order of [`schedule`]; [`delivery`] brings their outcomes to
//! their places; [`log`] keeps them.

pub mod delivery;
pub mod job;
pub mod log;
pub mod output;
pub mod runner;
pub mod schedule;
pub mod sharing;

use self::{
    delivery::Delivery,
    job::Job,
    log::JobLog,
    sharing::{ROUND, Taken},
};
use crate::records::RecordsError;
use shared::telemetry::Chain;
use std::{collections::VecDeque, sync::Arc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};
use tracing::error;

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
    /// What was accepted before a restart, and is not done.
    left_over: VecDeque<Accepted>,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

/// A job that is in the log.
#[derive(Debug)]
pub struct Accepted {
    pub job: Job,
    /// How often it was put off.
    pub n_put_off: u32,
    /// What is to be written, once that is known: then the model is not invoked again.
    pub delivery: Option<Delivery>,
    /// Its place in the queue; `None`: it is from before a restart, when there were more than places.
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
    /// Returns the two ends of a queue of at most `max_jobs`. What was left over is read here, before
    /// anybody can accept more: so no job comes twice.
    pub async fn open(log: JobLog, max_jobs: usize) -> Result<(Self, Queue), RecordsError> {
        // Every message holds a place: the semaphore bounds the channel.
        let (queue, accepted) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(max_jobs));
        let place = || Arc::clone(&places).try_acquire_owned().ok();
        let jobs = log.left_over().await?.into_iter();
        let left_over = jobs.map(|job| Accepted::new(job, place())).collect();
        Ok((Self { log: log.clone(), places, queue }, Queue { log, left_over, accepted }))
    }

    /// Records a job, and hands it to the runner. Once this returns, it will be done.
    pub async fn accept(&self, job: Job) -> Result<(), AcceptError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AcceptError::Full)?;
        let Self { log, queue, .. } = self.clone();
        // In a task of its own: a client that leaves must not part the job from its record.
        let accepting = tokio::spawn(async move {
            log.add(&job).await?;
            let Err(refused) = queue.send(Accepted::new(job, Some(place))) else {
                return Ok(());
            };
            // Its client is told that it was not accepted: then nobody may do it later.
            if let Err(error) = log.finish(&refused.0.job.head.id).await {
                error!(error = %Chain(&error), "a job that was refused stays in the records");
            }
            Err(AcceptError::Stopping)
        });
        accepting.await.unwrap_or(Err(AcceptError::Stopping))
    }
}

impl AsyncInvocations {
    /// Takes jobs over from routers that are gone, for as long as there is a runner.
    pub async fn share(self) {
        let Some(mut lease) = self.log.lease() else {
            // There is nobody to share with.
            return std::future::pending().await;
        };
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                // With a new one our jobs are claimed anew before others think that we are gone.
                Ok(()) = lease.changed() => {}
            }
            for Taken { job, place } in self.log.take_over(&self.places).await {
                if self.queue.send(Accepted::new(job, Some(place))).is_err() {
                    return;
                }
            }
        }
    }
}

impl Queue {
    pub fn log(&self) -> JobLog {
        self.log.clone()
    }

    pub fn n_left_over(&self) -> usize {
        self.left_over.len()
    }

    /// Returns what was left over, then what comes; `None` once nobody can accept any more.
    pub async fn next(&mut self) -> Option<Accepted> {
        match self.left_over.pop_front() {
            Some(accepted) => Some(accepted),
            None => self.accepted.recv().await,
        }
    }
}

impl Accepted {
    fn new(job: Job, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { job, n_put_off: 0, delivery: None, place }
    }
}

#[cfg(test)]
mod tests;
