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
//!   kept aside, loudly. Only an etcd that has nothing, or an older state of the same records, has lost
//!   something: what is there but cannot be read is left alone.
//! - While etcd cannot be asked, nothing changes and the last copy is read, at once.

mod commit;
mod copy;
mod generation;
mod restore;
mod start;

use super::{Ledger, Records, RecordsError, Write};
use copy::{Aside, Copy, Entries, new_id, record};
use generation::{Generation, Kind, Standing, standing};
use restore::Restoration;
use shared::{
    etcd::{
        Entry, Etcd, Page, RETRY,
        directory::{Directory, View},
    },
    telemetry::{Chain, Excerpt},
};
use start::{AfterFailure, CatchUpError, after_failure};
use std::{fmt::Display, path::Path, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// How long it is not asked again after it could not be: who waits for an answer shall not wait for
/// each of those before.
const COOL_DOWN: Duration = Duration::from_millis(500);

/// The same while it cannot be watched either, which tells that it is back: asked all the same, now and
/// then, because a watch may fail alone.
const LONG_COOL_DOWN: Duration = Duration::from_secs(5);

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
    /// The generation, as it is watched.
    views: watch::Receiver<View>,
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
        let copy = Mutex::new(Copy::of_file(file, path)?);
        let directory = Directory::start(etcd.clone(), etcd.address().generation());
        let shared = Arc::new(Shared { etcd, id: new_id(), views: directory.views(), copy });
        shared.start().await?;
        let (publish, news) = watch::channel(0);
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
        self.runtime.block_on(self.shared.commit(writes, Kind::Change))
    }

    fn seed(&self, writes: &[Write]) -> Result<(), RecordsError> {
        self.runtime.block_on(self.shared.commit(writes, Kind::Seed))
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.news.clone())
    }
}

