//! The artifacts on this instance's disk: found again after a restart, within a budget of bytes.
//!
//! ```text
//! lock                        held while a worker uses the folder
//! incoming/{n}/               being unpacked, or being deleted; emptied at each start
//! artifacts/{digest}/artifact the unpacked files
//! artifacts/{digest}/record.json  what they are; written last, when all is safely on disk
//! python/                     what runs handlers; written anew at each start, not counted
//! ```
//!
//! # Invariants
//!
//! - What is counted as used covers everything below the folder, also what is being unpacked and
//!   what is being deleted, or could not be; it never exceeds the budget.
//! - Only this user can write into the folder: what others put there would be served as a model.
//! - A leased artifact is never deleted; one that is told to go goes with its last lease.
//! - An artifact without a record does not survive a restart: after a power cut its files may be
//!   full of holes. It serves before that, because waiting for the disk would slow every cold start.

mod folder;
mod incoming;
mod record;
mod siblings;
mod state;

pub use incoming::Incoming;
pub use siblings::{FOLDER_PREFIX, sweep};

use super::{ArtifactVersion, unpack::ARTIFACT, unpack::NoRoom};
use crate::policy::disk::victims;
use parking_lot::{Condvar, Mutex};
use record::Record;
use shared::address::ArtifactAddress;
use state::{Artifact, State, Trash};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

/// What an artifact takes beside its files: its digest's folder, the one in it, and the record, a
/// block of the file system each.
const FRAME_BYTES: u64 = 3 * 4096;

/// The artifacts on this instance's disk.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    budget_bytes: u64,
    state: Mutex<State>,
    /// Woken when something that was leaving has left.
    left: Condvar,
    next_incoming: AtomicU64,
    /// Locked until it is dropped.
    _lock: File,
}

/// Why a folder cannot be a worker's cache.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cache folder `{0}` is used by another worker")]
    Locked(PathBuf),
    #[error(
        "cache folder `{0}` can be changed by others than this user, and so its models: name one \
         that is not there yet, or make it this user's own with mode 0700"
    )]
    Exposed(PathBuf),
    #[error("cache folder `{0}` cannot be used")]
    Io(PathBuf, #[source] io::Error),
}

/// A hold on an artifact's folder. The last clone that is dropped releases it.
#[derive(Clone, Debug)]
pub struct ArtifactLease {
    path: PathBuf,
    /// Absent for a folder that is not in the cache, and so never leaves.
    hold: Option<Arc<Hold>>,
}

#[derive(Debug)]
struct Hold {
    cache: Arc<DiskCache>,
    digest: String,
}

impl ArtifactLease {
    /// A lease on a folder that somebody else keeps.
    pub fn in_place(path: PathBuf) -> Self {
        Self { path, hold: None }
    }

    /// Whether its files are the cache's, which nobody changes as long as it is held.
    pub fn is_own(&self) -> bool {
        self.hold.is_some()
    }

    /// The folder with the artifact's files.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        if !state.release(&self.digest) {
            return;
        }
        let trash = self.cache.move_out(&mut state, vec![self.digest.clone()]);
        drop(state);
        let cache = Arc::clone(&self.cache);
        // A lease may end on a thread that must not wait for a disk.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || cache.delete(trash))),
            Err(_) => cache.delete(trash),
        }
    }
}

impl DiskCache {
    /// Takes a folder as cache: locks it, deletes what is incomplete, keeps the rest. Blocks.
    pub fn open(folder: &Path, budget_bytes: u64) -> Result<Arc<Self>, OpenError> {
        let failed = |error| OpenError::Io(folder.to_owned(), error);
        let lock = folder::lock(folder)?;
        folder::clear(&folder.join("incoming")).map_err(failed)?;
        let state = State::of(folder::found(&folder.join("artifacts")).map_err(failed)?);
        let cache = Arc::new(Self {
            folder: folder.to_owned(),
            budget_bytes,
            state: Mutex::new(state),
            left: Condvar::new(),
            next_incoming: AtomicU64::new(0),
            _lock: lock,
        });
        // The budget may have shrunk since. Nothing is leased yet, so everything can go.
        if cache.make_room(0).is_err() {
            debug!("nothing in the cache can go");
        }
        let state = cache.state.lock();
        info!(n_artifacts = state.n_artifacts(), used_bytes = state.used_bytes, "opened cache");
        drop(state);
        Ok(cache)
    }

