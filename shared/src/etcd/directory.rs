//! What lies below a prefix of etcd, as it is: listed once, then watched.
//!
//! # Invariants
//!
//! - While etcd cannot be asked, the last view stays, and says so.
//! - After every interruption everything is listed anew, so that nothing is missed.
//! - A watch that is silent is asked for its progress each second; one that does not answer for three
//!   is given up, so that a stopped etcd is noticed although its connections are open.

use super::{CALL_PATIENCE, Entry, Etcd, EtcdError, Page, RETRY, convert, outage::Outage};
use crate::{task::Task, telemetry::Chain};
use etcd_client::{WatchOptions, WatchStream};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// How long a watch may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(1);

/// Unanswered questions after which it is not.
const MAX_UNANSWERED: u32 = 2;

/// Entries that are known at most: more than the largest cluster has instances or routers. Who writes
/// more below our prefix shall not fill our memory.
const MAX_ENTRIES: usize = 100_000;

/// So many must have gone before it is looked for those that had no room: not for each that goes.
const ROOM: usize = MAX_ENTRIES / 64;

/// Follows a prefix. Dropped, it follows no more.
#[derive(Debug)]
pub struct Directory {
    views: watch::Receiver<View>,
    _task: Task,
}

/// What lies below a prefix, as far as is known.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By the part of their key after the prefix.
    pub entries: Arc<BTreeMap<String, Entry>>,
    /// Whether etcd says so now. If not, it is what etcd said last.
    pub is_current: bool,
    /// Whether etcd was ever asked.
    pub is_known: bool,
}

impl Directory {
    /// Begins to follow a prefix, and goes on over every interruption.
    pub fn start(etcd: Etcd, prefix: String) -> Self {
        let (publish, views) = watch::channel(View::default());
        Self { views, _task: Task::spawn(follow(etcd, prefix, publish)) }
    }

    /// Returns the view, and what tells of its changes.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }
}

async fn follow(etcd: Etcd, prefix: String, publish: watch::Sender<View>) {
    let mut n_failed = 0;
    let mut outage = Outage::default();
    loop {
        let mut followed = Followed::default();
        let failed = followed.follow(&etcd, &prefix, &publish).await;
        if followed.is_listed {
            (n_failed, outage) = (0, Outage::default());
        }
        publish.send_if_modified(|view| std::mem::replace(&mut view.is_current, false));
        let reason = match &failed {
            Ok(()) => "the watch ended".to_owned(),
            Err(error) => Chain(error).to_string(),
        };
        if outage.is_news(&reason) {
            warn!(prefix, reason, "etcd cannot be watched; the last view stays");
        }
        sleep(RETRY.delay(n_failed)).await;
        n_failed = n_failed.saturating_add(1);
    }
}

/// What one listing and the watch after it have shown.
#[derive(Debug, Default)]
struct Followed {
    is_listed: bool,
    entries: BTreeMap<String, Entry>,
    /// Whether there is more than there is room for.
    is_cut: bool,
}

impl Followed {
    /// Lists and watches until that fails, or until all that is there has room at last.
    async fn follow(
        &mut self,
        etcd: &Etcd,
        prefix: &str,
        publish: &watch::Sender<View>,
    ) -> Result<(), EtcdError> {
        let page = Page { max_entries: Some(MAX_ENTRIES), ..Page::default() };
        let listing = etcd.list(prefix, page).await?;
        let from = listing.revision.saturating_add(1);
        self.is_cut = listing.n_in_all > listing.entries.len();
        self.entries = listing.entries.into_iter().map(|it| (name(&it, prefix), it)).collect();
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let key = prefix.to_owned();
        let mut stream = etcd
            .call(move |mut client| async move {
                // Without it, changes between the end of one answer and the next could be lost.
                client.watch(key, Some(options.with_progress_notify())).await
            })
            .await?;
        let entries = Arc::new(self.entries.clone());
        publish.send_replace(View { entries, is_current: true, is_known: true });
        info!(prefix, n_entries = self.entries.len(), "watching etcd");
        if self.is_cut {
            warn!(prefix, n_in_all = listing.n_in_all, "more in etcd than is looked at");
        }
        self.is_listed = true;
        while let Some(changes) = next(etcd, &mut stream).await? {
            if changes.is_empty() {
                continue;
            }
            self.take(changes, prefix);
            publish.send_modify(|view| view.entries = Arc::new(self.entries.clone()));
            if self.is_cut && self.entries.len() + ROOM <= MAX_ENTRIES {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, changes: Vec<(Entry, bool)>, prefix: &str) {
        for (entry, is_there) in changes {
            let name = name(&entry, prefix);
            if !is_there {
                self.entries.remove(&name);
            } else if self.entries.len() < MAX_ENTRIES || self.entries.contains_key(&name) {
                self.entries.insert(name, entry);
            } else {
                self.is_cut = true;
            }
        }
    }
}

fn name(entry: &Entry, prefix: &str) -> String {
    entry.key.strip_prefix(prefix).unwrap_or(&entry.key).to_owned()
}

/// Waits for the next changes: entries, and whether they are there or gone; `None` at the end.
async fn next(
    etcd: &Etcd,
    stream: &mut WatchStream,
) -> Result<Option<Vec<(Entry, bool)>>, EtcdError> {
    let failed = |reason: &str| {
        EtcdError::Unreachable(
            etcd.address().to_string(),
            Some(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(reason))),
        )
    };
    let mut n_unanswered = 0;
    let answer = loop {
        match timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(answer))) => break answer,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(convert::error(etcd.address().to_string(), error)),
            Err(_) if n_unanswered == MAX_UNANSWERED => return Err(failed("the watch is silent")),
            Err(_) => n_unanswered += 1,
        }
        let asked = timeout(CALL_PATIENCE, stream.request_progress()).await;
        if !matches!(asked, Ok(Ok(()))) {
            return Err(failed("the watch cannot be asked"));
        }
    };
    if answer.canceled() {
        return Err(failed(answer.cancel_reason()));
    }
    // A deleted key has no version; its kind is not asked for, because the client panics at one that
    // it does not know.
    let changes = answer.events().iter().filter_map(etcd_client::Event::kv);
    Ok(Some(changes.map(|kv| (convert::entry(kv.clone()), kv.version() > 0)).collect()))
}
