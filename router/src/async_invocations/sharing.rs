//! Jobs that any router may finish: they lie in etcd, each claimed under the lease of the router that
//! does it. When that lease ends, another claims the job.
//!
//! # Invariants
//!
//! - A job of ours is in our own log before it is in etcd, and leaves that first: so an etcd that is
//!   away or was wiped gets it again, and none is lost. One may be done twice: by who lost its lease
//!   and by who took the job over.
//! - What etcd could not be told is told in the next round. What becomes of which job is decided by
//!   [`policy::jobs`](crate::policy::jobs).

use super::job::Job;
use crate::policy::jobs::{Claim, Jobs, Plan, Seen};
use shared::{
    etcd::{Entry, Etcd, EtcdError, Guard, Listing, Operation, Page, Transaction, outage::Outage},
    telemetry::{Chain, Excerpt},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};

/// How often it is looked for jobs that nobody does: soon after a lease of three seconds.
pub const ROUND: Duration = Duration::from_secs(1);

/// How long it is remembered that a job was done for a router that was gone: one that comes back within
/// a day does not do it again.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Jobs taken over in one round: each is read whole, and may have to be done at once.
const MAX_TAKEN: usize = 64;

/// Failures in a row after which a round leaves the rest of one kind of work to the next: each may have
/// waited for an etcd that hangs.
const MAX_FAILURES: u32 = 3;

/// The jobs of all routers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sharing {
    etcd: Etcd,
    /// Who we are in claims: where we are reached, so that our former life is known as ours.
    router: String,
    lease: watch::Receiver<Option<i64>>,
    jobs: Arc<Mutex<Jobs>>,
    outage: Arc<Mutex<Outage>>,
}

/// A job that is claimed for us, and its place in our queue.
#[derive(Debug)]
pub struct Taken {
    pub job: Job,
    pub place: OwnedSemaphorePermit,
}

/// How a round went.
#[derive(Debug, Default)]
struct Round {
    taken: Vec<Taken>,
    n_failures_in_a_row: u32,
    /// The first failure.
    failure: Option<EtcdError>,
}

impl Sharing {
    pub fn new(etcd: Etcd, router: String, lease: watch::Receiver<Option<i64>>) -> Self {
        Self { etcd, router, lease, jobs: Arc::default(), outage: Arc::default() }
    }

    /// Returns the lease that claims are made under, and what tells of its changes.
    pub fn lease(&self) -> watch::Receiver<Option<i64>> {
        self.lease.clone()
    }

    /// Tells of a job of ours. It is ours whether or not etcd hears of it now.
    pub async fn add(&self, job: &Job) {
        let id = &job.head.id;
        self.jobs().open(id);
        if let Err(error) = self.tell(job).await {
            debug!(job = id, error = %Chain(&error), "a job is not in etcd yet");
        }
    }

    /// Tells that a job is done.
    pub async fn finish(&self, id: &str) {
        self.jobs().done(id);
        // Nothing of ours is claimed without a lease: a round removes it.
        let Some(lease) = *self.lease.borrow() else { return };
        if let Err(error) = self.remove(id, Some(lease)).await {
            debug!(job = id, error = %Chain(&error), "a job that is done is still in etcd");
        }
    }

    /// Counts a job that was taken over, or left over from a former life, as ours.
    pub fn keep(&self, id: &str) {
        self.jobs().open(id);
    }

