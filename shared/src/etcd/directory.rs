//! What lies below a prefix of etcd, as it is: listed once, then watched.
//!
//! # Invariants
//!
//! - While etcd cannot be asked, the last view stays, and says so.
//! - After every interruption everything is listed anew, so that nothing is missed.
//! - A watch that is silent is asked for its progress each second; one that does not answer for three
//!   is given up, so that a stopped etcd is noticed although its connections are open.

use super::{CALL_PATIENCE, Entry, Etcd, EtcdError, Page, RETRY, convert};
use crate::telemetry::Chain;
use etcd_client::{WatchOptions, WatchStream};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// How long a watch may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(1);

/// Unanswered questions after which it is not.
const MAX_UNANSWERED: u32 = 2;

/// Entries that are known at most: instances, routers and claims of the largest cluster. Who writes
/// more below our prefix shall not fill our memory.
const MAX_ENTRIES: usize = 100_000;

/// Follows a prefix. Dropped, it follows no more.
#[derive(Debug)]
pub struct Directory {
    views: watch::Receiver<View>,
    task: JoinHandle<()>,
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
    pub fn start(etcd: Etcd, prefix: String) -> Self {
        let (publish, views) = watch::channel(View::default());
        let task = tokio::spawn(follow(etcd, prefix, publish));
        Self { views, task }
    }

    /// Returns the view, and what tells of its changes.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(etcd: Etcd, prefix: String, publish: watch::Sender<View>) {
    let mut n_failed = 0;
    let mut is_known = None;
    loop {
        let failed = follow_once(&etcd, &prefix, &publish, &mut n_failed).await;
        publish.send_if_modified(|view| std::mem::replace(&mut view.is_current, false));
        let reason = match &failed {
            Ok(()) => "the watch ended".to_owned(),
            Err(error) => Chain(error).to_string(),
        };
        // News, not every attempt: an outage may last for hours.
        if n_failed == 0 || is_known.as_ref() != Some(&reason) {
            warn!(prefix, reason, "etcd cannot be watched; the last view stays");
        }
        is_known = Some(reason);
        sleep(RETRY.delay(n_failed)).await;
        n_failed = n_failed.saturating_add(1);
    }
}

/// Lists and watches until that fails.
async fn follow_once(
    etcd: &Etcd,
    prefix: &str,
    publish: &watch::Sender<View>,
    n_failed: &mut u32,
) -> Result<(), EtcdError> {
    let listing = etcd.list(prefix, Page::default()).await?;
    let from = listing.revision + 1;
    let named = listing.entries.into_iter().take(MAX_ENTRIES).map(|it| (name(&it, prefix), it));
    let mut entries: BTreeMap<String, Entry> = named.collect();
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let key = prefix.to_owned();
    let mut stream = etcd
        .call(move |mut client| async move {
            // Without it, changes between the end of one answer and the next could be lost.
            client.watch(key, Some(options.with_progress_notify())).await
        })
        .await?;
    publish.send_replace(View {
        entries: Arc::new(entries.clone()),
        is_current: true,
        is_known: true,
    });
    info!(prefix, n_entries = entries.len(), "watching etcd");
    *n_failed = 0;
    while let Some(changes) = next(etcd, &mut stream).await? {
        if changes.is_empty() {
            continue;
        }
        for (entry, is_there) in changes {
            let name = name(&entry, prefix);
            if !is_there {
                entries.remove(&name);
            } else if entries.len() < MAX_ENTRIES || entries.contains_key(&name) {
                entries.insert(name, entry);
            }
        }
        publish.send_modify(|view| view.entries = Arc::new(entries.clone()));
    }
    Ok(())
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
