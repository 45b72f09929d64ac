//! Where the other programs of Manifold are: beside this one.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The programs of a local cluster.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub manifold: PathBuf,
    pub router: PathBuf,
    pub worker: PathBuf,
    pub zoo: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    #[error("could not find out where this program is")]
    CurrentExe(#[source] io::Error),
    #[error("{} is missing: build the whole workspace (`make build`)", .0.display())]
    Missing(PathBuf),
}

impl Binaries {
    /// Finds the programs beside the running one.
    pub fn beside_us() -> Result<Self, BinariesError> {
        let us = std::env::current_exe().map_err(BinariesError::CurrentExe)?;
        Ok(Self::within(us.parent().unwrap_or(Path::new("."))))
    }

    /// Expects the programs in `folder`.
    pub fn within(folder: &Path) -> Self {
        Self {
            manifold: folder.join("manifold"),
            router: folder.join("manifold-router"),
            worker: folder.join("manifold-worker"),
            zoo: folder.join("manifold-zoo"),
        }
    }

    /// Checks that a cluster can be started.
    pub fn check(&self) -> Result<(), BinariesError> {
        let Self { manifold, router, worker, zoo: _ } = self;
        match [manifold, router, worker].into_iter().find(|path| !path.is_file()) {
            Some(missing) => Err(BinariesError::Missing(missing.clone())),
            None => Ok(()),
        }
    }
}
