//! Keeps one entry in etcd for as long as its owner lives, under a lease.
//!
//! # Invariants
//!
//! - The lease is renewed three times in its length, however often the value changes, and tried again
//!   after a failure for as long as it takes: an etcd that was away may still know it, and whatever lies
//!   under it. Only when etcd says that it is gone, with everything else or alone, another is asked for
//!   and the entry put there again: so a wiped etcd heals.
//! - With each renewal it is looked whether the entry is there. One that was deleted under a lease that
//!   lives (by hand, or by the end of an older process of that name) is put there again.
//! - News of the value are written at once. Dropping the registration lets the lease run out; whoever
//!   leaves in order calls [`Registration::end`].

use super::{Entry, Etcd, EtcdError, Operation, RETRY, Transaction, outage::Outage};
use crate::telemetry::Chain;
use std::{pin::pin, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

/// Renewals in the length of a lease. Two that fail at once may be lost, and one that etcd does not
/// answer: that takes [`CALL_PATIENCE`](super::CALL_PATIENCE), a third of the shortest lease.
const RENEWALS: u32 = 3;

/// How long leaving may take: etcd may be away, and then the lease ends by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// An entry that is kept. Dropped, it is no longer renewed.
#[derive(Debug)]
pub struct Registration {
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    abort: AbortHandle,
    lease: watch::Receiver<Option<i64>>,
}

/// What is kept: a key and what lies there.
#[derive(Debug)]
pub struct Kept {
    pub key: String,
    pub value: watch::Receiver<Vec<u8>>,
    pub ttl: Duration,
}

impl Registration {
    /// Begins to keep an entry once there is something to say, and goes on for as long as it takes.
    pub fn start(etcd: Etcd, kept: Kept) -> Self {
        let (stop, is_stopped) = oneshot::channel();
        let (leases, lease) = watch::channel(None);
        let task = tokio::spawn(keep(etcd, kept, leases, is_stopped));
        let abort = task.abort_handle();
        Self { stop: Some(stop), task: Some(task), abort, lease }
    }

    /// Returns the lease that the entry is under now; `None` while there is none.
    pub fn lease(&self) -> watch::Receiver<Option<i64>> {
        self.lease.clone()
    }

    /// Whether the entry is still kept. Nothing but a panic ends that.
    pub fn is_alive(&self) -> bool {
        !self.abort.is_finished()
    }

    /// Removes the entry, if etcd can be asked.
    pub async fn end(mut self) {
        if let (Some(stop), Some(task)) = (self.stop.take(), self.task.take()) {
            // It listens until it ends.
            let _ = stop.send(());
            let _too_late_or_done = timeout(FAREWELL, task).await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

async fn keep(
    etcd: Etcd,
    mut kept: Kept,
    leases: watch::Sender<Option<i64>>,
    stop: oneshot::Receiver<()>,
) {
    let mut stop = pin!(stop);
    let mut n_failed = 0;
    let mut outage = Outage::default();
    loop {
        let keeping = async {
            let lease = register(&etcd, &mut kept).await?;
            leases.send_replace(Some(lease));
            info!(key = kept.key, "registered in etcd");
            (n_failed, outage) = (0, Outage::default());
            hold(&etcd, &mut kept, lease, &mut outage).await;
            Ok::<_, EtcdError>(())
        };
        let ended = tokio::select! {
            // Also when the registration was dropped.
            _ = &mut stop => {
                let lease = *leases.borrow();
                if let Some(lease) = lease {
                    // It runs out by itself.
                    let _ = etcd.revoke(lease).await;
                }
                return;
            }
            ended = keeping => ended,
        };
        leases.send_replace(None);
        let reason =
            ended.map_or_else(|error| Chain(&error).to_string(), |()| "lease lost".to_owned());
        if outage.is_news(&reason) {
            warn!(key = kept.key, reason, "not registered in etcd; trying again");
        }
        tokio::select! {
            _ = &mut stop => return,
            () = sleep(RETRY.delay(n_failed)) => n_failed = n_failed.saturating_add(1),
        }
    }
}

/// Puts the entry there under a new lease, once there is something to say.
async fn register(etcd: &Etcd, kept: &mut Kept) -> Result<i64, EtcdError> {
    if kept.value.wait_for(|value| !value.is_empty()).await.is_err() {
        // Nobody will ever say what to keep.
        std::future::pending::<()>().await;
    }
    let lease = etcd.grant(kept.ttl).await?;
    put(etcd, kept, lease).await?;
    Ok(lease)
}

/// Keeps the entry under its lease, and returns once etcd says that the lease is gone.
async fn hold(etcd: &Etcd, kept: &mut Kept, lease: i64, outage: &mut Outage) {
    let mut due = Instant::now() + kept.ttl / RENEWALS;
    let (mut n_failed, mut is_told) = (0, true);
    loop {
        tokio::select! {
            // While etcd fails, news wait with the renewal. Who said what to keep may have gone; it is
            // kept all the same.
            Ok(()) = kept.value.changed(), if n_failed == 0 => is_told = false,
            () = sleep_until(due) => {}
        }
        is_told &= !kept.value.has_changed().unwrap_or(false);
        let began = Instant::now();
        let is_due = began >= due;
        let kept_on = async {
            if is_due && !etcd.renew(lease).await? {
                return Ok(false);
            }
            // Read first: a write that its guard stops is still work for the disks of etcd.
            if is_due && is_told && !is_kept(etcd.get(&kept.key).await?.as_ref()) {
                warn!(key = kept.key, "entry gone from etcd; putting it there again");
                is_told = false;
            }
            if !is_told {
                put(etcd, kept, lease).await?;
                is_told = true;
            }
            Ok::<_, EtcdError>(true)
        };
        match kept_on.await {
            Ok(false) => return,
            Ok(true) => {
                if outage.is_over() {
                    info!(key = kept.key, "registration in etcd renewed again");
                }
                n_failed = 0;
                due = if is_due { began + kept.ttl / RENEWALS } else { due };
            }
            Err(error) => {
                let reason = Chain(&error).to_string();
                if outage.is_news(&reason) {
                    warn!(key = kept.key, reason, "registration in etcd not renewed; trying again");
                }
                due = Instant::now() + RETRY.delay(n_failed);
                n_failed = n_failed.saturating_add(1);
            }
        }
    }
}

async fn put(etcd: &Etcd, kept: &mut Kept, lease: i64) -> Result<(), EtcdError> {
    let value = kept.value.borrow_and_update().clone();
    let operations = vec![Operation::Put { key: kept.key.clone(), value, lease }];
    etcd.transact(Transaction { guards: Vec::new(), operations }).await.map(drop)
}

/// Whether somebody keeps what lies under our key: we, or another process of our name, who shall not be
/// overwritten each second.
fn is_kept(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|it| it.lease != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_was_deleted_or_written_by_hand_is_put_there_again() {
        let under = |lease| Entry { key: String::new(), value: Vec::new(), modified: 1, lease };
        assert!(!is_kept(None));
        assert!(!is_kept(Some(&under(0))), "nothing ends it, and it may say anything");
        assert!(is_kept(Some(&under(7))));
    }
}
