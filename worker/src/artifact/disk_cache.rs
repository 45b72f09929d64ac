//! The artifacts on this instance's disk: found again after a restart, within a budget of bytes.
//!
//! ```text
//! lock                        held while a worker uses the folder
//! incoming/{n}/               being unpacked, or being deleted; emptied at each start
//! artifacts/{digest}/artifact the unpacked files
//! artifacts/{digest}/record.json  what they are; written last, when all is safely on disk
//! ```
//!
//! # Invariants
//!
//! - What is counted as used covers everything below the folder, also what is being unpacked and
//!   what is being deleted; it never exceeds the budget.
//! - A leased artifact is never deleted.
//! - An artifact without a record does not survive a restart: after a power cut its files may be
//!   full of holes. It serves before that, because waiting for the disk would slow every cold start.

mod incoming;
mod record;

pub use incoming::Incoming;

use super::{ArtifactVersion, unpack::ARTIFACT, unpack::NoRoom};
use crate::policy::disk::{Candidate, victims};
use parking_lot::Mutex;
use record::Record;
use shared::address::ArtifactAddress;
use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::{debug, info};

/// The artifacts on this instance's disk.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    budget_bytes: u64,
    state: Mutex<State>,
    next_incoming: AtomicU64,
    /// Locked until it is dropped.
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// Artifacts, what is reserved for incoming ones, and what is not yet deleted.
    used_bytes: u64,
    n_uses: u64,
    artifacts: HashMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    size_bytes: u64,
    last_use: u64,
    n_leases: usize,
}

/// Why a folder cannot be a worker's cache.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cache folder `{0}` is used by another worker")]
    Locked(PathBuf),
    #[error("cache folder `{0}` cannot be used")]
    Io(PathBuf, #[source] io::Error),
}

/// A hold on an artifact's folder. The last clone that is dropped releases it.
#[derive(Clone, Debug)]
pub struct ArtifactLease {
    path: PathBuf,
    /// Absent for a folder that is not in the cache, and so never leaves.
    _hold: Option<Arc<Hold>>,
}

#[derive(Debug)]
struct Hold {
    cache: Arc<DiskCache>,
    digest: String,
}

impl ArtifactLease {
    /// A lease on a folder that somebody else keeps.
    pub fn in_place(path: PathBuf) -> Self {
        Self { path, _hold: None }
    }

    /// The folder with the artifact's files.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        let kept = state.artifacts.get_mut(&self.digest);
        debug_assert!(kept.is_some(), "a leased artifact stays");
        if let Some(kept) = kept {
            kept.n_leases -= 1;
        }
    }
}

