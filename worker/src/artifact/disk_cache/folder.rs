//! The cache's folder before anybody uses it: whose it is, and what an earlier run left in it.

use super::{OpenError, record, state::Artifact};
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
    thread,
    time::Duration,
};
use tracing::warn;

/// Group and others, writing.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How often, and after which pauses, a lock is tried: whoever deletes a folder that was left behind
/// holds it for a moment, a worker for good.
const MAX_TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the folder, if need be, and locks it. Blocks.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Io(folder.to_owned(), error);
    for _ in 0..MAX_TRIES {
        match try_lock(folder) {
            Ok(Some(lock)) => return Ok(lock),
            // Somebody has it, or is deleting what was there.
            Ok(None) => {}
            Err(OpenError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        thread::sleep(PAUSE);
    }
    // Where it never came to a lock, the reason is told.
    fs::metadata(folder).map_err(failed)?;
    Err(OpenError::Locked(folder.to_owned()))
}

fn try_lock(folder: &Path) -> Result<Option<File>, OpenError> {
    let failed = |error| OpenError::Io(folder.to_owned(), error);
    claim(folder)?;
    fs::create_dir_all(folder.join("artifacts")).map_err(failed)?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(failed)?;
    match lock.try_lock() {
        // If it is no longer there, what is locked has been moved away.
        Ok(()) => Ok(is_at(&lock, &path).then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Whether an open file is the one at a path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// Makes the folder for this user alone, or checks that it is so. In a shared temporary folder
/// anybody may have made it first, with models of his own in it.
fn claim(folder: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::Io(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    // If the folder itself is a link, then one that this user or the administrator made.
    let link = fs::symlink_metadata(folder).map_err(failed)?;
    let metadata = fs::metadata(folder).map_err(failed)?;
    let is_ours = metadata.uid() == own && [own, 0].contains(&link.uid());
    if is_ours && metadata.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(OpenError::Exposed(folder.to_owned()))
}

/// Makes an empty folder, whatever was there.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

/// Deletes a folder below `incoming`, and returns whether it is gone. One that is not takes its room
/// until the next start.
pub(super) fn discard(path: &Path) -> bool {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "folder was not deleted");
            false
        }
        _ => true,
    }
}

/// Returns the artifacts that an earlier run left, with digest and size, the longest unused first,
/// and deletes what has no valid record.
pub(super) fn found(artifacts: &Path) -> io::Result<Vec<(String, Artifact, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(artifacts)? {
        let path = entry?.path();
        match record::read(&path) {
            Some((digest, record, used)) => found.push((used, digest, record)),
            None if path.is_dir() => fs::remove_dir_all(&path)?,
            None => fs::remove_file(&path)?,
        }
    }
    found.sort_by_key(|(used, ..)| *used);
    let found = found.into_iter();
    Ok(found.map(|(_, digest, it)| (digest, it.artifact(), it.unpacked_bytes)).collect())
}
