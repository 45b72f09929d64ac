//! Keeps one child running: started again when it dies, until it is told to stop.
//!
//! The same name, flags and log every time, so that a worker comes back under its instance id and a
//! store on its port. Between attempts there is a jittered, growing wait, which bounds how often a
//! crash loop can turn, also one of a program that cannot be started at all.

use crate::{
    child::{Child, ChildSpec, StartError, Stopped},
    console, log,
    orders::{self, KillOrder, Order, OrderReceiver, Orders},
};
use shared::backoff::Backoff;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    process::ExitStatus,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

const PACE: Pace = Pace {
    // A second's rest at first, because most deaths are not loops; then at most two attempts a minute.
    backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) },
    steady: Duration::from_mins(1),
};

/// From the third death in a row on, its log's end is shown too.
const LOOP_DEATHS: u32 = 3;

/// What a child exits with that will not do better when it is started again, as far as it can know
/// (`EX_CONFIG` of `sysexits.h`). It is started again all the same: somebody may mend what it lacks.
pub const HOPELESS: u8 = 78;

/// How long what takes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    backoff: Backoff,
    /// A child that lived this long is well: its next death is a first one again.
    steady: Duration,
}

/// A child that is kept running.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    address: SocketAddr,
    orders: Orders,
    health: watch::Receiver<Health>,
    task: JoinHandle<Option<Stopped>>,
}

/// How a child fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Times that it was started, the first included.
    pub n_starts: u32,
    /// How it ended, if it does so again and again, or why it cannot be started.
    pub failure: Option<String>,
}

impl Supervised {
    /// Takes over a child that has started.
    pub fn new(spec: ChildSpec, child: Child, address: SocketAddr) -> Self {
        Self::keep(spec, Some(child), address, PACE)
    }

    /// Starts a child of which nobody waits for the address. One that cannot be started is tried
    /// again like one that dies.
    pub fn start(spec: ChildSpec) -> Self {
        let nowhere_yet = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::keep(spec, None, nowhere_yet, PACE)
    }

    fn keep(spec: ChildSpec, child: Option<Child>, address: SocketAddr, pace: Pace) -> Self {
        let (orders, receiver) = orders::channel();
        let n_starts = u32::from(child.is_some());
        let (tell, health) = watch::channel(Health { n_starts, failure: None });
        let name = spec.name.clone();
        let supervisor = Supervisor { spec, pace, orders: receiver, health: tell, n_deaths: 0 };
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

    /// How the child fares, now and later.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stops the child for good. Returns `None` if it was not running just then.
    pub async fn stop(&mut self, grace: Duration) -> Option<Stopped> {
        self.orders.stop(grace);
        (&mut self.task).await.ok().flatten()
    }

    /// Returns what kills the child at once, also while it is being stopped.
    pub fn killer(&self) -> KillOrder {
        self.orders.killer()
    }

    /// Waits until nobody keeps the child running any more: it was stopped, or the task that kept it
    /// has panicked.
    pub async fn lost(&self) {
        self.orders.unheard().await;
    }

    /// As [`Supervised::lost`]. Not to be asked again once it has said so.
    pub(crate) fn poll_lost(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.task).poll(context).map(|_| ())
    }
}

struct Supervisor {
    spec: ChildSpec,
    pace: Pace,
    orders: OrderReceiver,
    health: watch::Sender<Health>,
    n_deaths: u32,
}

impl Supervisor {
    async fn run(mut self, child: Option<Child>) -> Option<Stopped> {
        let mut running = child.or_else(|| self.start());
        loop {
            if let Some(child) = running.take()
                && let Some(stopped) = self.watch(child).await
            {
                return Some(stopped);
            }
            let delay = self.pace.backoff.delay(self.n_deaths.saturating_sub(1));
            console::say(&format!("{}: starting again in {delay:.1?}", self.spec.name));
            tokio::select! {
                biased;
                _ = self.orders.next() => return None,
                () = sleep(delay) => {}
            }
            running = self.start();
        }
    }

