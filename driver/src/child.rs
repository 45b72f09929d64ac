//! One child process: started, waited for, asked to stop, killed.
//!
//! # Invariants
//!
//! - A child never outlives the process that started it. Its standard input is a pipe whose other end
//!   is held here, and it ends when that closes (`--exit-with-parent`): the kernel sees to it even
//!   when we are killed.
//! - A child is in a process group of its own, so that a Ctrl-C in the terminal reaches the launcher
//!   alone, which then stops its children in order.
//! - Only a process that was not yet waited for is signalled, so that a reused process id is safe.

use crate::log;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

/// How long a child may take until it listens. LibTorch alone takes seconds to map on a cold disk.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// How often a file or a state is looked at while a child starts.
pub const POLL: Duration = Duration::from_millis(20);

/// What is never handed down: settings of the user's own AWS and SageMaker world and proxies, which
/// would lead a child away from the local store and port.
const FOREIGN_VARIABLES: [&str; 12] = [
    "ALL_PROXY",
    "all_proxy",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "SAGEMAKER_BIND_TO_PORT",
    "SAGEMAKER_MULTI_MODEL",
    "http_proxy",
    "https_proxy",
];

/// How the variables begin that set up our own programs. They hold secrets, and one program's are
/// none of another's business.
const SETTINGS: [&str; 2] = [ROUTER_SETTINGS, WORKER_SETTINGS];

pub const ROUTER_SETTINGS: &str = "ROUTER_";
pub const WORKER_SETTINGS: &str = "WORKER_";

/// How to start a child.
#[derive(Clone)]
pub struct ChildSpec {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    /// Of the settings of our programs in our own environment, those that begin so are handed down.
    pub settings: &'static [&'static str],
    /// Where its output goes, at the end.
    pub log: PathBuf,
    /// Where it writes the address that it listens on.
    pub address_file: PathBuf,
}

/// Without what variables hold: there may be a secret among them.
impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    address_file: PathBuf,
    process: tokio::process::Child,
    /// Never written to: open as long as the child shall live.
    stdin: Option<ChildStdin>,
}

/// How a child ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Orderly,
    /// It did not end within the grace period.
    Killed,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("could not open the log {}", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{name} ended while it was starting ({status}). The end of {}:\n{tail}", log.display())]
    Ended { name: String, status: String, log: PathBuf, tail: String },
    #[error("{name} does not listen after {patience:?}. The end of {}:\n{tail}", log.display())]
    Slow { name: String, patience: Duration, log: PathBuf, tail: String },
}

impl Child {
    /// Starts the process, which then opens its port: see [`Child::address`].
    pub fn start(spec: &ChildSpec) -> Result<Self, StartError> {
        let log_error = |source| StartError::Log { path: spec.log.clone(), source };
        let log = File::options().create(true).append(true).open(&spec.log).map_err(log_error)?;
        let stderr = log.try_clone().map_err(log_error)?;
        // The address of an earlier run would be taken for this one's. Mostly there is none.
        let _ = std::fs::remove_file(&spec.address_file);

        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        remove_settings(&mut command, spec.settings);
        // Last, because what we say ourselves is never foreign.
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        let mut process = command
            .spawn()
            .map_err(|source| StartError::Spawn { program: spec.program.clone(), source })?;
        // Taken out, because tokio closes it before it waits.
        let stdin = process.stdin.take();
        Ok(Self {
            name: spec.name.clone(),
            log: spec.log.clone(),
            address_file: spec.address_file.clone(),
            process,
            stdin,
        })
    }

    /// Waits until the child listens and returns where.
    pub async fn address(&mut self) -> Result<SocketAddr, StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(address) = read_address(&self.address_file) {
                return Ok(address);
            }
            self.check_running()?;
            if Instant::now() > deadline {
                return Err(StartError::Slow {
                    name: self.name.clone(),
                    patience: START_PATIENCE,
                    log: self.log.clone(),
                    tail: log::tail(&self.log),
                });
            }
            sleep(POLL).await;
        }
    }

    /// Returns the end of its log if the child has ended.
    pub fn check_running(&mut self) -> Result<(), StartError> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(StartError::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                log: self.log.clone(),
                tail: log::tail(&self.log),
            }),
            Err(source) => Err(StartError::Spawn { program: PathBuf::from(&self.name), source }),
        }
    }

    /// Returns the process id, until the child was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits until the child ends. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks the child to finish what it accepted, and kills it if it takes longer than `grace`.
    pub async fn stop(&mut self, grace: Duration) -> Stopped {
        self.signal(Signal::TERM);
        if timeout(grace, self.process.wait()).await.is_ok() {
            return Stopped::Orderly;
        }
        self.kill().await;
        Stopped::Killed
    }

    /// Kills the child (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        drop(self.stdin.take());
        // Nothing survives SIGKILL, so the wait is short; that it was waited for before is fine.
        let _ = self.process.wait().await;
    }

    /// Sends a signal, unless the child is known to have ended.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now, which is what the signal is for.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Keeps the settings of our programs from a child, but those that begin with one of `kept`.
