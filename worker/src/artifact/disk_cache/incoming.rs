//! An artifact on its way into the cache: a folder, and the room that is reserved for it.

use super::{ArtifactLease, DiskCache, FRAME_BYTES, folder, state::Artifact};
use crate::artifact::{
    ArtifactVersion,
    unpack::{NoRoom, Room},
};
use shared::address::ArtifactAddress;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Room is taken in such steps, so that not every write asks for it.
const STEP_BYTES: u64 = 16 << 20;

/// An artifact on its way into the cache. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    cache: Arc<DiskCache>,
    folder: PathBuf,
    reserved_bytes: u64,
}

impl Incoming {
    pub(super) fn new(cache: Arc<DiskCache>, folder: PathBuf) -> Self {
        Self { cache, folder, reserved_bytes: 0 }
    }

    /// Where the artifact is unpacked to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts the unpacked artifact into the cache and leases it.
    pub fn finish(
        mut self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
        size_bytes: u64,
    ) -> io::Result<ArtifactLease> {
        let artifact = Artifact { address: address.clone(), version: version.clone() };
        let whole_bytes = size_bytes.saturating_add(FRAME_BYTES);
        let lease = self.cache.keep(artifact, &self.folder, whole_bytes, self.reserved_bytes)?;
        // The cache counts the artifact itself from here on.
        self.reserved_bytes = 0;
        Ok(lease)
    }
}

impl Room for Incoming {
    fn cover(&mut self, total_bytes: u64) -> Result<(), NoRoom> {
        let total_bytes = total_bytes.saturating_add(FRAME_BYTES);
        let Some(missing) = total_bytes.checked_sub(self.reserved_bytes).filter(|it| *it > 0)
        else {
            return Ok(());
        };
        let step = missing.max(STEP_BYTES);
        // No artifact goes for more than is needed now.
        let reserved = if self.cache.reserve(step) {
            step
        } else {
            self.cache.make_room(missing).map(|()| missing)?
        };
        self.reserved_bytes += reserved;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if folder::discard(&self.folder) {
            self.cache.release(self.reserved_bytes);
        }
    }
}
