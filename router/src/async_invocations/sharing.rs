//! Jobs that any router may finish: they lie in etcd, each claimed under the lease of the router that
//! does it. When that lease ends, another claims the job.
//!
//! # Invariants
//!
//! - A job of ours is in our own log before it is in etcd, and leaves that first: so an etcd that is
//!   away or was wiped gets it again, and none is lost. One may be done twice: by who lost its lease
//!   and by who took the job over.
//! - What etcd could not be told is told in the next round.

use super::job::Job;
use shared::{
    etcd::{Entry, Etcd, EtcdError, Guard, Listing, Operation, Page, Transaction},
    telemetry::Chain,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How often it is looked for jobs that nobody does: soon after a lease of three seconds.
pub const ROUND: Duration = Duration::from_secs(1);

/// How long it is remembered that a job was done for a router that was gone: one that comes back within
/// a day does not do it again.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Jobs taken over in one round: each is read whole, and may have to be done at once.
const MAX_TAKEN: usize = 64;

/// The jobs of all routers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sharing {
    etcd: Etcd,
    /// Who we are in claims: where we are reached, so that our former life is known as ours.
    router: String,
    lease: watch::Receiver<Option<i64>>,
    own: Arc<Mutex<Own>>,
}

/// What this router has to do with.
#[derive(Debug, Default)]
struct Own {
    /// Accepted or taken over, and not done.
    open: BTreeSet<String>,
    /// Done, and perhaps still in etcd.
    done: BTreeSet<String>,
    /// Of another router, which may come back and look for it.
    taken: BTreeSet<String>,
}

/// What a round has to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Jobs of ours that etcd does not know.
    tell: Vec<String>,
    /// Jobs that nobody does: ours whose claim was lost, then others'.
    claim: Vec<String>,
    /// Jobs that are done.
    remove: Vec<String>,
}

impl Sharing {
    pub fn new(etcd: Etcd, router: String, lease: watch::Receiver<Option<i64>>) -> Self {
        Self { etcd, router, lease, own: Arc::default() }
    }

    /// Tells of a job of ours. It is ours whether or not etcd hears of it now.
    pub async fn add(&self, job: &Job) {
        let id = &job.head.id;
        self.own().open.insert(id.clone());
        if let Err(error) = self.tell(job).await {
            debug!(job = id, error = %Chain(&error), "a job is not in etcd yet");
        }
    }

    /// Tells that a job is done.
    pub async fn finish(&self, id: &str) {
        {
            let mut own = self.own();
            own.open.remove(id);
            own.done.insert(id.to_owned());
        }
        if let Err(error) = self.remove(id).await {
            debug!(job = id, error = %Chain(&error), "a job that is done is still in etcd");
        }
    }

    /// Counts a job that was taken over, or left over from a former life, as ours.
    pub fn keep(&self, id: &str) {
        self.own().open.insert(id.to_owned());
    }

