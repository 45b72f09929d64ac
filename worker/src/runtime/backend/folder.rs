//! Where a backend finds unpacked models: `<folder>/<name>/model`, which it may read and nobody need write.
//!
//! # Invariants
//!
//! - One agent has the folder.
//! - What is deleted was made here: it has a name of ours.

use super::NAME_PREFIX;
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// What another user than this one, as a container's is, may do with folders and files.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o444;
const EXECUTABLE: u32 = 0o111;

/// Deeper than any archive may be.
const MAX_DEPTH: usize = 128;

const LOCK: &str = ".manifold.lock";

/// Why a folder cannot be where models are unpacked.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("models folder `{0}` is used by another agent: name another one with --backend-models")]
    Locked(PathBuf),
    #[error(
        "models folder `{0}` cannot be used: name one that this user may write with --backend-models"
    )]
    Io(PathBuf, #[source] io::Error),
}

/// The models of a backend.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Where the backend finds it.
    seen: PathBuf,
    _lock: File,
    /// What was laid out and has not left.
    names: Mutex<HashSet<String>>,
    /// Held by whoever deletes: who clears the folder waits for what is on its way.
    deleting: Mutex<()>,
}

/// A model's files, which leave when this is dropped.
#[derive(Debug)]
pub(super) struct Laid {
    folder: Arc<Folder>,
    name: String,
}

impl Folder {
    /// Takes the folder, and deletes what an earlier run has left. Blocks.
    pub(super) fn open(path: &Path, seen: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut n_left = 0;
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
                n_left += 1;
            }
        }
        if n_left > 0 {
            info!(n_left, path = %path.display(), "deleted models of an earlier run");
        }
        let (path, seen) = (path.to_owned(), seen.to_owned());
        Ok(Self { path, seen, _lock: lock, names: Mutex::default(), deleting: Mutex::default() })
    }

    /// Puts a model's files where the backend finds them. Those that nobody else changes are linked, if the
    /// file system can; others are copied. Blocks.
    pub(super) fn lay_out(
        self: &Arc<Self>,
        name: &str,
        artifact: &Path,
        may_link: bool,
    ) -> io::Result<Laid> {
        self.names.lock().insert(name.to_owned());
        // Whatever fails from now on takes along what was made.
        let laid = Laid { folder: Arc::clone(self), name: name.to_owned() };
        make_folder(&self.path.join(name))?;
        lay(artifact, &self.path.join(name).join("model"), may_link, MAX_DEPTH)?;
        Ok(laid)
    }

    /// Deletes all that was laid out. Blocks.
    pub(super) fn clear(&self) {
        let names: Vec<_> = self.names.lock().iter().cloned().collect();
        for name in names {
            self.remove(&name);
        }
    }

    fn remove(&self, name: &str) {
        let _deleting = self.deleting.lock();
        if !self.names.lock().contains(name) {
            return;
        }
        let path = self.path.join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), %error, "a model's files were not deleted; they go at the next start");
            }
            _ => {}
        }
        self.names.lock().remove(name);
    }
}

impl Laid {
    /// Where the backend finds it.
    pub(super) fn seen(&self) -> String {
        self.folder.seen.join(&self.name).join("model").to_string_lossy().into_owned()
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let (folder, name) = (Arc::clone(&self.folder), self.name.clone());
        // On a thread that must not wait for a disk, maybe.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || folder.remove(&name))),
            Err(_) => folder.remove(&name),
        }
    }
}

/// Whether a name at the backend, and of a folder, is one that an agent has made.
pub(super) fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix(NAME_PREFIX);
    let is_digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    digits.is_some_and(|it| it.len() == 32 && it.bytes().all(is_digit))
}

/// Makes a folder that other users may read, whatever this user's mask is.
fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
}

fn lay(from: &Path, to: &Path, may_link: bool, depth: usize) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other("its folders are nested too deep"));
    };
    make_folder(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::metadata(&path)?;
        match (metadata.is_dir(), entry.file_type()?.is_symlink()) {
            // Following it could go round for ever.
            (true, true) => return Err(io::Error::other("a link in it leads to a folder")),
            (true, false) => lay(&path, &to, may_link, depth)?,
            (false, is_link) => lay_file(&path, &to, metadata.mode(), may_link && !is_link)?,
        }
    }
    Ok(())
}

fn lay_file(from: &Path, to: &Path, mode: u32, may_link: bool) -> io::Result<()> {
    // Another file system, or one without links: then a copy does.
    if !may_link || fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    fs::set_permissions(to, Permissions::from_mode(FILE_MODE | mode & EXECUTABLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const NAME: &str = "manifold_0123456789abcdef0123456789abcdef";

    fn artifact() -> tempfile::TempDir {
        let artifact = tempfile::tempdir().unwrap();
        fs::create_dir(artifact.path().join("code")).unwrap();
        fs::write(artifact.path().join("code/run.sh"), "echo").unwrap();
        fs::set_permissions(artifact.path().join("code/run.sh"), Permissions::from_mode(0o700))
            .unwrap();
        fs::write(artifact.path().join("weights"), "1").unwrap();
        artifact
    }

    fn open(path: &Path) -> Arc<Folder> {
        Arc::new(Folder::open(path, Path::new("/seen")).unwrap())
    }

    #[test]
    fn a_model_is_there_for_everybody_to_read_and_leaves_with_its_holder() {
        for may_link in [true, false] {
            let (artifact, folder) = (artifact(), tempfile::tempdir().unwrap());
            let models = open(folder.path());
            let laid = models.lay_out(NAME, artifact.path(), may_link).unwrap();
            assert_eq!(laid.seen(), format!("/seen/{NAME}/model"));
            let mode = |path: &str| {
                let path = folder.path().join(NAME).join(path);
                fs::metadata(path).unwrap().mode() & 0o777
            };
            assert_eq!((mode(""), mode("model"), mode("model/code")), (0o755, 0o755, 0o755));
            assert_eq!((mode("model/weights"), mode("model/code/run.sh")), (0o444, 0o544));
            let weights = fs::metadata(folder.path().join(NAME).join("model/weights")).unwrap();
            assert_eq!(weights.nlink() == 2, may_link);
            drop(laid);
            assert!(!folder.path().join(NAME).exists());
            assert!(artifact.path().join("weights").exists());
        }
    }

    #[test]
    fn what_an_earlier_run_left_goes_and_what_is_somebody_else_s_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(NAME).join("model")).unwrap();
        for other in ["manifold_", "manifold_0123456789ABCDEF0123456789abcdef", "own"] {
            fs::create_dir(folder.path().join(other)).unwrap();
        }
        let models = open(folder.path());
        assert!(!folder.path().join(NAME).exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        let error = Folder::open(folder.path(), Path::new("/seen")).unwrap_err();
        assert!(error.to_string().contains("--backend-models"), "{error}");
        drop(models);
        open(folder.path());
    }

    #[test]
    fn links_of_a_folder_are_followed_to_files_alone_and_nothing_stays_of_a_failure() {
        let (artifact, folder) = (artifact(), tempfile::tempdir().unwrap());
        symlink(artifact.path().join("weights"), artifact.path().join("linked")).unwrap();
        let models = open(folder.path());
        let laid = models.lay_out(NAME, artifact.path(), true).unwrap();
        assert!(
            fs::symlink_metadata(folder.path().join(NAME).join("model/linked")).unwrap().is_file()
        );
        drop(laid);
        symlink(artifact.path(), artifact.path().join("round")).unwrap();
        assert!(models.lay_out(NAME, artifact.path(), true).is_err());
        assert!(!folder.path().join(NAME).exists());
    }
}
