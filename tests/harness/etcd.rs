//! A real etcd for one test: one member on free ports, in a folder that goes with it. It is stopped,
//! frozen, wiped, and started again where it was.

use crate::{debian, eventually, ports, processes, tied::tied};
use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// The user and the password of an etcd that asks for one.
pub const USER: [&str; 2] = ["root", "a password of tests"];

/// An etcd. Dropping it kills it, and so does the end of the thread that started it.
#[derive(Debug)]
pub struct Etcd {
    program: PathBuf,
    client_port: u16,
    peer_port: u16,
    is_tls: bool,
    has_users: bool,
    process: Option<Child>,
    // Last, so that the process is gone before its files.
    folder: TempDir,
}

impl Etcd {
    /// Starts an etcd, and returns once it answers; `None`, said loudly: this machine has none.
    pub async fn start() -> Option<Self> {
        Self::start_with(false).await
    }

    /// Starts an etcd that speaks TLS with clients that have a certificate.
    pub async fn start_with_tls() -> Option<Self> {
        Self::start_with(true).await
    }

    async fn start_with(is_tls: bool) -> Option<Self> {
        let program = debian::program_or_skip("etcd")?;
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let [client_port, peer_port] = ports::free();
        let mut etcd = Self {
            program,
            client_port,
            peer_port,
            is_tls,
            has_users: false,
            process: None,
            folder,
        };
        etcd.restart().await;
        Some(etcd)
    }

    /// Its address as `--cluster` has it.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "etcds" } else { "etcd" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing survives SIGKILL; it may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it where it is, its connections open (SIGSTOP).
    pub fn freeze(&self) {
        processes::freeze(self.pid().expect("it runs"));
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        processes::thaw(self.pid().expect("it runs"));
    }

    /// Starts it where it was, with what it knew, and returns once it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Some(self.command().spawn().expect("etcd can be started"));
        eventually(async || self.is_healthy()).await;
    }

    /// Kills it and throws away what it knew.
    pub fn wipe(&mut self) {
        self.kill();
        fs::remove_dir_all(self.data()).expect("etcd's folder is ours");
    }

    /// Kills it, and keeps what it knows for [`Etcd::put_back`].
    pub fn save(&mut self) {
        self.kill();
        copy(&self.data(), &self.folder.path().join("saved"));
    }

    /// Kills it, and puts what it knew when it was saved in the place of what it knows.
    pub fn put_back(&mut self) {
        self.wipe();
        copy(&self.folder.path().join("saved"), &self.data());
    }

    /// Asks for a user from now on: [`USER`].
    pub fn require_user(&mut self) {
        let [name, password] = USER;
        for args in [
            &["user", "add", &format!("{name}:{password}")][..],
            &["user", "grant-role", name, "root"],
            &["auth", "enable"],
        ] {
            let output = self.ctl(args);
            assert!(output.status.success(), "etcdctl {args:?}: {output:?}");
        }
        self.has_users = true;
    }

    /// Runs `etcdctl`.
    pub fn ctl(&self, args: &[&str]) -> Output {
        let scheme = if self.is_tls { "https" } else { "http" };
        let program = self.program.with_file_name("etcdctl");
        let program = if program.is_file() { Some(program) } else { debian::program("etcdctl") };
        let mut command = Command::new(program.expect("etcdctl comes with etcd"));
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={scheme}://{}", self.host()));
        if self.has_users {
            command.arg(format!("--user={}", USER.join(":")));
        }
        if self.is_tls {
            for (flag, file) in
                [("cacert", "ca.pem"), ("cert", "client.pem"), ("key", "client.key.pem")]
            {
                command.arg(format!("--{flag}={}", certificate(file).display()));
            }
        }
        command.args(args).output().expect("etcdctl can be started")
    }

    fn is_healthy(&self) -> bool {
        self.ctl(&["endpoint", "health", "--command-timeout=1s"]).status.success()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let scheme = if self.is_tls { "https" } else { "http" };
        let client = format!("{scheme}://{}", self.host());
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("the folder takes a log");
        let mut command = tied(&self.program);
        command.args(["--name", "test", "--log-level", "warn", "--data-dir"]).arg(self.data());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}")]);
        if self.is_tls {
            command.arg("--client-cert-auth");
            for (flag, file) in [
                ("trusted-ca-file", "ca.pem"),
                ("cert-file", "etcd.pem"),
                ("key-file", "etcd.key.pem"),
            ] {
                command.arg(format!("--{flag}")).arg(certificate(file));
            }
        }
        // Settings of the machine's own etcd.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        let stderr = log.try_clone().expect("a file has room for another handle");
        command.stdin(Stdio::null()).stdout(log).stderr(stderr);
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            crate::cluster::show_log("etcd", &self.folder.path().join("log"));
        }
    }
}

/// Returns one of the certificates of tests, or its key.
pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/certificates").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is ours");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("there is room for a copy");
        }
    }
}
