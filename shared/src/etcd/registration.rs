//! Keeps one entry in etcd for as long as its owner lives, under a lease.
//!
//! # Invariants
//!
//! - The lease is renewed three times in its length. One that is lost, with everything else that etcd
//!   knew or alone, is asked for anew and the entry put there again: so a wiped etcd heals.
//! - News of the value are written at once. Dropping the registration lets the lease run out; whoever
//!   leaves in order calls [`Registration::end`].

use super::{Etcd, EtcdError, Operation, RETRY, Transaction};
use crate::telemetry::Chain;
use std::{pin::pin, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// Renewals in the length of a lease: two may be lost.
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
    let mut is_known = None;
    loop {
        let keeping = keep_once(&etcd, &mut kept, &leases, &mut n_failed);
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
        // News, not every attempt: an outage may last for hours.
        if n_failed == 0 || is_known != Some(reason.clone()) {
            warn!(key = kept.key, reason, "registration in etcd lost; trying again");
        }
        is_known = Some(reason);
        tokio::select! {
            _ = &mut stop => return,
            () = sleep(RETRY.delay(n_failed)) => n_failed = n_failed.saturating_add(1),
        }
    }
}

/// Registers, and returns once the lease is lost or cannot be renewed.
async fn keep_once(
    etcd: &Etcd,
    kept: &mut Kept,
    leases: &watch::Sender<Option<i64>>,
    n_failed: &mut u32,
) -> Result<(), EtcdError> {
    if kept.value.wait_for(|value| !value.is_empty()).await.is_err() {
        // Nobody will ever say what to keep.
        std::future::pending::<()>().await;
    }
    let lease = etcd.grant(kept.ttl).await?;
    put(etcd, kept, lease).await?;
    leases.send_replace(Some(lease));
    info!(key = kept.key, "registered in etcd");
    *n_failed = 0;
    // One call that fails is no lease that is lost: there is time for another.
    let mut n_missed = 0;
    loop {
        let is_news = tokio::select! {
            // Who said what to keep may have gone; it is kept all the same.
            Ok(()) = kept.value.changed() => true,
            () = sleep(kept.ttl / RENEWALS) => false,
        };
        let renewed = if is_news {
            put(etcd, kept, lease).await.map(|()| true)
        } else {
            etcd.renew(lease).await
        };
        match renewed {
            Ok(true) => n_missed = 0,
            Ok(false) => return Ok(()),
            Err(error) if error.is_definite() => return Err(error),
            Err(error) if n_missed + 1 >= RENEWALS => return Err(error),
            Err(_) => n_missed += 1,
        }
    }
}

async fn put(etcd: &Etcd, kept: &mut Kept, lease: i64) -> Result<(), EtcdError> {
    let value = kept.value.borrow_and_update().clone();
    let operations = vec![Operation::Put { key: kept.key.clone(), value, lease }];
    etcd.transact(Transaction { guards: Vec::new(), operations }).await.map(drop)
}