    /// Returns the jobs that other routers do or have done, as far as etcd can be asked.
    pub async fn others(&self) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        for prefix in [self.etcd.address().claims(), self.etcd.address().done()] {
            match self.etcd.list(&prefix, Page::default()).await {
                Ok(listed) => {
                    let not_ours =
                        listed.entries.iter().filter(|it| it.value != self.router.as_bytes());
                    others.extend(not_ours.map(name));
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "it is not known which jobs others do");
                }
            }
        }
        others
    }

    /// Makes etcd know what we know, and returns the jobs that were taken over. `stored` reads the jobs
    /// of our own log.
    pub async fn round<F: Future<Output = Vec<Job>>>(
        &self,
        stored: impl FnOnce() -> F,
    ) -> Result<Vec<Job>, EtcdError> {
        let Some(lease) = *self.lease.borrow() else { return Ok(Vec::new()) };
        let keys = Page { keys_only: true, ..Page::default() };
        let jobs = self.etcd.list(&self.etcd.address().jobs(), keys).await?;
        let claims = self.etcd.list(&self.etcd.address().claims(), Page::default()).await?;
        let plan = self.plan(&jobs, &claims, lease);
        for id in &plan.remove {
            self.remove(id).await?;
        }
        let is_lacking = |job: &Job| plan.tell.contains(&job.head.id);
        let lacking = if plan.tell.is_empty() { Vec::new() } else { stored().await };
        for job in lacking.into_iter().filter(is_lacking) {
            self.tell(&job).await?;
        }
        let mut taken = Vec::new();
        for id in plan.claim.iter().take(MAX_TAKEN) {
            taken.extend(self.claim(id).await?);
        }
        Ok(taken)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        // Whoever panicked in the middle left sets.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self, jobs: &Listing, claims: &Listing, lease: i64) -> Plan {
        let jobs: BTreeSet<String> = jobs.entries.iter().map(name).collect();
        let mut own = self.own();
        own.done.retain(|id| jobs.contains(id));
        let claimed: BTreeSet<String> = claims.entries.iter().map(name).collect();
        // A claim of this life without a job of ours is left from one that is done.
        let ours = claims.entries.iter().filter(|it| it.lease == lease).map(name);
        let left = ours.filter(|id| !own.open.contains(id));
        let remove: BTreeSet<String> = left.chain(own.done.iter().cloned()).collect();
        let unclaimed = jobs.iter().filter(|id| !claimed.contains(*id) && !remove.contains(*id));
        let (mine, others): (Vec<_>, Vec<_>) = unclaimed.partition(|id| own.open.contains(*id));
        Plan {
            tell: own.open.iter().filter(|id| !jobs.contains(*id)).cloned().collect(),
            claim: mine.into_iter().chain(others).cloned().collect(),
            remove: remove.into_iter().collect(),
        }
    }

    async fn tell(&self, job: &Job) -> Result<(), EtcdError> {
        let id = &job.head.id;
        let Some(lease) = *self.lease.borrow() else { return Ok(()) };
        let put = Operation::Put { key: self.job_key(id), value: job.encode(), lease: 0 };
        let guards = vec![Guard::Absent(self.job_key(id)), Guard::Absent(self.claim_key(id))];
        let operations = vec![put, self.claim_operation(id, lease)];
        self.etcd.transact(Transaction { guards, operations }).await.map(drop)
    }

    /// Claims a job, and returns it if it was not ours already.
    async fn claim(&self, id: &str) -> Result<Option<Job>, EtcdError> {
        let Some(lease) = *self.lease.borrow() else { return Ok(None) };
        let guards = vec![Guard::Present(self.job_key(id)), Guard::Absent(self.claim_key(id))];
        let operations = vec![self.claim_operation(id, lease)];
        let claimed = self.etcd.transact(Transaction { guards, operations }).await?;
        if !claimed.is_done || self.own().open.contains(id) {
            return Ok(None);
        }
        let Some(entry) = self.etcd.get(&self.job_key(id)).await? else { return Ok(None) };
        match Job::decode(&entry.value) {
            Ok(job) => {
                self.own().taken.insert(id.to_owned());
                info!(job = id, "taking over an asynchronous invocation of a router that is gone");
                Ok(Some(job))
            }
            Err(error) => {
                warn!(job = id, %error, "a job cannot be read, and stays where it is");
                self.keep(id);
                Ok(None)
            }
        }
    }

    async fn remove(&self, id: &str) -> Result<(), EtcdError> {
        let mut operations =
            vec![Operation::Delete(self.job_key(id)), Operation::Delete(self.claim_key(id))];
        let is_taken = self.own().taken.contains(id);
        if is_taken {
            let (key, value) = (format!("{}{id}", self.etcd.address().done()), self.router.clone());
            let lease = self.etcd.grant(REMEMBERED).await?;
            operations.push(Operation::Put { key, value: value.into_bytes(), lease });
        }
        self.etcd.transact(Transaction { guards: Vec::new(), operations }).await?;
        let mut own = self.own();
        own.done.remove(id);
        own.taken.remove(id);
        Ok(())
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

fn name(entry: &Entry) -> String {
    entry.key.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::etcd::Access;

    const LEASE: i64 = 7;

    fn sharing(open: &[&str], done: &[&str]) -> Sharing {
        let etcd = Etcd::new(Access::open("etcd://127.0.0.1:1/m".parse().unwrap()));
        let sharing = Sharing::new(etcd, "me".to_owned(), watch::channel(Some(LEASE)).1);
        *sharing.own() = Own { open: set(open), done: set(done), ..Own::default() };
        sharing
    }

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn listing(entries: &[(&str, i64)]) -> Listing {
        let entry = |(id, lease): &(&str, i64)| Entry {
            key: format!("/m/any/{id}"),
            value: Vec::new(),
            modified: 1,
            lease: *lease,
        };
        Listing { entries: entries.iter().map(entry).collect(), ..Listing::default() }
    }

    /// What is told, claimed and removed.
    fn plan(sharing: &Sharing, jobs: &[&str], claims: &[(&str, i64)]) -> [String; 3] {
        let jobs: Vec<_> = jobs.iter().map(|id| (*id, 0)).collect();
        let Plan { tell, claim, remove } = sharing.plan(&listing(&jobs), &listing(claims), LEASE);
        [tell, claim, remove].map(|ids| ids.concat())
    }

    #[test]
    fn jobs_of_a_router_that_is_gone_are_taken_over() {
        let ours = sharing(&["a"], &[]);
        assert_eq!(plan(&ours, &["a", "b", "c"], &[("a", LEASE), ("b", 8)]), ["", "c", ""]);
    }

    #[test]
    fn what_etcd_has_lost_is_told_again_and_claimed_again() {
        assert_eq!(plan(&sharing(&["a", "b"], &[]), &["b"], &[]), ["a", "b", ""]);
    }

    #[test]
    fn what_is_done_is_removed_and_never_taken_over() {
        assert_eq!(plan(&sharing(&[], &["a", "gone"]), &["a"], &[]), ["", "", "a"]);
        assert_eq!(plan(&sharing(&[], &[]), &["a"], &[("a", LEASE)]), ["", "", "a"]);
    }

    #[test]
    fn what_a_former_life_claimed_is_left_until_its_lease_ends() {
        assert_eq!(plan(&sharing(&["a"], &[]), &["a", "b"], &[("a", 6), ("b", 6)]), ["", "", ""]);
    }
}
