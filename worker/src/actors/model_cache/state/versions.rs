//! How resident models keep to what their addresses stand for: checks, and what they lead to.
//!
//! A check asks the store for the version; a new one is loaded beside the old one, and takes its
//! place in one step. Whatever fails leaves the old one where it is: only a definite 404 ends it.

use super::State;
use crate::{
    actors::model_cache::{
        AcquireError, Message, Revalidation,
        load::{self, FailedRefresh, Loaded},
        resident::Resident,
    },
    artifact::{ArtifactVersion, FetchError},
    lease::Lease,
    policy::freshness,
    runtime::RuntimeError,
};
use shared::{address::ArtifactAddress, telemetry::Chain};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, info, info_span, warn};

/// Addresses that somebody wants served without an object. Beyond it all are forgotten, and a
/// deleted object ends its model, as without that wish.
const MAX_WANTED_STALE: usize = 16_384;

/// A new version that did not come into memory.
#[derive(Debug)]
pub(super) struct FailedVersion {
    version: ArtifactVersion,
    at: Instant,
    is_its_bytes_fault: bool,
}

/// What came of loading a new version.
#[derive(Debug)]
pub(in crate::actors::model_cache) struct Refreshed {
    pub(super) address: ArtifactAddress,
    /// Which replica it shall follow.
    pub(super) resident: Arc<Resident>,
    /// The version that the check saw.
    pub(super) seen: ArtifactVersion,
    pub(super) outcome: Result<Option<Loaded>, FailedRefresh>,
    /// On the old replica.
    pub(super) lease: Lease,
}

impl State {
    /// Asks the store about a resident model.
    pub(in crate::actors::model_cache) fn check(
        &self,
        address: ArtifactAddress,
        resident: Arc<Resident>,
    ) {
        let (cache, fetcher) = (self.context.cache.clone(), self.context.parts.fetcher.clone());
        let (checks, asked) = (Arc::clone(&self.context.checks), address.clone());
        let check = tokio::spawn(async move {
            let _turn = checks.acquire().await;
            fetcher.locate(&asked).await
        });
        tokio::spawn(async move {
            // A panic must come back too, or the model would never be checked again.
            let outcome = check.await.unwrap_or_else(|_| {
                Err(FetchError::Interrupted(address.clone(), "asking for its version panicked"))
            });
            // A stopping cache checks nothing more.
            let _ = cache.cast(Message::Checked { address, resident, outcome });
        });
    }

    pub(in crate::actors::model_cache) fn checked(
        &mut self,
        address: &ArtifactAddress,
        resident: &Arc<Resident>,
        outcome: Result<ArtifactVersion, FetchError>,
    ) {
        let is_answered = matches!(outcome, Ok(_) | Err(FetchError::NotFound(_)));
        // What has left meanwhile is no matter of this check.
        if self.held(address, resident).is_some() {
            match outcome {
                Ok(version) if version == resident.version => {
                    if resident.set_orphan(false) {
                        info!(%address, "object is back");
                    }
                    self.count(Revalidation::Unchanged);
                }
                Ok(version) => self.start_refresh(address, resident, version),
                Err(FetchError::NotFound(_)) => self.deleted(address, resident),
                Err(error) => {
                    // The metric tells of an outage; a line for each model would fill the log.
                    debug!(%address, error = %Chain(&error), "check failed");
                    self.count(Revalidation::Failed);
                }
            }
        }
        resident.end_check(is_answered);
    }

    pub(in crate::actors::model_cache) fn refreshed(&mut self, refreshed: Refreshed) {
        // The lease goes at the end: then the old replica may.
        let Refreshed { address, resident, seen, outcome, lease: _lease } = refreshed;
        let is_held = match self.held(&address, &resident) {
            Some(held) => {
                held.is_refreshing = false;
                true
            }
            None => false,
        };
        match outcome {
            Ok(Some(loaded)) if is_held && resident.replica.leases().close_unless_pinned() => {
                self.switch(&address, &resident, loaded);
            }
            // The old one has left, or a platform has loaded it by name: then it decides.
            Ok(Some(loaded)) => {
                loaded.replica.leases().close();
                self.retire(loaded.replica, None);
            }
            // The store went back on it.
            Ok(None) => self.count(Revalidation::Failed),
            Err(failed) => self.refresh_failed(&address, &resident, seen, failed),
        }
        if !self.slots.contains_key(&address) {
            // It left meanwhile, and its files did: so must those that came for it since.
            self.discard_files(&address);
        }
    }

    pub(in crate::actors::model_cache) fn want_stale(&mut self, address: ArtifactAddress) {
        if self.wanted_stale.len() >= MAX_WANTED_STALE {
            self.wanted_stale.clear();
        }
        self.wanted_stale.insert(address);
    }

