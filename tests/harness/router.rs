//! One router process of a test's cluster: killed, frozen, started again where it was.

use crate::{client::Client, cluster::start, eventually, processes};
use driver::child::{Child, ChildSpec, Stopped};
use shared::token::TokenFile;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a router may take to finish what it accepted.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Router {
    spec: ChildSpec,
    client: Client,
    running: Mutex<Child>,
}

impl Router {
    /// Starts a router and waits until it listens. It listens there again after a restart.
    pub(crate) async fn start(mut spec: ChildSpec) -> Self {
        let (child, url) = start(&spec).await;
        let listen = spec.args.iter().position(|it| it == "--listen");
        let address = url.trim_start_matches("http://");
        spec.args[listen.expect("a router is told where to listen") + 1] = address.into();
        Self { spec, client: Client::new(&url), running: Mutex::new(child) }
    }

    /// The client shows the token of this file.
    pub(crate) fn showing(self, file: TokenFile) -> Self {
        Self { client: self.client.showing(file), ..self }
    }

    pub fn id(&self) -> &str {
        &self.spec.name
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn url(&self) -> &str {
        self.client.router_url()
    }

    pub async fn pid(&self) -> Option<u32> {
        self.running.lock().await.pid()
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&self) {
        self.running.lock().await.kill().await;
    }

    /// Stops it where it is, with all that it holds (SIGSTOP).
    pub async fn freeze(&self) {
        processes::freeze(self.pid().await.expect("it runs"));
    }

    /// Lets it go on (SIGCONT).
    pub async fn thaw(&self) {
        processes::thaw(self.pid().await.expect("it runs"));
    }

    /// Asks it to finish and end (SIGTERM).
    pub async fn stop(&self) -> Stopped {
        self.running.lock().await.stop(GRACE).await
    }

    /// Starts it again where it was, and returns once it answers.
    pub async fn restart(&self) {
        self.start_again(&self.spec).await;
    }

    /// Starts it again where it was, with another value of a flag.
    pub async fn restart_with(&self, flag: &str, value: &str) {
        let mut spec = self.spec.clone();
        let at = spec.args.iter().position(|it| it == flag).expect("the router has the flag");
        spec.args[at + 1] = value.into();
        self.start_again(&spec).await;
    }

    async fn start_again(&self, spec: &ChildSpec) {
        let mut running = self.running.lock().await;
        running.kill().await;
        (*running, _) = start(spec).await;
        let ping = format!("{}/ping", self.url());
        eventually(async || reqwest::get(&ping).await.is_ok_and(|it| it.status().is_success()))
            .await;
    }
}
