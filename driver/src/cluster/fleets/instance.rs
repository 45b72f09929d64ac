//! One worker process of a fleet: started, kept running, told its share of memory, drained.

use super::Ended;
use crate::{
    child::{Child, ChildSpec, StartError, Stopped},
    client::Client,
    supervise::{KillOrder, Supervised},
};
use shared::{api::fleets::DesiredFleet, id::FleetId};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) fleet: FleetId,
    state: State,
    killer: KillOrder,
    address_file: PathBuf,
    /// What it was told that models may take, and in which of its lives: a new one begins with what
    /// its first was started with.
    told: (u64, u32),
    first_budget_bytes: u64,
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
        budget_bytes: u64,
    ) -> Result<Self, StartError> {
        spec.args.extend(["--fleet".into(), fleet.fleet.as_str().into()]);
        spec.env
            .extend(fleet.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
        let address_file = spec.address_file.clone();
        let child = Child::start(&spec)?;
        // Where it listens is in its file once it does; nobody here waits for that.
        let nowhere_yet = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let supervised = Supervised::new(spec, child, nowhere_yet);
        Ok(Self {
            fleet: fleet.fleet.clone(),
            killer: supervised.killer(),
            state: State::Running(supervised),
            address_file,
            told: (budget_bytes, 1),
            first_budget_bytes: budget_bytes,
        })
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    /// Why it does not stay up, if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.state {
            State::Running(supervised) => supervised.health().failure,
            State::Draining(_) => None,
        }
    }

    /// Asks it to finish and end, and tells when it has. Once is enough.
    pub(super) fn drain(mut self, grace: Duration, tell: mpsc::Sender<Ended>) -> Self {
        self.state = match self.state {
            State::Running(mut supervised) => State::Draining(tokio::spawn(async move {
                let stopped = supervised.stop(grace).await;
                // Nobody is left to tell once everything stops.
                let _ = tell.send(Ended { name: supervised.name().to_owned() }).await;
                stopped == Some(Stopped::Killed)
            })),
            draining @ State::Draining(_) => draining,
        };
        self
    }

    /// Tells it how much memory its models may take, unless it knows or does not listen yet.
    pub(super) async fn set_budget(&mut self, client: &Client, budget_bytes: u64) {
        let State::Running(supervised) = &self.state else { return };
        let n_starts = supervised.health().n_starts;
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
        // Told again with the next turn if it did not hear.
        if client.set_budget(address, budget_bytes).await.is_ok() {
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
            State::Draining(task) => task.await.unwrap_or(true),
        }
    }
}
