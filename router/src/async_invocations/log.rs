//! The jobs that were accepted and are not done: in the router's own records, and shared with other
//! routers where there are any.

use super::{
    job::Job,
    sharing::{Sharing, Taken},
};
use crate::records::{Records, RecordsError, Table, Write};
use shared::telemetry::Chain;
use std::sync::Arc;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};
use tracing::error;

const TABLE: Table = Table::AsyncInvocations;

/// Keeps jobs. Cheap to clone. Disks are waited for on threads made for it.
#[derive(Clone, Debug)]
pub struct JobLog {
    records: Arc<dyn Records>,
    /// `None`: this router is alone.
    sharing: Option<Sharing>,
}

impl JobLog {
    /// Keeps jobs in these records, and in etcd where routers share them.
    pub fn new(records: Arc<dyn Records>, sharing: Option<Sharing>) -> Self {
        Self { records, sharing }
    }

    /// Once this returns, the job is there after a kill.
    pub async fn add(&self, job: &Job) -> Result<(), RecordsError> {
        self.write(job.head.id.clone(), Some(job.encode())).await?;
        if let Some(sharing) = &self.sharing {
            sharing.add(job).await;
        }
        Ok(())
    }

    /// Forgets a job that is done.
    pub async fn finish(&self, id: &str) -> Result<(), RecordsError> {
        let done = self.write(id.to_owned(), None).await;
        if let Some(sharing) = &self.sharing {
            sharing.finish(id).await;
        }
        done
    }

    /// Returns the jobs of a former life that nobody else does now, in the order in which they were
    /// accepted.
    pub async fn left_over(&self) -> Result<Vec<Job>, RecordsError> {
        let mut jobs = self.all().await?;
        let Some(sharing) = &self.sharing else { return Ok(jobs) };
        let others = sharing.others().await;
        for job in jobs.extract_if(.., |job| others.contains(&job.head.id)) {
            self.write(job.head.id, None).await?;
        }
        for job in &jobs {
            sharing.keep(&job.head.id);
        }
        Ok(jobs)
    }

    /// Makes etcd know what we know, and takes over jobs of routers that are gone, as many as there are
    /// places. They are ours now.
    pub async fn take_over(&self, places: &Arc<Semaphore>) -> Vec<Taken> {
        let Some(sharing) = &self.sharing else { return Vec::new() };
        let stored = async || self.all().await.unwrap_or_default();
        let taken = sharing.round(stored, places).await;
        for Taken { job, .. } in &taken {
            if let Err(error) = self.write(job.head.id.clone(), Some(job.encode())).await {
                // It is in etcd all the same.
                error!(error = %Chain(&error), "a job that was taken over is not in our own log");
            }
            sharing.keep(&job.head.id);
        }
        taken
    }

    /// Returns the lease by which jobs are claimed, and what tells of its changes; `None`: this router
    /// shares its jobs with nobody.
    pub fn lease(&self) -> Option<watch::Receiver<Option<i64>>> {
        self.sharing.as_ref().map(Sharing::lease)
    }

    /// Returns the jobs in the order in which they were accepted.
    async fn all(&self) -> Result<Vec<Job>, RecordsError> {
        let records = Arc::clone(&self.records);
        let entries = blocking(move || records.all(TABLE)).await?;
        let mut jobs: Vec<Job> = entries.iter().filter_map(decode).collect();
        jobs.sort_by_key(|job| job.head.accepted_at_ms);
        Ok(jobs)
    }

    async fn write(&self, key: String, value: Option<Vec<u8>>) -> Result<(), RecordsError> {
        let records = Arc::clone(&self.records);
        blocking(move || records.commit(&[Write { table: TABLE, key, value }])).await
    }
}

/// A job that cannot be read keeps no other from being done. It stays where it is.
fn decode((id, value): &(String, Vec<u8>)) -> Option<Job> {
    Job::decode(value).inspect_err(|error| error!(id, %error, "a job cannot be read")).ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordsError> + Send + 'static,
) -> Result<T, RecordsError> {
    let outcome = spawn_blocking(work).await;
    outcome.unwrap_or_else(|panic| Err(RecordsError::Storage(Arc::new(panic))))
}
