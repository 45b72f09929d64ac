//! The control plane's records in etcd, for several routers.
//!
//! One key says of which generation the records are. An operation is decided on a copy that is of the
//! generation that etcd has then (a linearizable read), and written by one transaction that holds only
//! if that is still so. Whatever others wrote comes as changes since.
//!
//! # Invariants
//!
//! - A commit is done at most once, and what was answered is in etcd. After an attempt of which nothing
//!   was heard the generation is asked whether it has the commit.
//! - The last copy is in the router's own file. An etcd that was wiped, or is older than a copy, is
//!   given the newest copy that any router has, loudly; a copy that lost against another history is
//!   kept aside, loudly.
//! - While etcd cannot be asked, nothing changes and the last copy is read.

mod copy;
mod generation;
mod restore;

use super::{Ledger, Records, RecordsError, Write};
use copy::{Copy, Entries, new_id, record};
use generation::{Generation, Standing, standing};
use restore::Restoration;
use shared::{
    backoff::Backoff,
    etcd::{
        Entry, Etcd, EtcdError, Guard, Operation, Page, RETRY, Transaction, directory::Directory,
    },
    telemetry::Chain,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// How long a router that has a copy waits for etcd when it starts, and one that has none: then it
/// would only say that no endpoint is there.
const START_WITH_COPY: Duration = Duration::from_secs(3);
const START_WITHOUT: Duration = Duration::from_secs(20);

/// How long it is not asked again after it could not be: who waits for an answer shall not wait for
/// each of those before.
const COOL_DOWN: Duration = Duration::from_millis(500);

/// How long it is found out what became of a commit.
const COMMIT_PATIENCE: Duration = Duration::from_secs(4);

/// Between the attempts to find out.
const COMMIT_RETRY: Backoff =
    Backoff { base: Duration::from_millis(50), max: Duration::from_millis(500) };

/// Records in etcd. Its methods block; the work is done on the runtime that it was opened in.
#[derive(Debug)]
pub struct EtcdLedger {
    shared: Arc<Shared>,
    runtime: Handle,
    news: watch::Receiver<u64>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    etcd: Etcd,
    /// Who we are to other routers.
    id: String,
    copy: Mutex<Copy>,
}

impl EtcdLedger {
    /// Reads the file and then etcd, which is given the file's records if it has lost them. Starts with
    /// the file alone if etcd does not answer.
    pub async fn open(
        etcd: Etcd,
        file: Arc<dyn Records>,
        path: &Path,
    ) -> Result<Self, RecordsError> {
        let copy = Copy::of_file(file, path)?;
        let has_copy = copy.generation.is_some();
        let shared = Arc::new(Shared { etcd, id: new_id(), copy: Mutex::new(copy) });
        let patience = if has_copy { START_WITH_COPY } else { START_WITHOUT };
        let started = Instant::now();
        let mut n_tries = 0;
        while let Err(error) = shared.catch_up().await {
            let is_definite = matches!(&error, RecordsError::Etcd(it) if it.is_definite());
            if is_definite || (started.elapsed() >= patience && !has_copy) {
                return Err(error);
            }
            if started.elapsed() >= patience {
                warn!(error = %Chain(&error), "starting with the last copy of the records");
                break;
            }
            sleep(RETRY.delay(n_tries)).await;
            n_tries += 1;
        }
        let (publish, news) = watch::channel(0);
        let directory = Directory::start(shared.etcd.clone(), shared.etcd.address().generation());
        let keeper = tokio::spawn(keep(Arc::clone(&shared), directory, publish));
        Ok(Self { shared, runtime: Handle::current(), news, keeper })
    }
}

impl Drop for EtcdLedger {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Ledger for EtcdLedger {
    fn copy(&self) -> Result<Vec<Write>, RecordsError> {
        Ok(self.runtime.block_on(self.shared.copy.lock()).all())
    }

    fn refresh(&self) -> Result<Vec<Write>, RecordsError> {
        self.runtime.block_on(self.shared.refresh())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError> {
        self.runtime.block_on(self.shared.commit(writes))
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.news.clone())
    }
}

/// Tells of other routers' commits, and gives etcd its records back.
async fn keep(shared: Arc<Shared>, directory: Directory, publish: watch::Sender<u64>) {
    let mut views = directory.views();
    let mut n_failed = 0;
    loop {
        if views.borrow_and_update().is_current {
            match shared.restore_if_lost().await {
                Ok(()) => n_failed = 0,
                Err(error) => {
                    warn!(error = %Chain(&error), "records not given back to etcd yet");
                    sleep(RETRY.delay(n_failed)).await;
                    n_failed = n_failed.saturating_add(1);
                    continue;
                }
            }
            publish.send_modify(|n_news| *n_news += 1);
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Makes the copy that of etcd, which gets it if it has lost its own.
    async fn catch_up(&self) -> Result<(), RecordsError> {
        self.restore_if_lost().await?;
        self.follow(&mut *self.copy.lock().await).await.map(drop)
    }

    async fn restore_if_lost(&self) -> Result<(), EtcdError> {
        loop {
            let entry = self.etcd.get(&self.etcd.address().generation()).await?;
            let restoration = {
                let copy = self.copy.lock().await;
                let theirs = entry.as_ref().and_then(parse);
                if standing(copy.generation.as_ref(), theirs.as_ref()) != Standing::Lost {
                    return Ok(());
                }
                let id = new_id();
                Restoration {
                    router: self.id.clone(),
                    known: copy.generation.as_ref().map(Generation::number),
                    generation: match &copy.generation {
                        Some(generation) => generation.restored(id),
                        None => Generation::begin(id, 0),
                    },
                    entries: copy.entries.clone(),
                    replaces: entry.map_or(0, |it| it.modified),
                }
            };
            if restoration.run(&self.etcd).await? {
                info!(n_records = restoration.entries.len(), "records are in etcd");
            }
        }
    }

    async fn refresh(&self) -> Result<Vec<Write>, RecordsError> {
        let mut copy = self.copy.lock().await;
        if copy.failed_at.is_some_and(|at| at.elapsed() < COOL_DOWN) {
            return Err(RecordsError::Unreachable);
        }
        let changes = self.follow(&mut copy).await;
        copy.failed_at = matches!(changes, Err(RecordsError::Etcd(_))).then(Instant::now);
        changes
    }

    /// Brings the copy to what etcd has now, and returns what that changed.
    async fn follow(&self, copy: &mut Copy) -> Result<Vec<Write>, RecordsError> {
        let Some(entry) = self.etcd.get(&self.etcd.address().generation()).await? else {
            return Err(RecordsError::Lost);
        };
        let theirs = understood(&entry)?;
        match standing(copy.generation.as_ref(), Some(&theirs)) {
            Standing::Current if entry.modified == copy.generation_revision => Ok(Vec::new()),
            Standing::Lost => Err(RecordsError::Lost),
            Standing::Behind if copy.revision > 0 => self.take_changes(copy).await,
            Standing::Current | Standing::Behind | Standing::Replaced => self.take_all(copy).await,
            Standing::Forked => {
                copy.keep_aside();
                self.take_all(copy).await
            }
        }
    }

    /// Takes what was written since. Whether something was deleted is told by the number of entries.
    async fn take_changes(&self, copy: &mut Copy) -> Result<Vec<Write>, RecordsError> {
        let prefix = self.etcd.address().records();
        let since = Page { changed_since: copy.revision + 1, ..Page::default() };
        let listed = self.etcd.list(&prefix, since).await?;
        let generation_key = self.etcd.address().generation();
        let Some(entry) = listed.entries.iter().find(|it| it.key == generation_key) else {
            return self.take_all(copy).await;
        };
        let (generation, modified) = (understood(entry)?, entry.modified);
        // Others may have written meanwhile; what counts is what came with it.
        if standing(copy.generation.as_ref(), Some(&generation)) != Standing::Behind {
            return self.take_all(copy).await;
        }
        let mut now = copy.entries.clone();
        now.extend(listed.entries.into_iter().filter_map(|it| record(it, &prefix)));
        // The generation is one of them.
        if listed.n_in_all != now.len() + 1 {
            let page = Page { keys_only: true, revision: listed.revision, ..Page::default() };
            let keys = self.etcd.list(&prefix, page).await?;
            let keys: Entries =
                keys.entries.into_iter().filter_map(|it| record(it, &prefix)).collect();
            now.retain(|key, _| keys.contains_key(key));
        }
        let changes = copy.difference(&now);
        copy.generation_revision = modified;
        copy.take(&changes, generation, listed.revision);
        Ok(changes)
    }

    async fn take_all(&self, copy: &mut Copy) -> Result<Vec<Write>, RecordsError> {
        let prefix = self.etcd.address().records();
        let listed = self.etcd.list(&prefix, Page::default()).await?;
        let generation_key = self.etcd.address().generation();
        let entry = listed.entries.iter().find(|it| it.key == generation_key);
        let entry = entry.ok_or(RecordsError::Lost)?;
        let (generation, modified) = (understood(entry)?, entry.modified);
        let now = listed.entries.into_iter().filter_map(|it| record(it, &prefix)).collect();
        let changes = copy.difference(&now);
        copy.generation_revision = modified;
        copy.take(&changes, generation, listed.revision);
        Ok(changes)
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), RecordsError> {
        let mut copy = self.copy.lock().await;
        let before = copy.generation.clone().ok_or(RecordsError::Lost)?;
        let commit = new_id();
        let next = before.after(&commit);
        let transaction = self.transaction(writes, &next, copy.generation_revision);
        let started = Instant::now();
        let mut n_tries = 0;
        loop {
            match self.etcd.transact(transaction.clone()).await {
                Ok(done) if done.is_done => {
                    copy.generation_revision = done.revision;
                    copy.take(writes, next, done.revision);
                    return Ok(());
                }
                // An attempt of which nothing was heard may have been ours.
                Ok(_) if n_tries > 0 => return self.outcome(&commit, &before).await,
                Ok(_) => return Err(RecordsError::Conflict),
                Err(error) if error.is_definite() => return Err(error.into()),
                Err(error) if started.elapsed() >= COMMIT_PATIENCE => {
                    warn!(error = %Chain(&error), "it is not known whether a change was made");
                    copy.failed_at = Some(Instant::now());
                    return Err(RecordsError::Unknown);
                }
                Err(_) => sleep(COMMIT_RETRY.delay(n_tries)).await,
            }
            n_tries += 1;
        }
    }

    /// Returns what became of a commit after which the generation is another.
    async fn outcome(&self, commit: &str, before: &Generation) -> Result<(), RecordsError> {
        let entry = self.etcd.get(&self.etcd.address().generation()).await;
        let theirs = entry.ok().flatten().as_ref().and_then(parse);
        match theirs {
            // The copy is of before: it follows with the next refresh.
            Some(theirs) if theirs.has(commit) => Ok(()),
            Some(theirs) if theirs.remembers(before) => Err(RecordsError::Conflict),
            _ => Err(RecordsError::Unknown),
        }
    }

    fn transaction(&self, writes: &[Write], next: &Generation, revision: i64) -> Transaction {
        let address = self.etcd.address();
        let operation = |Write { table, key, value }: &Write| {
            let key = format!("{}{}/{key}", address.records(), table.as_str());
            match value {
                Some(value) => Operation::Put { key, value: value.clone(), lease: 0 },
                None => Operation::Delete(key),
            }
        };
        let value = serde_json::to_vec(next).expect("text and numbers can be written");
        let generation = Operation::Put { key: address.generation(), value, lease: 0 };
        Transaction {
            guards: vec![Guard::Unchanged(address.generation(), revision)],
            operations: writes.iter().map(operation).chain([generation]).collect(),
        }
    }
}

fn parse(entry: &Entry) -> Option<Generation> {
    serde_json::from_slice(&entry.value).ok()
}

fn understood(entry: &Entry) -> Result<Generation, RecordsError> {
    serde_json::from_slice(&entry.value).map_err(|error| RecordsError::Malformed {
        table: super::Table::Cluster,
        key: entry.key.clone(),
        reason: error.to_string(),
    })
}
