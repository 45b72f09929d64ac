//! The demo models are made by `manifold-zoo`, which needs LibTorch. This is how it is called.

use crate::{binaries::Binaries, models};
use std::{ffi::OsString, io, os::unix::process::CommandExt as _, path::Path, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    #[error("could not run {}: build the whole workspace (`make build`)", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("manifold-zoo failed ({0}): `make models` fetches what it needs")]
    Failed(String),
    #[error("manifold-zoo did not make {0}")]
    Incomplete(String),
}

/// Becomes `manifold-zoo`. Returns only if that fails.
pub fn exec(binaries: &Binaries, args: &[OsString]) -> ZooError {
    let source = std::process::Command::new(&binaries.zoo).args(args).exec();
    ZooError::Run { program: binaries.zoo.clone(), source }
}

/// Makes the demo models in `folder` unless all are there. Returns whether any were made.
pub async fn make(binaries: &Binaries, folder: &Path) -> Result<bool, ZooError> {
    if models::missing(folder).is_empty() {
        return Ok(false);
    }
    // In the foreground, so that its progress is seen and a Ctrl-C reaches it.
    let status = tokio::process::Command::new(&binaries.zoo)
        .arg("--out")
        .arg(folder)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|source| ZooError::Run { program: binaries.zoo.clone(), source })?;
    if !status.success() {
        return Err(ZooError::Failed(status.to_string()));
    }
    match models::missing(folder).as_slice() {
        [] => Ok(true),
        missing => Err(ZooError::Incomplete(missing.join(", "))),
    }
}