impl DiskCache {
    /// Takes a folder as cache: locks it, deletes what is incomplete, keeps the rest. Blocks.
    pub fn open(folder: &Path, budget_bytes: u64) -> Result<Arc<Self>, OpenError> {
        let failed = |error| OpenError::Io(folder.to_owned(), error);
        fs::create_dir_all(folder.join("artifacts")).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked(folder.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        clear(&folder.join("incoming")).map_err(failed)?;
        let cache = Arc::new(Self {
            folder: folder.to_owned(),
            budget_bytes,
            state: Mutex::new(recover(&folder.join("artifacts")).map_err(failed)?),
            next_incoming: AtomicU64::new(0),
            _lock: lock,
        });
        // The budget may have shrunk since. Nothing is leased yet, so everything can go.
        if cache.make_room(0).is_err() {
            debug!("nothing in the cache can go");
        }
        let state = cache.state.lock();
        info!(n_artifacts = state.artifacts.len(), used_bytes = state.used_bytes, "opened cache");
        drop(state);
        Ok(cache)
    }

    /// Leases an artifact if it is here.
    pub fn find(
        self: &Arc<Self>,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Option<ArtifactLease> {
        let lease = self.lease(&mut self.state.lock(), record::digest(address, version))?;
        // For the order of last use after a restart; without it the order is a little worse.
        let _ = record::touch(&lease.path);
        Some(lease)
    }

    /// Begins an artifact that is to come: an empty folder.
    pub fn begin(self: &Arc<Self>) -> io::Result<Incoming> {
        let folder = self.incoming_path();
        fs::create_dir_all(&folder)?;
        Ok(Incoming::new(Arc::clone(self), folder))
    }

    /// Makes an artifact survive a restart: waits until it is on disk, then writes its record.
    /// Blocks.
    ///
    /// Takes no lease, so that an artifact may leave meanwhile; then there is nothing to do.
    pub fn persist(&self, address: &ArtifactAddress, version: &ArtifactVersion) -> io::Result<()> {
        let digest = record::digest(address, version);
        let size_bytes = self.state.lock().artifacts.get(&digest).map(|kept| kept.size_bytes);
        let Some(size_bytes) = size_bytes else { return Ok(()) };
        let record = Record::new(address, version, size_bytes);
        match record.write_beside(&self.artifact_path(&digest).join(ARTIFACT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes
    }

    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    fn lease(self: &Arc<Self>, state: &mut State, digest: String) -> Option<ArtifactLease> {
        state.n_uses += 1;
        let last_use = state.n_uses;
        let kept = state.artifacts.get_mut(&digest)?;
        kept.n_leases += 1;
        kept.last_use = last_use;
        let path = self.artifact_path(&digest).join(ARTIFACT);
        Some(ArtifactLease {
            path,
            _hold: Some(Arc::new(Hold { cache: Arc::clone(self), digest })),
        })
    }

    /// Moves a finished folder to its place, where its own bytes are counted instead of
    /// `reserved_bytes`, and leases it.
    fn keep(
        self: &Arc<Self>,
        digest: String,
        folder: &Path,
        size_bytes: u64,
        reserved_bytes: u64,
    ) -> io::Result<ArtifactLease> {
        let mut state = self.state.lock();
        fs::rename(folder, self.artifact_path(&digest))?;
        state.used_bytes = state.used_bytes - reserved_bytes + size_bytes;
        state.artifacts.insert(digest.clone(), Kept { size_bytes, last_use: 0, n_leases: 0 });
        Ok(self.lease(&mut state, digest).expect("it was just inserted"))
    }

    /// Reserves bytes if they are free.
    fn reserve(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let is_free = state.excess(bytes, self.budget_bytes).is_none();
        state.used_bytes += if is_free { bytes } else { 0 };
        is_free
    }

    /// Reserves `needed_bytes`, deleting artifacts until there is room. Blocks.
    fn make_room(&self, needed_bytes: u64) -> Result<(), NoRoom> {
        // Each round deletes at least one artifact, so this ends.
        loop {
            let leaving = {
                let mut state = self.state.lock();
                let Some(excess) = state.excess(needed_bytes, self.budget_bytes) else {
                    state.used_bytes += needed_bytes;
                    return Ok(());
                };
                let no_room = NoRoom {
                    needed_bytes,
                    in_use_bytes: state.unmovable_bytes(),
                    budget_bytes: self.budget_bytes,
                };
                let victims = victims(state.candidates(), excess).ok_or(no_room)?;
                state.remove(victims)
            };
            // Counted as used until it is gone.
            let freed_bytes = self.delete(leaving);
            self.release(freed_bytes);
        }
    }

    fn release(&self, bytes: u64) {
        self.state.lock().used_bytes -= bytes;
    }

    /// Deletes artifacts that are no longer in the state and returns their bytes.
    fn delete(&self, leaving: Vec<(String, u64)>) -> u64 {
        let mut freed_bytes = 0;
        for (digest, size_bytes) in leaving {
            // Moved first: a crash in between must not leave a record of half an artifact.
            let trash = self.incoming_path();
            let moved = fs::create_dir_all(self.folder.join("incoming"))
                .and_then(|()| fs::rename(self.artifact_path(&digest), &trash));
            if let Err(error) = moved.and_then(|()| fs::remove_dir_all(&trash)) {
                // Somebody else deleted it, or the next start will.
                debug!(digest, %error, "artifact was not deleted");
            }
            freed_bytes += size_bytes;
            info!(digest, size_bytes, "artifact left the disk");
        }
        freed_bytes
    }

    fn artifact_path(&self, digest: &str) -> PathBuf {
        self.folder.join("artifacts").join(digest)
    }

    fn incoming_path(&self) -> PathBuf {
        let nth = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        self.folder.join("incoming").join(nth.to_string())
    }
}

impl State {
    /// How many bytes must go before `needed_bytes` fit.
    fn excess(&self, needed_bytes: u64, budget_bytes: u64) -> Option<u64> {
        let excess = self.used_bytes.saturating_add(needed_bytes).saturating_sub(budget_bytes);
        (excess > 0).then_some(excess)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(digest, kept): (&String, &Kept)| Candidate {
            digest: digest.clone(),
            size_bytes: kept.size_bytes,
            last_use: kept.last_use,
            n_leases: kept.n_leases,
        };
        self.artifacts.iter().map(candidate).collect()
    }

    fn unmovable_bytes(&self) -> u64 {
        let idle = self.artifacts.values().filter(|kept| kept.n_leases == 0);
        self.used_bytes - idle.map(|kept| kept.size_bytes).sum::<u64>()
    }

    fn remove(&mut self, digests: Vec<String>) -> Vec<(String, u64)> {
        let remove = |digest: String| {
            let kept = self.artifacts.remove(&digest)?;
            Some((digest, kept.size_bytes))
        };
        digests.into_iter().filter_map(remove).collect()
    }
}

/// Makes an empty folder, whatever was there.
fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

/// Finds the artifacts of an earlier run, in the order of their last use, and deletes what has no
/// valid record.
fn recover(artifacts: &Path) -> io::Result<State> {
    let mut found = Vec::new();
    for entry in fs::read_dir(artifacts)? {
        let path = entry?.path();
        match record::read(&path) {
            Some((digest, record, used)) => found.push((used, digest, record.unpacked_bytes)),
            None if path.is_dir() => fs::remove_dir_all(&path)?,
            None => fs::remove_file(&path)?,
        }
    }
    found.sort();
    let mut state = State::default();
    for (_, digest, size_bytes) in found {
        state.n_uses += 1;
        state.used_bytes += size_bytes;
        let kept = Kept { size_bytes, last_use: state.n_uses, n_leases: 0 };
        state.artifacts.insert(digest, kept);
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
