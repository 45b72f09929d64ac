//! A cluster on this machine: store, router, workers, started in order and stopped in order.
//!
//! While it starts, the first child that fails ends the start with the end of its log. Once it runs,
//! a child that dies is started again ([`crate::supervise`]).

mod start;

pub use start::endpoints_file;

use crate::{
    binaries::{Binaries, BinariesError},
    child::{StartError, Stopped},
    client::Client,
    data::{DataDir, DataDirError},
    share::Share,
    signals::Signals,
    supervise::{KillOrder, Supervised},
};
use futures_util::future::join_all;
use start::{Launched, Started};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The endpoint that a local cluster serves.
pub const ENDPOINT: &str = "demo";

/// The router answers what it accepted: an invocation takes 60 s at most, but nobody waits so long
/// for a laptop's cluster to stop.
const ROUTER_GRACE: Duration = Duration::from_secs(10);

/// The router is gone by then, so the workers have next to nothing left.
const WORKER_GRACE: Duration = Duration::from_secs(5);

const STORE_GRACE: Duration = Duration::from_secs(2);

/// A running cluster. Dropping it kills its processes.
#[derive(Debug)]
pub struct Cluster {
    store: Supervised,
    router: Supervised,
    workers: Vec<Supervised>,
    client: Client,
    // Last, so that the lock outlives the children.
    data: DataDir,
}

/// Kills every process of a cluster at once.
#[derive(Clone, Debug)]
pub struct Killer(Vec<KillOrder>);

impl Killer {
    pub fn kill(&self) {
        self.0.iter().for_each(KillOrder::give);
    }
}

/// What is to be started.
#[derive(Debug)]
pub struct ClusterPlan {
    pub binaries: Binaries,
    pub data: DataDir,
    pub listen: SocketAddr,
    /// More flags for the router.
    pub router_flags: Vec<&'static str>,
    /// One per worker.
    pub shares: Vec<Share>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "{address} is taken by another program: stop it, or choose another address with --listen (for example --listen 127.0.0.1:8081)"
    )]
    AddressTaken { address: SocketAddr },
    #[error("could not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("could not write the endpoints file")]
    Endpoints(#[source] io::Error),
    #[error("the router has {n_in_service} of {n_workers} instances in service after {patience:?}")]
    NotInService { n_in_service: usize, n_workers: usize, patience: Duration },
}

impl Cluster {
    /// Starts everything and returns when all instances are in service; `None` if a signal came
    /// first. Unless it returns a cluster, nothing of what was started is left.
    pub async fn start(
        plan: ClusterPlan,
        signals: &mut Signals,
    ) -> Result<Option<Self>, ClusterError> {
        plan.binaries.check()?;
        start::check_free(plan.listen)?;
        let mut launched = Launched::default();
        let outcome = signals.unless(launched.bring_up(&plan)).await;
        match (outcome, launched) {
            (Some(Ok(client)), Launched { store: Some(store), router: Some(router), workers }) => {
                Ok(Some(Self {
                    store: store.watch(),
                    router: router.watch(),
                    workers: workers.into_iter().map(Started::watch).collect(),
                    client,
                    data: plan.data,
                }))
            }
            (outcome, launched) => {
                launched.kill().await;
                outcome.transpose().map(|_| None)
            }
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn store_url(&self) -> String {
        format!("http://{}", self.store.address())
    }

    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Stops the router first, so that what was accepted is answered, and the store last. Returns
    /// the names of those that had to be killed.
    pub async fn stop(&mut self) -> Vec<String> {
        let mut killed = Vec::new();
        let mut note = |name: &str, stopped| {
            if stopped == Some(Stopped::Killed) {
                killed.push(name.to_owned());
            }
        };
        note("router", self.router.stop(ROUTER_GRACE).await);
        let stops = self.workers.iter_mut().map(async |worker| {
            let stopped = worker.stop(WORKER_GRACE).await;
            (worker.name().to_owned(), stopped)
        });
        for (name, stopped) in join_all(stops).await {
            note(&name, stopped);
        }
        note("store", self.store.stop(STORE_GRACE).await);
        killed
    }

    /// Returns a handle that kills everything at once, also while it is being stopped.
    pub fn killer(&self) -> Killer {
        let all = self.workers.iter().chain([&self.router, &self.store]);
        Killer(all.map(Supervised::killer).collect())
    }
}

/// Where clients on this machine reach an address that may mean all interfaces.
fn reachable_url(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("http://[::1]:{}", address.port()),
        _ => format!("http://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_reach_all_interfaces_over_loopback() {
        let check = |address: &str, url| assert_eq!(reachable_url(address.parse().unwrap()), url);
        check("127.0.0.1:8080", "http://127.0.0.1:8080");
        check("0.0.0.0:8080", "http://127.0.0.1:8080");
        check("[::]:8080", "http://[::1]:8080");
    }
}
