//! A real TCP balancer before the routers of a test: HAProxy with the configuration that is shipped.

use crate::{debian, eventually, ports, tied::tied};
use std::{
    fmt::Write as _,
    fs::{self, File},
    process::{Child, Stdio},
};
use tempfile::TempDir;

const SHIPPED: &str = include_str!("../../deploy/haproxy.cfg");

/// Dropping it kills it, and so does the end of the thread that started it.
#[derive(Debug)]
pub struct Balancer {
    url: String,
    process: Child,
    // Last, so that the process is gone before its files.
    folder: TempDir,
}

impl Balancer {
    /// Starts one before these routers, and returns once it answers; `None`, said loudly: this
    /// machine has no HAProxy.
    pub async fn start(routers: &[String]) -> Option<Self> {
        let program = debian::program_or_skip("haproxy")?;
        let [port] = ports::free();
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration(port, routers)).expect("the folder takes a file");
        let log = File::create(folder.path().join("log")).expect("the folder takes a log");
        let mut command = tied(&program);
        // `-db`: in the foreground, so that there is one process to end.
        command.arg("-db").arg("-f").arg(&file);
        command.env("LD_LIBRARY_PATH", debian::libraries());
        let stdout = log.try_clone().expect("a file has room for another handle");
        command.stdin(Stdio::null()).stdout(stdout).stderr(log);
        let process = command.spawn().expect("HAProxy can be started");
        let balancer = Self { url: format!("http://127.0.0.1:{port}"), process, folder };
        balancer.answers().await;
        Some(balancer)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    async fn answers(&self) {
        let ping = format!("{}/ping", self.url);
        eventually(async || reqwest::get(&ping).await.is_ok_and(|it| it.status().is_success()))
            .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Nothing survives SIGKILL; it may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            crate::cluster::show_log("haproxy", &self.folder.path().join("log"));
        }
    }
}

/// The shipped configuration with the addresses of a test.
fn configuration(port: u16, routers: &[String]) -> String {
    let is_address = |line: &&str| line.trim_start().starts_with("server ");
    let (examples, rest): (Vec<_>, Vec<_>) = SHIPPED.lines().partition(is_address);
    assert!(!examples.is_empty(), "no server in {SHIPPED}");
    let listens = rest.join("\n").replace("bind :8080", &format!("bind 127.0.0.1:{port}"));
    assert!(listens.contains("bind 127"), "no address in {SHIPPED}");
    let mut text = format!("{listens}\n");
    for (idx, url) in routers.iter().enumerate() {
        let address = url.trim_start_matches("http://");
        writeln!(text, "  server router-{idx} {address}").expect("memory takes any text");
    }
    text
}
