//! A resident model as the snapshot shows it: its replica, its version, and when its store was asked.
//!
//! Warm invocations read it without a lock and without asking the actor. Only they begin a check, one
//! at a time; only the actor ends it, once it has acted on the answer.

use super::{Acquired, CHECK_PATIENCE};
use crate::{
    actors::replica::Replica,
    artifact::{ArtifactVersion, OnDeleted},
    policy::freshness::{self, Age},
};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Stands for "no check is under way".
const NONE: u64 = u64::MAX;

/// What a check is worth to who waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Enough,
    /// The store is to be asked again.
    TooOld,
}

#[derive(Debug)]
pub(super) struct Resident {
    pub(super) replica: Replica,
    pub(super) version: ArtifactVersion,
    max_age: Duration,
    /// When the store was asked for it.
    located: Instant,
    /// As of when the store's word holds, microseconds after `located`: when the last check began that
    /// was answered. One that failed counts from its end: nobody waits for the next one at once.
    checked: AtomicU64,
    /// When the check began that is under way; [`NONE`] without one.
    checking: AtomicU64,
    /// Woken when a check is over.
    ended: Notify,
    /// Whether its object was deleted: then only who wants it all the same gets it.
    is_orphan: AtomicBool,
    is_wanted_stale: AtomicBool,
}

impl Resident {
    pub(super) fn new(
        replica: Replica,
        version: ArtifactVersion,
        located: Instant,
        max_age: Duration,
    ) -> Self {
        Self {
            replica,
            version,
            max_age,
            located,
            checked: AtomicU64::new(0),
            checking: AtomicU64::new(NONE),
            ended: Notify::new(),
            is_orphan: AtomicBool::new(false),
            is_wanted_stale: AtomicBool::new(false),
        }
    }

    /// Takes a lease for an invocation. A replica that died or is about to go gives none, and one
    /// without an object only to who wants it all the same.
    pub(super) fn lease(
        &self,
        on_deleted: OnDeleted,
        waited: Option<Duration>,
    ) -> Option<Acquired> {
        if !self.serves(on_deleted) {
            return None;
        }
        let lease = self.replica.leases().lease()?;
        Some(Acquired { replica: self.replica.clone(), lease, waited })
    }

    pub(super) fn serves(&self, on_deleted: OnDeleted) -> bool {
        on_deleted == OnDeleted::ServeStale || !self.is_orphan.load(Ordering::Acquire)
    }

    /// How old the store's last word is. What a platform loaded by name is never asked about: the
    /// platform decides when it changes.
    pub(super) fn age(&self) -> Age {
        let checked = Duration::from_micros(self.checked.load(Ordering::Acquire));
        let since = self.located.elapsed().saturating_sub(checked);
        match freshness::age(since, self.max_age) {
            Age::Fresh => Age::Fresh,
            _ if self.replica.leases().is_pinned() => Age::Fresh,
            age => age,
        }
    }

    /// Claims the next check, and says whether it is the caller's.
    pub(super) fn begin_check(&self) -> bool {
        let now = self.now();
        self.checking.compare_exchange(NONE, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends the check that is under way, whatever came of it: the next one has its time.
    pub(super) fn end_check(&self, is_answered: bool) {
        let began = self.checking.load(Ordering::Acquire);
        debug_assert_ne!(began, NONE, "only a check that began ends");
        let checked = if is_answered { began } else { self.now() };
        self.checked.store(checked, Ordering::Release);
        self.checking.store(NONE, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Waits until the check that is under way is over, or has had its time, and says what it is worth
    /// for a caller that arrived at a time.
    pub(super) async fn checked(&self, arrived: Instant) -> Checked {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        // Listen before looking, or an end in between would be missed.
        ended.as_mut().enable();
        let began = self.checking.load(Ordering::Acquire);
        if began == NONE {
            return Checked::Enough;
        }
        let began = self.located + Duration::from_micros(began);
        // A slow store is as good as one that is out: the version here goes on.
        let is_over = timeout_at(began + CHECK_PATIENCE, ended).await.is_ok();
        // What the store said then was too old already when the caller came.
        let is_too_old = is_over && began + self.max_age < arrived;
        if is_too_old { Checked::TooOld } else { Checked::Enough }
    }

    /// Sets whether its object was deleted, and returns whether that is news.
    pub(super) fn set_orphan(&self, is_orphan: bool) -> bool {
        self.is_orphan.swap(is_orphan, Ordering::AcqRel) != is_orphan
    }

    /// Notes that somebody wants it even if its object is deleted, and returns whether that is news.
    pub(super) fn want_stale(&self) -> bool {
        // Looked at first: the flag is read by every invocation, and written by one.
        !self.is_wanted_stale.load(Ordering::Relaxed)
            && !self.is_wanted_stale.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_wanted_stale(&self) -> bool {
        self.is_wanted_stale.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.located.elapsed().as_micros()).unwrap_or(NONE - 1)
    }
}
