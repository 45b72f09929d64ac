//! The demo models are made by `manifold-zoo`, which needs LibTorch. This is how it is called.

use crate::{binaries::Binaries, child, models, signals::Signals};
use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// All were there before.
    Nothing,
    Missing,
    /// A signal came first; `manifold-zoo` runs no more.
    Interrupted,
}

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

/// Makes the demo models in `folder` unless all are there.
pub async fn make(
    binaries: &Binaries,
    folder: &Path,
    signals: &mut Signals,
) -> Result<Made, ZooError> {
    if models::missing(folder).is_empty() {
        return Ok(Made::Nothing);
    }
    let run_error = |source| ZooError::Run { program: binaries.zoo.clone(), source };
    // Its output is ours, so that its progress is seen. Like every child it ends with us, and a
    // Ctrl-C reaches us alone (see `child`).
    let mut command = tokio::process::Command::new(&binaries.zoo);
    child::remove_settings(&mut command, &[]);
    let mut zoo = command
        .arg("--exit-with-parent")
        .arg("--out")
        .arg(folder)
        .stdin(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(run_error)?;
    // Taken out, because tokio closes it before it waits.
    let _stdin = zoo.stdin.take();
    let Some(status) = signals.unless(zoo.wait()).await else {
        zoo.kill().await.map_err(run_error)?;
        return Ok(Made::Interrupted);
    };
    let status = status.map_err(run_error)?;
    if !status.success() {
        return Err(ZooError::Failed(status.to_string()));
    }
    match models::missing(folder).as_slice() {
        [] => Ok(Made::Missing),
        missing => Err(ZooError::Incomplete(missing.join(", "))),
    }
}
