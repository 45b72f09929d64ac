//! One worker process of a test's cluster: killed, stopped, started again.

use crate::processes;
use driver::child::{Child, ChildSpec, Stopped};
use std::{net::SocketAddr, process::ExitStatus, time::Duration};
use tokio::sync::Mutex;

/// What a worker may take to finish what it accepted.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Worker {
    spec: ChildSpec,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Worker {
    /// Starts a worker and waits until it listens.
    pub(crate) async fn start(spec: ChildSpec) -> Self {
        let running = Mutex::new(start(&spec).await);
        Self { spec, running }
    }

    /// The instance id, which survives a restart.
    pub fn id(&self) -> &str {
        &self.spec.name
    }

    pub async fn url(&self) -> String {
        format!("http://{}", self.running.lock().await.address)
    }

    /// Where it listens.
    pub async fn address(&self) -> SocketAddr {
        self.running.lock().await.address
    }

    pub async fn pid(&self) -> Option<u32> {
        self.running.lock().await.child.pid()
    }

    /// Resident memory, or `None` while it does not run.
    pub async fn rss_bytes(&self) -> Option<u64> {
        processes::rss_bytes(self.pid().await?)
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&self) {
        self.running.lock().await.child.kill().await;
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
        self.running.lock().await.child.stop(GRACE).await
    }

    /// Waits for its end and says how it ended.
    pub async fn exit_status(&self) -> ExitStatus {
        let status = self.running.lock().await.child.wait().await;
        status.expect("a child can be waited for")
    }

    /// Starts it again under its id, on another port.
    pub async fn restart(&self) {
        let mut running = self.running.lock().await;
        running.child.kill().await;
        *running = start(&self.spec).await;
    }
}

async fn start(spec: &ChildSpec) -> Running {
    let mut child = Child::start(spec).unwrap_or_else(|error| panic!("{error}"));
    let address = child.address().await.unwrap_or_else(|error| panic!("{error}"));
    Running { child, address }
}
