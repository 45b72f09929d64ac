//! Notices that a file of the configuration has changed.
//!
//! Files are looked at, not watched: a second late is soon enough, and it works on every file
//! system, also where a file is replaced through a link as orchestrators do.

use crate::telemetry::Chain;
use std::{
    convert::Infallible,
    error::Error,
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

/// How often files are looked at: who changes one waits at most as long.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Files, and how they looked when they were last read.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

/// What changes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    n_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            n_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Watch {
    /// Looks at the files. To be made before they are read, so that no change is missed. Blocks.
    pub fn new(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let files: Vec<_> = files.into_iter().map(|it| it.as_ref().to_owned()).collect();
        let seen = files.iter().map(|file| std::fs::metadata(file).ok()).collect::<Vec<_>>();
        Self { files, seen: seen.iter().map(|it| it.as_ref().map(Stamp::of)).collect() }
    }

    /// Waits until one of the files looks otherwise. Without files, for ever.
    pub async fn changed(&mut self) {
        if self.files.is_empty() {
            std::future::pending::<()>().await;
        }
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once.
        looks.tick().await;
        loop {
            looks.tick().await;
            let mut seen = Vec::with_capacity(self.files.len());
            for file in &self.files {
                seen.push(tokio::fs::metadata(file).await.ok().as_ref().map(Stamp::of));
            }
            if seen != self.seen {
                self.seen = seen;
                return;
            }
        }
    }
}

/// Reads again after each change. What cannot be used changes nothing, and is logged once.
pub async fn follow<E: Error + 'static>(
    what: &'static str,
    mut watch: Watch,
    read: impl Fn() -> Result<(), E>,
) -> Infallible {
    loop {
        watch.changed().await;
        match read() {
            Ok(()) => info!(what, "read again"),
            Err(error) => {
                error!(what, error = %Chain(&error), "cannot be used: what was read before stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_change_a_loss_and_a_return_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        std::fs::write(&file, "1").unwrap();
        std::fs::write(&other, "1").unwrap();
        let mut watch = Watch::new([&file, &other]);
        std::fs::write(&file, "2").unwrap();
        timeout(LONG, watch.changed()).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        timeout(LONG, watch.changed()).await.unwrap();
        std::fs::rename(&other, &file).unwrap();
        timeout(LONG, watch.changed()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_noticed_where_nothing_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(timeout(LONG, Watch::new([file.path()]).changed()).await.is_err());
        assert!(timeout(LONG, Watch::new([""; 0]).changed()).await.is_err());
    }
}
