//! Folders that workers left behind which do not come back: a container that is made anew has a new
//! name, and so a new folder beside the old one.
//!
//! # Invariants
//!
//! - What goes is surely a worker's: a folder of this user alone, no link, named as workers name theirs,
//!   with a lock that nobody holds and nothing in it but what a cache has.
//! - It leaves its name in one step, so that a worker of that name never finds half a cache.

use super::folder;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use tracing::{info, warn};

/// How a worker's own folder begins that nobody has named; the instance's name follows.
pub const FOLDER_PREFIX: &str = "manifold-";

/// Folders that are deleted at one start. There is one for each container that was made anew.
const MAX_SWEPT: usize = 64;

/// Whatever group and others may do.
const OTHERS: u32 = 0o077;

/// The folders of a worker's cache, those that handlers need included.
const FOLDERS: [&str; 4] = ["artifacts", "environments", "incoming", "python"];

/// Deletes the folders beside `own` whose workers are gone, and returns how many. Blocks, maybe for long.
pub fn sweep(own: &Path) -> usize {
    let Some(parent) = own.parent() else { return 0 };
    let siblings = match fs::read_dir(parent) {
        Ok(siblings) => siblings,
        Err(error) => {
            warn!(parent = %parent.display(), %error, "no look for folders that were left behind");
            return 0;
        }
    };
    let is_sibling = |path: &PathBuf| {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
        path != own && name.is_some_and(|it| it.starts_with(FOLDER_PREFIX))
    };
    let paths = siblings.filter_map(Result::ok).map(|it| it.path()).filter(is_sibling);
    let abandoned = paths.filter_map(|path| Some((abandoned(&path)?, path)));
    let mut n_swept = 0;
    for (lock, path) in abandoned.take(MAX_SWEPT) {
        match delete(&path) {
            Ok(()) => {
                info!(path = %path.display(), "deleted the cache of a worker that is gone");
                n_swept += 1;
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "cache of a worker that is gone stays");
            }
        }
        // Held until now: nobody else deletes it, too.
        drop(lock);
    }
    n_swept
}

/// Returns the lock of a folder that is a worker's cache, and that no worker uses.
fn abandoned(path: &Path) -> Option<File> {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok()?;
        (metadata.uid() == own && !metadata.is_symlink()).then_some(metadata)
    };
    let is_private = is_ours(path).is_some_and(|it| it.is_dir() && it.mode() & OTHERS == 0);
    if !is_private || !has_parts_alone(path).unwrap_or(false) {
        return None;
    }
    let lock_path = path.join("lock");
    if !is_ours(&lock_path)?.is_file() {
        return None;
    }
    let lock = File::open(&lock_path).ok()?;
    lock.try_lock().ok()?;
    // Somebody else may have deleted it meanwhile, and a worker made it anew.
    folder::is_at(&lock, &lock_path).then_some(lock)
}

fn has_parts_alone(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != "lock" && !FOLDERS.iter().any(|it| name == *it) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves a folder out of the way and deletes it. Its lock goes last: what is interrupted is found again.
fn delete(path: &Path) -> io::Result<()> {
    let gone = path.with_file_name(format!("{FOLDER_PREFIX}gone-{}", uuid::Uuid::new_v4()));
    fs::rename(path, &gone)?;
    for part in FOLDERS {
        match fs::remove_dir_all(gone.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(gone.join("lock"))?;
    fs::remove_dir(gone)
}

#[cfg(test)]
mod tests {
    use super::{super::DiskCache, *};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn cache_at(path: &Path) -> std::sync::Arc<DiskCache> {
        DiskCache::open(path, 1 << 20).unwrap()
    }

    #[test]
    fn the_cache_of_a_worker_that_is_gone_goes_and_that_of_a_live_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (_own, _live) = (cache_at(&at("manifold-own")), cache_at(&at("manifold-live")));
        drop(cache_at(&at("manifold-dead")));
        for left in ["artifacts/left", "environments/one", "python/manifold_handler"] {
            fs::create_dir_all(at("manifold-dead").join(left)).unwrap();
        }
        drop(cache_at(&at("named-by-somebody")));

        assert_eq!(sweep(&at("manifold-own")), 1);

        let stay = ["manifold-own", "manifold-live", "named-by-somebody"];
        assert!(stay.iter().all(|name| at(name).join("lock").exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        // Whoever has the name again begins anew.
        drop(cache_at(&at("manifold-dead")));
    }

    #[test]
    fn what_is_not_surely_the_cache_of_a_worker_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let elsewhere = tempfile::tempdir().unwrap();
        drop(cache_at(&elsewhere.path().join("cache")));
        symlink(elsewhere.path().join("cache"), at("manifold-link")).unwrap();
        fs::create_dir(at("manifold-foreign")).unwrap();
        fs::write(at("manifold-file"), "").unwrap();
        for name in ["manifold-more", "manifold-open", "manifold-lock-link"] {
            drop(cache_at(&at(name)));
        }
        fs::write(at("manifold-more").join("thesis.txt"), "").unwrap();
        fs::set_permissions(at("manifold-open"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(at("manifold-lock-link").join("lock")).unwrap();
        symlink(elsewhere.path().join("cache/lock"), at("manifold-lock-link").join("lock"))
            .unwrap();
        let before = fs::read_dir(folder.path()).unwrap().count();

        assert_eq!(sweep(&at("manifold-own")), 0);

        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
        assert!(elsewhere.path().join("cache/artifacts").exists());
    }

    #[test]
    fn two_who_sweep_and_one_who_starts_get_along() {
        let folder = tempfile::tempdir().unwrap();
        let (own, dead) = (folder.path().join("manifold-own"), folder.path().join("manifold-dead"));
        for _ in 0..50 {
            drop(cache_at(&dead));
            std::thread::scope(|scope| {
                let sweeps = [scope.spawn(|| sweep(&own)), scope.spawn(|| sweep(&own))];
                // Whatever they have done with the old one, its folder and lock are there.
                let cache = cache_at(&dead);
                for sweep in sweeps {
                    sweep.join().unwrap();
                }
                assert!(dead.join("lock").exists() && dead.join("artifacts").exists());
                drop(cache);
            });
        }
    }
}
