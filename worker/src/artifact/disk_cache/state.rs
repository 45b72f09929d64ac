//! What is counted: artifacts, their leases, and the bytes that are used.

use crate::{artifact::ArtifactVersion, policy::disk::Candidate};
use shared::address::ArtifactAddress;
use std::{collections::HashMap, path::PathBuf};
use tracing::info;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Artifacts, what is reserved for incoming ones, and what is not yet deleted.
    pub(super) used_bytes: u64,
    /// The part of it that is being deleted now.
    pub(super) leaving_bytes: u64,
    n_uses: u64,
    artifacts: HashMap<String, Kept>,
}

/// What lies in a folder of the cache.
#[derive(Clone, Debug)]
pub(super) struct Artifact {
    pub(super) address: ArtifactAddress,
    pub(super) version: ArtifactVersion,
}

#[derive(Debug)]
struct Kept {
    artifact: Artifact,
    size_bytes: u64,
    last_use: u64,
    n_leases: usize,
    /// Whether it could not be moved away: it is no use to try again.
    is_stuck: bool,
    /// Whether it goes with its last lease.
    is_doomed: bool,
}

/// An artifact that has left the state, and waits in `incoming` to be deleted.
#[derive(Debug)]
pub(super) struct Trash {
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
}

impl State {
    /// The state of a cache in which these artifacts lie, the longest unused first.
    pub(super) fn of(found: Vec<(String, Artifact, u64)>) -> Self {
        let mut state = Self::default();
        for (digest, artifact, size_bytes) in found {
            state.n_uses += 1;
            state.used_bytes += size_bytes;
            state.insert(&digest, artifact, size_bytes);
        }
        state
    }

    pub(super) fn n_artifacts(&self) -> usize {
        self.artifacts.len()
    }

    pub(super) fn size_of(&self, digest: &str) -> Option<u64> {
        self.artifacts.get(digest).map(|kept| kept.size_bytes)
    }

    /// Counts a use of an artifact and a hold on it, if it is here.
    pub(super) fn lease(&mut self, digest: &str) -> Option<()> {
        self.n_uses += 1;
        let kept = self.artifacts.get_mut(digest)?;
        kept.n_leases += 1;
        kept.last_use = self.n_uses;
        Some(())
    }

    /// Returns whether the artifact shall go now.
    pub(super) fn release(&mut self, digest: &str) -> bool {
        let kept = self.artifacts.get_mut(digest);
        debug_assert!(kept.is_some(), "a leased artifact stays");
        let Some(kept) = kept else { return false };
        kept.n_leases -= 1;
        kept.is_doomed && kept.n_leases == 0
    }

    /// The version of an address that was used last, unless it is to go.
    pub(super) fn last(&self, address: &ArtifactAddress) -> Option<(String, ArtifactVersion)> {
        let versions = self.artifacts.iter();
        let versions =
            versions.filter(|(_, kept)| kept.artifact.address == *address && !kept.is_doomed);
        let last = versions.max_by_key(|(_, kept)| kept.last_use);
        last.map(|(digest, kept)| (digest.clone(), kept.artifact.version.clone()))
    }

    /// Returns what is to go and can now; what is leased goes with its last lease.
    pub(super) fn doom(&mut self, is_to_go: impl Fn(&Artifact) -> bool) -> Vec<String> {
        let mut idle = Vec::new();
        for (digest, kept) in &mut self.artifacts {
            if is_to_go(&kept.artifact) {
                kept.is_doomed = true;
                if kept.n_leases == 0 {
                    idle.push(digest.clone());
                }
            }
        }
        idle
    }

    /// How many bytes must go before `needed_bytes` fit.
    pub(super) fn excess(&self, needed_bytes: u64, budget_bytes: u64) -> Option<u64> {
        let excess = self.used_bytes.saturating_add(needed_bytes).saturating_sub(budget_bytes);
        (excess > 0).then_some(excess)
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(digest, kept): (&String, &Kept)| Candidate {
            digest: digest.clone(),
            size_bytes: kept.size_bytes,
            last_use: kept.last_use,
            n_leases: kept.n_leases,
        };
        self.artifacts.iter().filter(|(_, kept)| !kept.is_stuck).map(candidate).collect()
    }

    pub(super) fn unmovable_bytes(&self) -> u64 {
        let can_go = |kept: &&Kept| kept.n_leases == 0 && !kept.is_stuck;
        let idle = self.artifacts.values().filter(can_go);
        self.used_bytes - self.leaving_bytes - idle.map(|kept| kept.size_bytes).sum::<u64>()
    }

    /// Adds an artifact whose bytes are counted already.
    pub(super) fn insert(&mut self, digest: &str, artifact: Artifact, size_bytes: u64) {
        let old = self.artifacts.remove(digest);
        // Its files were taken away; its leases go on, and are given back one day.
        let n_leases = old.as_ref().map_or(0, |old| old.n_leases);
        self.used_bytes -= old.map_or(0, |old| old.size_bytes);
        let last_use = self.n_uses;
        let kept =
            Kept { artifact, size_bytes, last_use, n_leases, is_stuck: false, is_doomed: false };
        self.artifacts.insert(digest.to_owned(), kept);
    }

    /// Takes out an artifact that was moved to `path`.
    pub(super) fn leave(&mut self, digest: &str, path: PathBuf) -> Option<Trash> {
        let Kept { size_bytes, .. } = self.artifacts.remove(digest)?;
        self.leaving_bytes += size_bytes;
        info!(digest, size_bytes, "artifact leaves the disk");
        Some(Trash { path, size_bytes })
    }

    /// Ends what [`leave`](Self::leave) began. What could not be deleted stays counted.
    pub(super) fn has_left(&mut self, size_bytes: u64, is_gone: bool) {
        self.leaving_bytes -= size_bytes;
        self.used_bytes -= if is_gone { size_bytes } else { 0 };
    }

    /// Takes out an artifact whose files are gone, unless somebody still holds it.
    pub(super) fn forget(&mut self, digest: &str) {
        if let Some(kept) = self.artifacts.remove(digest) {
            if kept.n_leases == 0 {
                self.used_bytes -= kept.size_bytes;
            } else {
                self.artifacts.insert(digest.to_owned(), kept);
            }
        }
    }

    pub(super) fn mark_stuck(&mut self, digest: &str) {
        if let Some(kept) = self.artifacts.get_mut(digest) {
            kept.is_stuck = true;
        }
    }
}