    /// Leases an artifact if it is here. One whose files somebody took away is forgotten.
    pub fn find(
        self: &Arc<Self>,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Option<ArtifactLease> {
        let digest = record::digest(address, version);
        let mut state = self.state.lock();
        if !self.artifact_path(&digest).join(ARTIFACT).is_dir() {
            if state.size_of(&digest).is_some() {
                warn!(digest, "artifact is gone from the disk");
                state.forget(&digest);
            }
            return None;
        }
        let lease = self.lease(&mut state, digest)?;
        drop(state);
        // For the order of last use after a restart; without it the order is a little worse.
        let _ = record::touch(&lease.path);
        Some(lease)
    }

    /// Leases the version of an artifact that was here last, whatever its store has now.
    pub fn last(
        self: &Arc<Self>,
        address: &ArtifactAddress,
    ) -> Option<(ArtifactVersion, ArtifactLease)> {
        let mut state = self.state.lock();
        let (digest, version) = state.last(address)?;
        if !self.artifact_path(&digest).join(ARTIFACT).is_dir() {
            return None;
        }
        let lease = self.lease(&mut state, digest)?;
        Some((version, lease))
    }

    /// Deletes artifacts; those that are leased when their last lease is dropped. Blocks.
    pub fn remove(&self, is_to_go: impl Fn(&ArtifactAddress, &ArtifactVersion) -> bool) {
        let mut state = self.state.lock();
        let idle = state.doom(|it| is_to_go(&it.address, &it.version));
        let trash = self.move_out(&mut state, idle);
        drop(state);
        self.delete(trash);
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
        let size_bytes = self.state.lock().size_of(&digest);
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
        state.lease(&digest)?;
        let path = self.artifact_path(&digest).join(ARTIFACT);
        Some(ArtifactLease { path, hold: Some(Arc::new(Hold { cache: Arc::clone(self), digest })) })
    }

    /// Moves a finished folder to its place, where its own bytes are counted instead of
    /// `reserved_bytes`, and leases it.
    fn keep(
        self: &Arc<Self>,
        artifact: Artifact,
        folder: &Path,
        size_bytes: u64,
        reserved_bytes: u64,
    ) -> io::Result<ArtifactLease> {
        let digest = record::digest(&artifact.address, &artifact.version);
        let mut state = self.state.lock();
        let target = self.artifact_path(&digest);
        // What is left of an artifact whose files somebody took away.
        let remains = self.incoming_path();
        let had_remains = fs::rename(&target, &remains).is_ok();
        fs::rename(folder, target)?;
        state.used_bytes = state.used_bytes - reserved_bytes + size_bytes;
        state.insert(&digest, artifact, size_bytes);
        let lease = self.lease(&mut state, digest).expect("it was just inserted");
        drop(state);
        if had_remains {
            folder::discard(&remains);
        }
        Ok(lease)
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
        let mut state = self.state.lock();
        // Each round takes at least one artifact out of the state, or waits for a thread that does
        // not wait itself, so this ends.
        loop {
            let Some(excess) = state.excess(needed_bytes, self.budget_bytes) else {
                state.used_bytes += needed_bytes;
                return Ok(());
            };
            // What leaves already need not be made good by others that go too.
            let missing = excess.saturating_sub(state.leaving_bytes);
            let victims = victims(state.candidates(), missing).ok_or_else(|| NoRoom {
                needed_bytes,
                in_use_bytes: state.unmovable_bytes(),
                budget_bytes: self.budget_bytes,
            })?;
            if victims.is_empty() {
                self.left.wait(&mut state);
                continue;
            }
            let trash = self.move_out(&mut state, victims);
            drop(state);
            self.delete(trash);
            state = self.state.lock();
        }
    }

    fn release(&self, bytes: u64) {
        self.state.lock().used_bytes -= bytes;
    }

    /// Takes artifacts out of the state and out of their place, so that a record of half an
    /// artifact never stays there, and that each can come again at once.
    fn move_out(&self, state: &mut State, digests: Vec<String>) -> Vec<Trash> {
        let mut trash = Vec::new();
        for digest in digests {
            let path = self.incoming_path();
            match fs::rename(self.artifact_path(&digest), &path) {
                Ok(()) => trash.extend(state.leave(&digest, path)),
                Err(_) if !self.artifact_path(&digest).is_dir() => state.forget(&digest),
                Err(error) => {
                    warn!(digest, %error, "artifact cannot leave the disk");
                    state.mark_stuck(&digest);
                }
            }
        }
        trash
    }

    /// Deletes what has left. It counts as used until it is gone.
    fn delete(&self, trash: Vec<Trash>) {
        for Trash { path, size_bytes } in trash {
            let is_gone = folder::discard(&path);
            self.state.lock().has_left(size_bytes, is_gone);
            self.left.notify_all();
        }
    }

    fn artifact_path(&self, digest: &str) -> PathBuf {
        self.folder.join("artifacts").join(digest)
    }

    fn incoming_path(&self) -> PathBuf {
        let nth = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        self.folder.join("incoming").join(nth.to_string())
    }
}

#[cfg(test)]
mod tests;