pub fn remove_settings(command: &mut Command, kept: &[&str]) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| is_setting(name) && !begins_with(name, kept)) {
            command.env_remove(name);
        }
    }
}

/// Whether others than ourselves, such as those who make models, may set a variable of a child.
pub fn may_be_set(name: &str) -> bool {
    !FOREIGN_VARIABLES.contains(&name) && !is_setting(name)
}

fn is_setting(name: &str) -> bool {
    begins_with(name, &SETTINGS)
}

fn begins_with(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|it| name.starts_with(it))
}

fn read_address(path: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> ChildSpec {
        ChildSpec {
            name: "test".to_owned(),
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            env: vec![("ADDRESS_FILE".to_owned(), folder.join("address").display().to_string())],
            settings: &[],
            log: folder.join("log"),
            address_file: folder.join("address"),
        }
    }

    #[tokio::test]
    async fn address_is_read_once_the_child_listens() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("address"), "127.0.0.1:1").unwrap();
        let script = "echo 127.0.0.1:81 > $ADDRESS_FILE; cat";
        let mut child = Child::start(&shell(folder.path(), script)).unwrap();
        assert_eq!(child.address().await.unwrap(), SocketAddr::from(([127, 0, 0, 1], 81)));
        assert_eq!(child.stop(Duration::from_secs(10)).await, Stopped::Orderly);
    }

    #[tokio::test]
    async fn child_that_fails_to_start_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo no such port >&2; exit 3";
        let mut child = Child::start(&shell(folder.path(), script)).unwrap();
        let error = child.address().await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such port"), "{error}");
    }

    #[tokio::test]
    async fn child_that_ignores_the_request_to_stop_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        // Listening only once the trap is set, or the signal might come before it.
        let script = "trap '' TERM; echo 127.0.0.1:81 > $ADDRESS_FILE; while :; do :; done";
        let mut child = Child::start(&shell(folder.path(), script)).unwrap();
        child.address().await.unwrap();
        assert_eq!(child.stop(Duration::from_millis(50)).await, Stopped::Killed);
        assert!(child.pid().is_none());
    }

    #[tokio::test]
    async fn standard_input_stays_open_while_the_child_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 127.0.0.1:81 > $ADDRESS_FILE; cat";
        let mut child = Child::start(&shell(folder.path(), script)).unwrap();
        child.address().await.unwrap();
        // `cat` would end at once if its input were closed.
        assert!(timeout(Duration::from_millis(200), child.wait()).await.is_err());
        drop(child.stdin.take());
        assert!(child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let spec = ChildSpec { program: "/no/such/program".into(), ..shell(folder.path(), "") };
        let error = Child::start(&spec).unwrap_err();
        assert_eq!(error.to_string(), "could not start /no/such/program");
    }

    #[test]
    fn value_of_a_variable_is_not_in_a_debug_text() {
        let mut spec = shell(Path::new("/"), "");
        spec.env.push(("ROUTER_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned()));
        let text = format!("{spec:?}");
        assert!(text.contains("ROUTER_SECRET_ACCESS_KEY") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn maker_of_a_model_sets_neither_where_children_call_nor_how_our_programs_run() {
        for name in ["AWS_ENDPOINT_URL", "https_proxy", "ROUTER_LISTEN", "WORKER_BIND"] {
            assert!(!may_be_set(name), "{name}");
        }
        assert!(may_be_set("SAGEMAKER_MODEL_SERVER_WORKERS"));
    }

    #[tokio::test]
    async fn variable_that_is_never_handed_down_can_be_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = shell(folder.path(), "echo it=$AWS_PROFILE >&2; exit 1");
        spec.env.push(("AWS_PROFILE".to_owned(), "ours".to_owned()));
        let mut child = Child::start(&spec).unwrap();
        let error = child.address().await.unwrap_err().to_string();
        assert!(error.contains("it=ours"), "{error}");
    }
}