    /// Returns the jobs that other routers do or have done, as far as etcd can be asked.
    pub async fn others(&self) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        for prefix in [self.etcd.address().claims(), self.etcd.address().done()] {
            match self.etcd.list(&prefix, Page::default()).await {
                Ok(listed) => {
                    let not_ours = listed.entries.iter().filter(|it| !self.is_own(it));
                    others.extend(not_ours.map(name));
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "it is not known which jobs others do");
                }
            }
        }
        others
    }

    /// Makes etcd know what we know, and takes over jobs that nobody does, as many as there are places.
    /// `stored` reads the jobs of our own log. What fails is tried again in the next round.
    pub async fn round<F: Future<Output = Vec<Job>>>(
        &self,
        stored: impl FnOnce() -> F,
        places: &Arc<Semaphore>,
    ) -> Vec<Taken> {
        let mut round = Round::default();
        if let Err(error) = self.go_round(&mut round, stored, places).await {
            self.jobs().interrupted();
            round.failure = Some(error);
        }
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match round.failure.map(|error| Chain(&error).to_string()) {
            Some(reason) if outage.is_news(&reason) => {
                warn!(
                    reason,
                    "jobs are not shared with other routers as they should; trying again"
                );
            }
            None if outage.is_over() => info!("jobs are shared with other routers again"),
            _ => {}
        }
        round.taken
    }

    async fn go_round<F: Future<Output = Vec<Job>>>(
        &self,
        round: &mut Round,
        stored: impl FnOnce() -> F,
        places: &Arc<Semaphore>,
    ) -> Result<(), EtcdError> {
        let Some(lease) = *self.lease.borrow() else {
            self.jobs().interrupted();
            return Ok(());
        };
        self.jobs().begin();
        let seen = self.look().await?;
        let plan = self.jobs().plan(&seen, lease);
        for (id, lease) in &plan.remove {
            if !round.goes_on(self.remove(id, *lease).await) {
                break;
            }
        }
        round.n_failures_in_a_row = 0;
        let lacking = if plan.tell.is_empty() { Vec::new() } else { stored().await };
        for job in lacking.iter().filter(|job| plan.tell.contains(&job.head.id)) {
            // It may be done since.
            let is_open = self.jobs().is_open(&job.head.id);
            if is_open && !round.goes_on(self.tell(job).await) {
                break;
            }
        }
        round.n_failures_in_a_row = 0;
        for id in &plan.claim {
            if !round.goes_on(self.claim(id, lease).await.map(drop)) {
                break;
            }
        }
        round.n_failures_in_a_row = 0;
        self.take_over(round, &plan, lease, places).await;
        Ok(())
    }

    async fn take_over(&self, round: &mut Round, plan: &Plan, lease: i64, places: &Arc<Semaphore>) {
        let to_claim = plan.take.iter().map(|id| (id, Some(lease)));
        let to_take = plan.read.iter().map(|id| (id, None)).chain(to_claim);
        for (id, claim_under) in to_take.take(MAX_TAKEN) {
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
            let taken = self.take(id, claim_under).await;
            let taken = taken.map(|job| round.taken.extend(job.map(|job| Taken { job, place })));
            if !round.goes_on(taken) {
                return;
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // Whoever panicked in the middle left what can be explained from etcd.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the jobs of all routers and who does them, both of one moment.
    async fn look(&self) -> Result<Seen, EtcdError> {
        let keys = Page { keys_only: true, ..Page::default() };
        let jobs = self.etcd.list(&self.etcd.address().jobs(), keys).await?;
        let then = Page { revision: jobs.revision, ..Page::default() };
        let claims: Listing = self.etcd.list(&self.etcd.address().claims(), then).await?;
        let claim = |it: &Entry| (name(it), Claim { lease: it.lease, is_own: self.is_own(it) });
        Ok(Seen {
            jobs: jobs.entries.iter().map(name).collect(),
            claims: claims.entries.iter().map(claim).collect(),
        })
    }

    fn is_own(&self, claim: &Entry) -> bool {
        claim.value == self.router.as_bytes()
    }

    async fn tell(&self, job: &Job) -> Result<(), EtcdError> {
        let id = &job.head.id;
        let Some(lease) = *self.lease.borrow() else { return Ok(()) };
        let put = Operation::Put { key: self.job_key(id), value: job.encode(), lease: 0 };
        let guards = vec![Guard::Absent(self.job_key(id)), Guard::Absent(self.claim_key(id))];
        let operations = vec![put, self.claim_operation(id, lease)];
        self.etcd.transact(Transaction { guards, operations }).await.map(drop)
    }

    /// Claims a job that nobody does. Returns whether that was so.
    async fn claim(&self, id: &str, lease: i64) -> Result<bool, EtcdError> {
        let guards = vec![Guard::Present(self.job_key(id)), Guard::Absent(self.claim_key(id))];
        let operations = vec![self.claim_operation(id, lease)];
        self.etcd.transact(Transaction { guards, operations }).await.map(|it| it.is_done)
    }

    /// Claims a job, unless it is claimed for us already, and returns it.
    async fn take(&self, id: &str, claim_under: Option<i64>) -> Result<Option<Job>, EtcdError> {
        // Before etcd is asked: whatever becomes of the answer, it may be ours from now on.
        self.jobs().claiming(id);
        if let Some(lease) = claim_under
            && !self.claim(id, lease).await?
        {
            return Ok(None);
        }
        let Some(entry) = self.etcd.get(&self.job_key(id)).await? else { return Ok(None) };
        match Job::decode(&entry.value) {
            Ok(job) => {
                info!(job = id, "taking over an asynchronous invocation of a router that is gone");
                Ok(Some(job))
            }
            Err(error) => {
                let error = Excerpt(error);
                warn!(job = id, %error, "a job cannot be read, and stays where it is");
                self.keep(id);
                Ok(None)
            }
        }
    }

    /// Removes a job that is done, if its claim is still as it was seen: `None`: there was none.
    async fn remove(&self, id: &str, lease: Option<i64>) -> Result<(), EtcdError> {
        let guard = match lease {
            Some(lease) => Guard::Leased(self.claim_key(id), lease),
            None => Guard::Absent(self.claim_key(id)),
        };
        let mut operations =
            vec![Operation::Delete(self.job_key(id)), Operation::Delete(self.claim_key(id))];
        let is_taken = self.jobs().is_taken(id);
        if is_taken {
            let (key, value) = (format!("{}{id}", self.etcd.address().done()), self.router.clone());
            let lease = self.etcd.grant(REMEMBERED).await?;
            operations.push(Operation::Put { key, value: value.into_bytes(), lease });
        }
        self.etcd.transact(Transaction { guards: vec![guard], operations }).await.map(drop)
    }

    fn claim_operation(&self, id: &str, lease: i64) -> Operation {
        Operation::Put { key: self.claim_key(id), value: self.router.clone().into_bytes(), lease }
    }

    fn job_key(&self, id: &str) -> String {
        format!("{}{id}", self.etcd.address().jobs())
    }

    fn claim_key(&self, id: &str) -> String {
        format!("{}{id}", self.etcd.address().claims())
    }
}

impl Round {
    /// Takes what came of one job. Returns whether to go on with the next.
    fn goes_on(&mut self, outcome: Result<(), EtcdError>) -> bool {
        match outcome {
            Ok(()) => self.n_failures_in_a_row = 0,
            Err(error) => {
                self.n_failures_in_a_row += 1;
                self.failure.get_or_insert(error);
            }
        }
        self.n_failures_in_a_row < MAX_FAILURES
    }
}

fn name(entry: &Entry) -> String {
    entry.key.rsplit('/').next().unwrap_or_default().to_owned()
}
