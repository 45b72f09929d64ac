//! Keeps one child running: started again when it dies, until it is told to stop.
//!
//! The same name, flags and log every time, so that a worker comes back under its instance id and a
//! store on its port. Between attempts there is a jittered, growing wait, which bounds how often a
//! crash loop can turn.

use crate::{
    child::{Child, ChildSpec, StartError, Stopped},
    console, log,
};
use shared::backoff::Backoff;
use std::{io, net::SocketAddr, process::ExitStatus, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A second's rest at first, because most deaths are not loops; then at most two attempts a minute.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };

/// A child that lived this long was well: its next death is a first one again.
const STEADY: Duration = Duration::from_mins(1);

/// From the third death in a row on, its log's end is shown too.
const LOOP_DEATHS: u32 = 3;

/// A child that is kept running.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    address: SocketAddr,
    orders: watch::Sender<Order>,
    health: watch::Receiver<Health>,
    task: JoinHandle<Option<Stopped>>,
}

/// How a child fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Times that it was started, the first included.
    pub n_starts: u32,
    /// How it ended, if it does so again and again.
    pub failure: Option<String>,
}

/// Kills one child at once when it is given.
#[derive(Clone, Debug)]
pub struct KillOrder(watch::Sender<Order>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Stop { grace: Duration },
    Kill,
}

impl Supervised {
    /// Takes over a child that has started.
    pub fn new(spec: ChildSpec, child: Child, address: SocketAddr) -> Self {
        let (orders, receiver) = watch::channel(Order::Run);
        let (tell, health) = watch::channel(Health { n_starts: 1, failure: None });
        let name = spec.name.clone();
        let supervisor = Supervisor { spec, orders: receiver, health: tell, n_deaths: 0 };
        let task = tokio::spawn(supervisor.run(child));
        Self { name, address, orders, health, task }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listened when it was started first.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Stops the child for good. Returns `None` if it was not running just then.
    pub async fn stop(&mut self, grace: Duration) -> Option<Stopped> {
        self.orders.send_if_modified(|order| {
            // A kill that was ordered stays ordered.
            let is_running = *order == Order::Run;
            if is_running {
                *order = Order::Stop { grace };
            }
            is_running
        });
        (&mut self.task).await.ok().flatten()
    }

    /// Returns what kills the child at once, also while it is being stopped.
    pub fn killer(&self) -> KillOrder {
        KillOrder(self.orders.clone())
    }
}

impl KillOrder {
    pub fn give(&self) {
        self.0.send_replace(Order::Kill);
    }
}

struct Supervisor {
    spec: ChildSpec,
    orders: watch::Receiver<Order>,
    health: watch::Sender<Health>,
    n_deaths: u32,
}

impl Supervisor {
    async fn run(mut self, child: Child) -> Option<Stopped> {
        let mut running = Some(child);
        loop {
            if let Some(mut child) = running.take() {
                let started = Instant::now();
                tokio::select! {
                    biased;
                    order = next(&mut self.orders) => return Some(self.end(child, order).await),
                    status = child.wait() => self.died(status, started.elapsed()),
                }
            }
            let delay = BACKOFF.delay(self.n_deaths.saturating_sub(1));
            console::say(&format!("{}: starting again in {delay:.1?}", self.spec.name));
            tokio::select! {
                biased;
                _ = next(&mut self.orders) => return None,
                () = sleep(delay) => {}
            }
            match Child::start(&self.spec) {
                Ok(child) => {
                    self.health.send_modify(|health| health.n_starts += 1);
                    running = Some(child);
                }
                Err(error) => self.not_started(&error),
            }
        }
    }

    fn died(&mut self, status: io::Result<ExitStatus>, lived: Duration) {
        if lived >= STEADY {
            self.n_deaths = 0;
        }
        self.n_deaths += 1;
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        console::say(&format!("{} ended ({how})", self.spec.name));
        // The first death is bad luck; from the second in a row on there is something to tell.
        let failure = (self.n_deaths > 1).then(|| {
            let tail = log::tail(&self.spec.log);
            let last = tail.lines().last().unwrap_or_default();
            format!("{} ended {} times in a row ({how}): {last}", self.spec.name, self.n_deaths)
        });
        self.health.send_modify(|health| health.failure = failure);
        if self.n_deaths >= LOOP_DEATHS {
            let (log, tail) = (self.spec.log.display(), log::tail(&self.spec.log));
            console::say(&format!(
                "{} ends again and again. The end of {log}:\n{tail}",
                self.spec.name
            ));
        }
    }

    fn not_started(&mut self, error: &StartError) {
        self.n_deaths += 1;
        let failure = format!("{}: {}", self.spec.name, shared::telemetry::Chain(error));
        console::say(&failure);
        self.health.send_modify(|health| health.failure = Some(failure));
    }

    async fn end(&mut self, mut child: Child, order: Order) -> Stopped {
        if let Order::Stop { grace } = order {
            let killed = self.orders.wait_for(|order| *order == Order::Kill);
            tokio::select! {
                biased;
                Ok(_) = killed => {}
                stopped = child.stop(grace) => return stopped,
            }
        }
        child.kill().await;
        Stopped::Killed
    }
}

/// Waits until the child shall not run any more. A dropped handle means a kill.
async fn next(orders: &mut watch::Receiver<Order>) -> Order {
    orders.wait_for(|order| *order != Order::Run).await.map_or(Order::Kill, |order| *order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Appends its process id to the file `starts`, listens, and stays.
    fn start(folder: &Path, then: &str) -> (ChildSpec, Child) {
        let (starts, address) = (folder.join("starts"), folder.join("address"));
        let script = format!(
            "echo $$ >> {}; echo 127.0.0.1:81 > {}; {then}",
            starts.display(),
            address.display()
        );
        let spec = ChildSpec {
            name: "test".to_owned(),
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            log: folder.join("log"),
            address_file: address,
        };
        let child = Child::start(&spec).unwrap();
        (spec, child)
    }

    fn starts(folder: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until(condition: impl Fn() -> bool) {
        let patience = Duration::from_secs(20);
        let holds = async {
            while !condition() {
                sleep(crate::child::POLL).await;
            }
        };
        tokio::time::timeout(patience, holds).await.expect("the condition holds in the end");
    }

    #[tokio::test]
    async fn child_that_dies_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, mut child) = start(folder.path(), "exec cat");
        let address = child.address().await.unwrap();
        child.signal(rustix::process::Signal::KILL);
        let mut supervised = Supervised::new(spec, child, address);
        until(|| starts(folder.path()).len() == 2).await;
        assert_eq!(supervised.stop(Duration::from_secs(10)).await, Some(Stopped::Orderly));
        assert_eq!(starts(folder.path()).len(), 2);
    }

    #[tokio::test]
    async fn kill_overtakes_a_stop_that_takes_long() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, mut child) = start(folder.path(), "trap '' TERM; while :; do :; done");
        let address = child.address().await.unwrap();
        let mut supervised = Supervised::new(spec, child, address);
        let killer = supervised.killer();
        let stop = supervised.stop(Duration::from_mins(10));
        let (stopped, ()) = tokio::join!(stop, async { killer.give() });
        assert_eq!(stopped, Some(Stopped::Killed));
    }
}
