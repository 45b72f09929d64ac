//! The folder of a local cluster: logs, the store's objects, caches; one cluster at a time.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The folder of a running cluster. Cheap to clone. The lock is released when the last clone is
/// dropped, or with the process.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Arc<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "another cluster is running with the data folder {}: stop it, or choose another folder with --data",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("could not use {} as data folder", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the folder, or makes it, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io_error = |source| DataDirError::Io { path: path.to_owned(), source };
        for folder in ["logs", "run", "store", "cache"] {
            std::fs::create_dir_all(path.join(folder)).map_err(io_error)?;
        }
        // Children are told absolute paths.
        let path = path.canonicalize().map_err(io_error)?;
        let lock = File::options().create(true).append(true).open(path.join("lock"));
        let lock = lock.map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {
                clear(&path.join("logs")).map_err(io_error)?;
                Ok(Self { path, _lock: Arc::new(lock) })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path)),
            Err(TryLockError::Error(source)) => Err(io_error(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The token of the cluster, if it is made for one run.
    pub fn token_file(&self) -> PathBuf {
        self.path.join("run").join("cluster.token")
    }

    /// The router's records.
    pub fn records(&self) -> PathBuf {
        self.path.join("records.redb")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    pub fn address_file(&self, name: &str) -> PathBuf {
        self.path.join("run").join(format!("{name}.addr"))
    }

    pub fn cache(&self, instance: &str) -> PathBuf {
        self.path.join("cache").join(instance)
    }

    /// Where models are unpacked for an instance that is a container.
    pub fn unpacked(&self, instance: &str) -> PathBuf {
        self.path.join("unpacked").join(instance)
    }

    /// Removes what an instance leaves that never comes again, but its log.
    pub fn forget(&self, instance: &str) {
        // It may have left nothing; what cannot be removed is tried again at the next start.
        let _ = std::fs::remove_dir_all(self.cache(instance));
        let _ = std::fs::remove_dir_all(self.unpacked(instance));
        let _ = std::fs::remove_file(self.address_file(instance));
    }

    /// Returns the instances that have left a cache here.
    pub fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path.join("cache")).into_iter().flatten();
        entries.flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Logs are of one run: they would grow for ever, and an old error would pass for a new one.
fn clear(logs: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(logs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_cluster_in_the_same_folder_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert!(matches!(&error, DataDirError::InUse(_)), "{error}");
        std::fs::write(first.log("router"), "old").unwrap();
        drop(first);
        let second = DataDir::open(folder.path()).unwrap();
        assert!(!second.log("router").exists());
        drop(second);
        assert!(DataDir::open(folder.path()).is_ok());
    }
}
