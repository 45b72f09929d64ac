//! Virtual environments with what models' `requirements.txt` name, installed once for all that name the same.
//!
//! # Invariants
//!
//! - A model starts only in an environment whose installation ended well; one that is half made, by a
//!   worker that was killed, is made anew.
//! - An environment of a loaded model stays. Of the others, the longest unused go when there are many.

use super::{
    output,
    process::{Ended, Group, Interpreter},
    requirements::Requirements,
};
use crate::runtime::RuntimeError;
use parking_lot::Mutex;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    sync::OnceCell,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tracing::{info, warn};

/// Environments that are kept, those of loaded models aside: each has some 100 MB.
const MAX_IDLE: usize = 16;

/// Of what an installation said went wrong, as much goes to whoever wants the model.
const MAX_TOLD_BYTES: u64 = 4 << 10;

const START: &str = "import sys; sys.path.append(sys.argv[1]); \
     from manifold_handler.environment import main; main()";

/// Environments by what is in them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Environments {
    folder: PathBuf,
    /// The one that environments are made of.
    interpreter: Interpreter,
    patience: Duration,
    /// The longest unused first.
    kept: Arc<Mutex<Vec<Arc<Environment>>>>,
}

/// An environment; it stays for as long as somebody holds this.
#[derive(Debug)]
pub(super) struct Environment {
    folder: PathBuf,
    /// Set once by the one who installs, for all that wait.
    ready: OnceCell<()>,
}

impl Environments {
    /// Takes over a folder that this worker alone writes, with what an earlier run installed there. An
    /// installation may take as long as `patience`. Blocks.
    pub(super) fn open(
        folder: PathBuf,
        interpreter: Interpreter,
        patience: Duration,
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            found.push((entry.metadata()?.modified()?, Environment::at(entry.path())));
        }
        found.sort_by_key(|(modified, _)| *modified);
        let kept = found.into_iter().map(|(_, it)| it).collect();
        Ok(Self { folder, interpreter, patience, kept: Arc::new(Mutex::new(kept)) })
    }

    /// Returns an environment with these requirements; installs them if none is there.
    pub(super) async fn with(
        &self,
        requirements: &Requirements,
        model_name: &str,
    ) -> Result<Arc<Environment>, RuntimeError> {
        let environment = self.named(requirements.name());
        environment
            .ready
            .get_or_try_init(|| self.install(&environment.folder, requirements.file(), model_name))
            .await?;
        Ok(environment)
    }

    /// Finds or adds an environment, and lets others go for it.
    fn named(&self, name: &str) -> Arc<Environment> {
        let folder = self.folder.join(name);
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|it| it.folder == folder);
        let wanted = at.map_or_else(|| Environment::at(folder), |at| kept.remove(at));
        kept.push(Arc::clone(&wanted));
        for gone in overdue(&mut kept) {
            // Out of the way at once: the next one of this name is made beside it.
            let aside = self.folder.join(format!("gone-{}", uuid::Uuid::new_v4()));
            match fs::rename(&gone.folder, &aside) {
                // Its task is not waited for; a folder that stays is found by the next start.
                Ok(()) => drop(spawn_blocking(move || remove(&aside))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    warn!(folder = %gone.folder.display(), %error, "environment was not removed");
                }
            }
        }
        wanted
    }

    async fn install(
        &self,
        folder: &Path,
        requirements: &Path,
        model_name: &str,
    ) -> Result<(), RuntimeError> {
        let started = Instant::now();
        let command = self.command(folder, requirements);
        let program = self.interpreter.program.display();
        let failed = |error| not_installed(&format!("`{program}`: {error}; see --python"));
        let mut child = self.interpreter.nursery.spawn(command).await.map_err(failed)?;
        let _group = Group::of(&child);
        let _output = child.stdout.take().map(|it| output::follow(it, model_name, "pip"));
        let mut said = Vec::new();
        let installed = timeout(self.patience, async {
            if let Some(stderr) = child.stderr.take() {
                // A pipe that fails has ended.
                let _ = stderr.take(MAX_TOLD_BYTES).read_to_end(&mut said).await;
            }
            child.wait().await
        });
        let installed = installed.await;
        let told = String::from_utf8_lossy(&said);
        let told = told.trim();
        match installed {
            Ok(Ok(status)) if status.success() => {
                info!(model = model_name, took = ?started.elapsed(), "environment is ready");
                Ok(())
            }
            Ok(Ok(status)) if told.is_empty() => Err(not_installed(&status.to_string())),
            Ok(Ok(_)) => Err(not_installed(told)),
            Ok(Err(error)) => Err(not_installed(&error.to_string())),
            Err(_) => Err(not_installed(&Ended::TimedOut(self.patience).to_string())),
        }
    }

    fn command(&self, folder: &Path, requirements: &Path) -> Command {
        let mut command = Command::new(&self.interpreter.program);
        command
            .args(["-c", START])
            .args([&self.interpreter.harness, folder, requirements])
            .current_dir(&self.interpreter.harness)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl Environment {
    fn at(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, ready: OnceCell::new() })
    }

    /// Its interpreter.
    pub(super) fn program(&self) -> PathBuf {
        self.folder.join("bin/python")
    }
}

/// Takes out the longest unused, as many as are too many; in `kept` a used one is held by others, too.
fn overdue(kept: &mut Vec<Arc<Environment>>) -> Vec<Arc<Environment>> {
    let n_idle = kept.iter().filter(|it| Arc::strong_count(it) == 1).count();
    let mut n_gone = n_idle.saturating_sub(MAX_IDLE);
    let is_gone = |it: &mut Arc<Environment>| {
        let goes = n_gone > 0 && Arc::strong_count(it) == 1;
        n_gone -= usize::from(goes);
        goes
    };
    kept.extract_if(.., is_gone).collect()
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        warn!(folder = %folder.display(), %error, "environment was not removed");
    }
}

fn not_installed(why: &str) -> RuntimeError {
    RuntimeError::NotLoaded(format!("its requirements cannot be installed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_environments_go_and_those_in_use_stay() {
        let named = |idx: usize| Environment::at(PathBuf::from(idx.to_string()));
        let mut kept: Vec<_> = (0..MAX_IDLE + 4).map(named).collect();
        let used = [Arc::clone(&kept[0]), Arc::clone(&kept[3])];

        let gone = overdue(&mut kept);

        let gone: Vec<_> = gone.iter().map(|it| it.folder.clone()).collect();
        assert_eq!(gone, [PathBuf::from("1"), PathBuf::from("2")]);
        assert!(used.iter().all(|it| kept.iter().any(|other| Arc::ptr_eq(it, other))));
    }
}