/// Tells of other routers' commits, and gives etcd its records back.
async fn keep(shared: Arc<Shared>, directory: Directory, publish: watch::Sender<u64>) {
    let mut views = directory.views();
    let mut n_failed = 0;
    let mut known = None;
    loop {
        if views.borrow_and_update().is_current {
            match shared.restore_if_lost().await {
                Ok(true) => (n_failed, known) = (0, None),
                // Somebody else does it: that takes a while.
                Ok(false) => continue,
                Err(error) => {
                    // News, not every attempt: it may last until somebody does something.
                    let reason = Chain(&error).to_string();
                    if known.as_ref() != Some(&reason) {
                        warn!(reason, "it cannot be told or mended whether etcd has lost records");
                    }
                    known = Some(reason);
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

/// Whether etcd is asked, which could not be for a while; `None`: it could be.
fn may_ask(cannot_since: Option<Duration>, is_watched: bool) -> bool {
    let cool_down = if is_watched { COOL_DOWN } else { LONG_COOL_DOWN };
    cannot_since.is_none_or(|since| since >= cool_down)
}

impl Shared {
    async fn start(&self) -> Result<(), RecordsError> {
        let has_copy = self.copy.lock().await.generation.is_some();
        let started = Instant::now();
        let mut n_tries = 0;
        while let Err(error) = self.catch_up().await {
            match after_failure(&error, has_copy, started.elapsed()) {
                AfterFailure::TryAgain => sleep(RETRY.delay(n_tries)).await,
                AfterFailure::StartWithCopy => {
                    warn!(error = %Chain(&error), "starting with the last copy of the records");
                    return Ok(());
                }
                AfterFailure::End => return Err(error.into()),
            }
            n_tries += 1;
        }
        Ok(())
    }

    /// Makes the copy that of etcd, which gets it if it has lost its own.
    async fn catch_up(&self) -> Result<(), CatchUpError> {
        self.restore_if_lost().await?;
        let copy = &mut *self.copy.lock().await;
        Ok(self.follow(copy).await.map(drop)?)
    }

    /// Returns whether etcd has records; if not, another router is about to give it some.
    async fn restore_if_lost(&self) -> Result<bool, CatchUpError> {
        let Some(restoration) = self.lost().await? else {
            return Ok(true);
        };
        let is_done = restoration.run(&self.etcd).await.map_err(CatchUpError::Restoring)?;
        if is_done {
            info!(n_records = restoration.entries.len(), "records are in etcd");
        }
        Ok(is_done)
    }

    /// Returns what to give etcd, if it has lost something.
    async fn lost(&self) -> Result<Option<Restoration>, RecordsError> {
        // First: a commit of ours between a look at etcd and one at the copy would look like a loss.
        let copy = self.copy.lock().await;
        let entry = self.etcd.get(&self.etcd.address().generation()).await?;
        let theirs = entry.as_ref().map(understood).transpose()?;
        if standing(copy.generation.as_ref(), theirs.as_ref()) != Standing::Lost {
            return Ok(None);
        }
        let id = new_id();
        Ok(Some(Restoration {
            router: self.id.clone(),
            known: copy.generation.as_ref().map(Generation::number),
            generation: match &copy.generation {
                Some(generation) => generation.restored(id),
                None => Generation::begin(id, 0),
            },
            entries: copy.entries.clone(),
            replaces: entry.map_or(0, |it| it.modified),
        }))
    }

    async fn refresh(&self) -> Result<Vec<Write>, RecordsError> {
        let mut copy = self.copy.lock().await;
        let cannot_since = copy.failed_at.map(|it| it.elapsed());
        if !may_ask(cannot_since, self.views.borrow().is_current) {
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
            Standing::Current
            | Standing::Behind
            | Standing::Replaced
            | Standing::Forked
            | Standing::Distant => self.take_all(copy).await,
        }
    }

    /// Takes what was written since. Whether something was deleted is told by the number of entries.
    async fn take_changes(&self, copy: &mut Copy) -> Result<Vec<Write>, RecordsError> {
        let prefix = self.etcd.address().records();
        let since = Page { changed_since: copy.revision.saturating_add(1), ..Page::default() };
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

    /// Takes everything, and keeps aside what is lost by that.
    async fn take_all(&self, copy: &mut Copy) -> Result<Vec<Write>, RecordsError> {
        let prefix = self.etcd.address().records();
        let listed = self.etcd.list(&prefix, Page::default()).await?;
        let generation_key = self.etcd.address().generation();
        let entry = listed.entries.iter().find(|it| it.key == generation_key);
        let entry = entry.ok_or(RecordsError::Lost)?;
        let (generation, modified) = (understood(entry)?, entry.modified);
        // What it is now, which may be another than made us ask for it.
        match standing(copy.generation.as_ref(), Some(&generation)) {
            Standing::Lost => return Err(RecordsError::Lost),
            Standing::Forked => copy.keep_aside(Aside::Forked),
            Standing::Distant => copy.keep_aside(Aside::Distant),
            Standing::Current | Standing::Behind | Standing::Replaced => {}
        }
        let now = listed.entries.into_iter().filter_map(|it| record(it, &prefix)).collect();
        let changes = copy.difference(&now);
        copy.generation_revision = modified;
        copy.take(&changes, generation, listed.revision);
        Ok(changes)
    }
}

fn understood(entry: &Entry) -> Result<Generation, RecordsError> {
    serde_json::from_slice(&entry.value).map_err(|error| unreadable(&entry.key, error))
}

fn unreadable(key: &str, reason: impl Display) -> RecordsError {
    let (key, reason) = (key.to_owned(), Excerpt(reason).to_string());
    RecordsError::Malformed { table: super::Table::Cluster, key, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_is_away_is_waited_for_once() {
        assert!(may_ask(None, false) && may_ask(None, true));
        assert!(!may_ask(Some(Duration::ZERO), true));
        assert!(may_ask(Some(COOL_DOWN), true));
        assert!(!may_ask(Some(COOL_DOWN), false), "each read would wait for it again");
        assert!(may_ask(Some(LONG_COOL_DOWN), false), "a watch may fail alone");
    }

    #[test]
    fn a_generation_that_cannot_be_read_is_not_none() {
        let entry = |value: &str| Entry {
            key: "generation".to_owned(),
            value: value.into(),
            modified: 1,
            lease: 0,
        };
        let error = understood(&entry("{\"version\":2}")).unwrap_err();
        assert!(matches!(error, RecordsError::Malformed { .. }) && error.is_definite());
        let begun = Generation::begin("a".to_owned(), 0);
        let text = serde_json::to_string(&begun).unwrap();
        assert_eq!(understood(&entry(&text)).unwrap(), begun);
    }
}
