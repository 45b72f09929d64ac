//! The jobs that were accepted and are not done, in the router's records.

use super::job::Job;
use crate::records::{Records, RecordsError, Table, Write};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tracing::error;

const TABLE: Table = Table::AsyncInvocations;

/// Keeps jobs. Cheap to clone. Disks are waited for on threads made for it.
#[derive(Clone, Debug)]
pub struct JobLog(Arc<dyn Records>);

impl JobLog {
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self(records)
    }

    /// Once this returns, the job is there after a kill.
    pub async fn add(&self, job: &Job) -> Result<(), RecordsError> {
        self.write(job.head.id.clone(), Some(job.encode())).await
    }

    pub async fn finish(&self, id: &str) -> Result<(), RecordsError> {
        self.write(id.to_owned(), None).await
    }

    /// Returns the jobs in the order in which they were accepted.
    pub async fn all(&self) -> Result<Vec<Job>, RecordsError> {
        let records = Arc::clone(&self.0);
        let entries = blocking(move || records.all(TABLE)).await?;
        let mut jobs: Vec<Job> = entries.iter().filter_map(decode).collect();
        jobs.sort_by_key(|job| job.head.accepted_at_ms);
        Ok(jobs)
    }

    async fn write(&self, key: String, value: Option<Vec<u8>>) -> Result<(), RecordsError> {
        let records = Arc::clone(&self.0);
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