    fn start_refresh(
        &mut self,
        address: &ArtifactAddress,
        resident: &Arc<Resident>,
        version: ArtifactVersion,
    ) {
        if self.is_leaving {
            // The new version is loaded where the model goes.
            return self.count(Revalidation::Failed);
        }
        let max_age = self.context.parts.max_age;
        let Some(held) = self.held(address, resident) else { return };
        if held.is_refreshing {
            return;
        }
        let failed = held.failed.as_ref().filter(|failed| failed.version == version);
        if failed.is_some_and(|failed| !failed.is_worth_a_try(max_age)) {
            return self.count(Revalidation::Failed);
        }
        held.is_refreshing = true;
        let (context, address) = (self.context.clone(), address.clone());
        let resident = Arc::clone(resident);
        let span = info_span!("refresh", %address);
        tokio::spawn(async move {
            let _turn = context.refreshes.acquire().await;
            // Keeps the old replica from being evicted for the new one. One that has gone has no
            // successor.
            let Some(lease) = resident.replica.leases().lease() else { return };
            let refresh = load::refresh(context.clone(), address.clone(), Arc::clone(&resident));
            let refresh = tokio::spawn(refresh.instrument(span));
            // A panic must come back too, or no version would follow this one.
            let outcome = refresh.await.unwrap_or(Err(AcquireError::LoadPanicked.into()));
            let refreshed = Refreshed { address, resident, seen: version, outcome, lease };
            // A stopping cache needs no new version.
            let _ = context.cache.cast(Message::Refreshed(refreshed));
        });
    }

    /// Puts a new version in the place of an old one, which is closed: whoever comes from now on gets
    /// the new one, whoever has the old one ends with it.
    fn switch(&mut self, address: &ArtifactAddress, old: &Arc<Resident>, loaded: Loaded) {
        info!(
            %address, etag = loaded.version.etag, before = old.version.etag,
            elapsed_ms = loaded.elapsed.as_millis(), "replaced"
        );
        self.count(Revalidation::Replaced);
        let is_leaving = self.held(address, old).is_some_and(|held| held.is_leaving);
        loaded.replica.succeed(&old.replica);
        self.install(address, loaded);
        self.publish();
        self.retire(old.replica.clone(), None);
        if is_leaving {
            self.discard(address.clone());
        }
        self.shed_surplus();
    }

    /// The object of a resident model is definitely gone.
    fn deleted(&mut self, address: &ArtifactAddress, resident: &Arc<Resident>) {
        self.count(Revalidation::Deleted);
        let etag = &resident.version.etag;
        if self.wanted_stale.contains(address) {
            if resident.set_orphan(true) {
                info!(%address, etag, "object was deleted, its model stays for who wants it so");
            }
        } else if resident.replica.leases().close_unless_pinned() {
            info!(%address, etag, "object was deleted, its model goes");
            self.forget(address, &resident.replica);
            self.retire(resident.replica.clone(), None);
            self.discard_files(address);
        }
    }

    /// A new version did not come into memory: the old one goes on.
    fn refresh_failed(
        &mut self,
        address: &ArtifactAddress,
        resident: &Arc<Resident>,
        seen: ArtifactVersion,
        failed: FailedRefresh,
    ) {
        self.count(Revalidation::Failed);
        let FailedRefresh { error, version: fetched } = failed;
        let failed = FailedVersion {
            // Only of bytes that were there it can be known that they are at fault.
            is_its_bytes_fault: fetched.is_some() && is_its_bytes_fault(&error),
            version: fetched.unwrap_or(seen),
            at: Instant::now(),
        };
        let error = &error;
        if failed.is_its_bytes_fault {
            // Or it would be the last version on disk, should the store be out.
            self.discard_files_but(address, &resident.version);
        }
        let Some(held) = self.held(address, resident) else { return };
        let etag = &failed.version.etag;
        let was_known = held.failed.as_ref().is_some_and(|it| it.version == failed.version);
        if was_known {
            debug!(%address, etag, error = %Chain(error), "new version did not load again");
        } else {
            warn!(%address, etag, error = %Chain(error), "new version did not load, the old one stays");
        }
        held.failed = Some(failed);
    }

    fn count(&self, outcome: Revalidation) {
        let revalidations = &self.context.parts.metrics.revalidations;
        revalidations.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn discard_files_but(&self, address: &ArtifactAddress, stays: &ArtifactVersion) {
        let (address, stays) = (address.clone(), stays.clone());
        let is_to_go = move |it: &ArtifactAddress, version: &ArtifactVersion| {
            *it == address && *version != stays
        };
        self.context.parts.fetcher.discard(is_to_go);
    }
}

impl FailedVersion {
    fn is_worth_a_try(&self, max_age: Duration) -> bool {
        freshness::is_worth_a_try(self.at.elapsed(), max_age, self.is_its_bytes_fault)
    }
}

/// Whether no other try of the same version can succeed.
fn is_its_bytes_fault(error: &AcquireError) -> bool {
    matches!(
        error,
        AcquireError::Fetch(FetchError::Refused(..))
            | AcquireError::Runtime(RuntimeError::BadArtifact(_))
    )
}