    fn start(&mut self) -> Option<Child> {
        match Child::start(&self.spec) {
            Ok(child) => {
                self.health.send_modify(|health| health.n_starts += 1);
                Some(child)
            }
            Err(error) => {
                self.not_started(&error);
                None
            }
        }
    }

    /// Returns how the child was stopped; `None` if it died by itself.
    async fn watch(&mut self, mut child: Child) -> Option<Stopped> {
        tokio::select! {
            biased;
            order = self.orders.next() => return Some(self.end(child, order).await),
            status = child.wait() => {
                self.died(status);
                return None;
            }
            () = sleep(self.pace.steady) => {}
        }
        self.n_deaths = 0;
        self.health.send_modify(|health| health.failure = None);
        tokio::select! {
            biased;
            order = self.orders.next() => Some(self.end(child, order).await),
            status = child.wait() => {
                self.died(status);
                None
            }
        }
    }

    fn died(&mut self, status: io::Result<ExitStatus>) {
        self.n_deaths += 1;
        let is_hopeless = status.as_ref().is_ok_and(|it| it.code() == Some(HOPELESS.into()));
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        console::say(&format!("{} ended ({how})", self.spec.name));
        // The first death is bad luck, unless the child knows better; from the second in a row on there
        // is something to tell.
        let failure = (self.n_deaths > 1 || is_hopeless).then(|| {
            let tail = log::tail(&self.spec.log);
            let last = tail.lines().last().unwrap_or_default();
            let name = &self.spec.name;
            match self.n_deaths {
                1 => format!("{name} ended ({how}): {last}"),
                n_deaths => format!("{name} ended {n_deaths} times in a row ({how}): {last}"),
            }
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
            tokio::select! {
                biased;
                () = self.orders.killed() => {}
                stopped = child.stop(grace) => return stopped,
            }
        }
        child.kill().await;
        Stopped::Killed
    }
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
            settings: &[],
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

    /// A rest that tests can wait for.
    const QUICK: Pace = Pace {
        backoff: Backoff { base: Duration::from_millis(1), max: Duration::from_millis(1) },
        steady: Duration::from_millis(300),
    };

    #[tokio::test]
    async fn child_that_cannot_be_spawned_fails_and_is_started_once_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let (mut spec, first) = start(folder.path(), "exec cat");
        until(|| starts(folder.path()).len() == 1).await;
        drop(first);
        spec.program = folder.path().join("program");
        let mut supervised = Supervised::keep(spec, None, SocketAddr::from(([0; 4], 0)), QUICK);
        let health = supervised.health();
        until(|| health.borrow().failure.is_some()).await;
        let failure = health.borrow().failure.clone().unwrap();
        assert!(failure.contains("could not start"), "{failure}");
        std::os::unix::fs::symlink("/bin/sh", folder.path().join("program")).unwrap();
        until(|| starts(folder.path()).len() == 2).await;
        assert_eq!(health.borrow().n_starts, 1);
        supervised.stop(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn failure_is_forgotten_once_the_child_has_lived_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let n_lines = format!("$(wc -l < {}/starts)", folder.path().display());
        let then = format!("[ {n_lines} -ge 3 ] || exit 7; exec cat");
        let (spec, child) = start(folder.path(), &then);
        let address = SocketAddr::from(([0; 4], 0));
        let mut supervised = Supervised::keep(spec, Some(child), address, QUICK);
        let mut health = supervised.health();
        let failed = health.wait_for(|it| it.failure.is_some()).await.unwrap().clone();
        assert!(failed.failure.unwrap().contains("2 times in a row"));
        health.wait_for(|it| it.n_starts == 3 && it.failure.is_none()).await.unwrap();
        supervised.stop(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn end_of_the_keeping_task_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, mut child) = start(folder.path(), "exec cat");
        let address = child.address().await.unwrap();
        let supervised = Supervised::new(spec, child, address);
        supervised.task.abort();
        supervised.lost().await;
    }
}
