//! `manifold` as a process: what it prints, what it starts, what it leaves.

use crate::{client::Client, cluster::binaries, eventually, processes};
use driver::child::{Child, ChildSpec, ROUTER_SETTINGS, Stopped, WORKER_SETTINGS};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

/// What a launcher may take to stop everything.
const GRACE: Duration = Duration::from_secs(20);

/// A running `manifold`, with data and output in a folder of the test. Dropping it kills it.
#[derive(Debug)]
pub struct Launcher {
    child: Child,
    folder: PathBuf,
}

/// A folder of programs like the release's, where some may be replaced.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Launcher {
    /// Starts `manifold` with these arguments, its data in `folder`.
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        Self::start_program(&binaries().manifold, folder, args)
    }

    /// Starts `manifold up` without models on a free port.
    pub fn up(folder: &Path) -> Self {
        Self::up_on(folder, "127.0.0.1:0")
    }

    /// Starts `manifold up` without models.
    pub fn up_on(folder: &Path, listen: &str) -> Self {
        Self::start(folder, &["up", "--no-models", "--exit-with-parent", "--listen", listen])
    }

    /// Starts another program that is, or becomes, `manifold`.
    pub fn start_program(program: &Path, folder: &Path, args: &[&str]) -> Self {
        // As its children name it.
        let folder = folder.canonicalize().expect("the test has made the folder");
        let data = folder.join("data").display().to_string();
        let args = args.iter().copied().chain(["--data", &data]);
        let spec = ChildSpec {
            name: "manifold".to_owned(),
            program: program.to_owned(),
            args: args.map(Into::into).collect(),
            env: Vec::new(),
            // It is what hands them on, or not.
            settings: &[ROUTER_SETTINGS, WORKER_SETTINGS],
            log: folder.join("manifold.log"),
            address_file: folder.join("none"),
        };
        Self { child: Child::start(&spec).expect("manifold starts"), folder }
    }

    /// Returns what it has printed, together with others in the same folder.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("manifold.log")).unwrap_or_default()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> impl Future<Output = ()> {
        eventually(async move || self.output().contains(text))
    }

    /// Waits until its endpoint is in service and returns a client of it.
    pub async fn in_service(&self) -> Client {
        self.says("Ctrl-C stops everything").await;
        let output = self.output();
        let url = output.lines().find_map(|line| line.strip_prefix("AWS_ENDPOINT_URL="));
        Client::new(url.expect("it prints what a client needs"))
    }

    pub fn children(&self) -> Vec<u32> {
        processes::children(self.child.pid().expect("it runs"))
    }

    /// Returns every process that has to do with its folder, itself included.
    pub fn left_running(&self) -> Vec<u32> {
        processes::naming(&self.folder.display().to_string())
    }

    pub fn interrupt(&self) {
        processes::interrupt(self.child.pid().expect("it runs"));
    }

    pub fn terminate(&self) {
        processes::terminate(self.child.pid().expect("it runs"));
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&mut self) {
        self.child.kill().await;
    }

    /// Asks it to end (SIGTERM), and kills it if that takes long.
    pub async fn stop(&mut self) -> Stopped {
        self.child.stop(GRACE).await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.expect("a child can be waited for")
    }
}

impl Programs {
    /// Makes a folder of programs below `folder`. `manifold` finds the others beside itself, so it is
    /// a copy; a link would lead it back.
    pub fn in_folder(folder: &Path) -> Self {
        let (own, folder) = (binaries(), folder.join("bin"));
        fs::create_dir(&folder).expect("the folder takes another");
        fs::copy(own.manifold, folder.join("manifold")).expect("there is room for a copy");
        symlink(own.router, folder.join("manifold-router")).expect("the folder takes a link");
        symlink(own.worker, folder.join("manifold-worker")).expect("the folder takes a link");
        Self { folder }
    }

    /// Puts a shell script in the place of a program.
    pub fn replace(&self, name: &str, script: &str) {
        let path = self.path(name);
        // Mostly there is none; a link must not be written through.
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder takes a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
