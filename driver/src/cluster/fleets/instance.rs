//! One worker process of a fleet: started, kept running, told its share of memory, drained.

use crate::{
    child::{ChildSpec, Stopped, may_be_set},
    client::Client,
    data::DataDir,
    orders::KillOrder,
    supervise::{Health, Supervised},
};
use shared::{api::fleets::DesiredFleet, id::FleetId};
use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

/// How long a worker may take to hear its share of memory: it is told again with the next turn.
const TELL_PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) fleet: FleetId,
    /// Which of its fleet's instances it is.
    pub(super) idx: u32,
    state: State,
    killer: KillOrder,
    health: watch::Receiver<Health>,
    address_file: PathBuf,
    /// What it was told that models may take, and in which of its lives: a new one begins with what
    /// its first was started with.
    told: (u64, u32),
    pub(super) first_budget_bytes: u64,
}

#[derive(Debug)]
enum State {
    Running(Supervised),
    /// The task returns whether it had to be killed.
    Draining(JoinHandle<bool>),
}

impl Instance {
    pub(super) fn start(
        mut spec: ChildSpec,
        fleet: &DesiredFleet,
        idx: u32,
        budget_bytes: u64,
    ) -> Self {
        spec.args.extend(["--fleet".into(), fleet.fleet.as_str().into()]);
        let given = fleet.environment.iter().filter(|(name, _)| may_be_set(name));
        let given = given.map(|(name, value)| (name.clone(), value.clone()));
        // Before what we say ourselves, which therefore wins.
        spec.env.splice(0..0, given);
        let address_file = spec.address_file.clone();
        let supervised = Supervised::start(spec);
        Self {
            fleet: fleet.fleet.clone(),
            idx,
            killer: supervised.killer(),
            health: supervised.health(),
            state: State::Running(supervised),
            address_file,
            told: (budget_bytes, 0),
            first_budget_bytes: budget_bytes,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    /// Why it does not stay up, if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.state {
            State::Running(_) => self.health.borrow().failure.clone(),
            State::Draining(_) => None,
        }
    }

    /// Asks it to finish and end; then removes what it leaves. Once is enough.
    pub(super) fn drain(mut self, grace: Duration, data: DataDir) -> Self {
        self.state = match self.state {
            State::Running(mut supervised) => State::Draining(tokio::spawn(async move {
                let stopped = supervised.stop(grace).await;
                let name = supervised.name().to_owned();
                // Here, so that the name is not free before its files are gone; and where it may
                // block, because a cache can be large. If it fails, the next start tries again.
                let _ = spawn_blocking(move || data.forget(&name)).await;
                stopped == Some(Stopped::Killed)
            })),
            draining @ State::Draining(_) => draining,
        };
        self
    }

    /// Ready once it has ended for good: drained, or its task has panicked. Not to be asked again.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Running(supervised) => supervised.poll_lost(context),
            State::Draining(task) => Pin::new(task).poll(context).map(|_| ()),
        }
    }

    /// Tells it how much memory its models may take, unless it knows or does not listen yet.
    pub(super) async fn set_budget(&mut self, client: &Client, budget_bytes: u64) {
        let n_starts = self.health.borrow().n_starts;
        if n_starts == 0 {
            // Whoever listens where its file says is of an earlier run.
            return;
        }
        if self.told.1 != n_starts {
            self.told = (self.first_budget_bytes, n_starts);
        }
        if self.told.0 == budget_bytes {
            return;
        }
        let address = std::fs::read_to_string(&self.address_file).ok();
        let Some(address) = address.and_then(|it| it.trim().parse::<SocketAddr>().ok()) else {
            return;
        };
        let told = timeout(TELL_PATIENCE, client.set_budget(address, budget_bytes)).await;
        if matches!(told, Ok(Ok(()))) {
            self.told.0 = budget_bytes;
        }
    }

    pub(super) fn killer(&self) -> KillOrder {
        self.killer.clone()
    }

    /// Stops it for good. Returns whether it had to be killed.
    pub(super) async fn stop(self, grace: Duration) -> bool {
        match self.state {
            State::Running(mut supervised) => supervised.stop(grace).await == Some(Stopped::Killed),
            State::Draining(mut task) => {
                if let Ok(ended) = timeout(grace, &mut task).await {
                    return ended.unwrap_or(true);
                }
                // It drains with more grace than is left now.
                self.killer.give();
                task.await.unwrap_or(true)
            }
        }
    }
}
