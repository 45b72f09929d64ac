//! A cluster on this machine: store, router, workers, started in order and stopped in order.
//!
//! While it starts, the first child that fails ends the start with the end of its log. Once it runs,
//! a child that dies is started again ([`crate::supervise`]).

pub mod fleets;
mod start;

use crate::{
    binaries::{Binaries, BinariesError},
    child::{StartError, Stopped},
    cli::InstanceKind,
    client::Client,
    data::{DataDir, DataDirError},
    orders::KillOrder,
    processes::Processes,
    share::Machine,
    signals::Signals,
    signing::Key,
    supervise::Supervised,
};
use fleets::Fleets;
use shared::token::TokenFile;
use start::{Launched, Started};
use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

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
    fleets: Fleets,
    client: Client,
    token_file: Option<TokenFile>,
    // Last, so that the lock outlives the children.
    data: DataDir,
}

/// Kills every process of a cluster at once.
#[derive(Clone, Debug)]
pub struct Killer([KillOrder; 3]);

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
    pub router_flags: Vec<OsString>,
    /// The key of our own calls, if the router wants them signed.
    pub key: Option<Key>,
    /// The token by which the processes know each other, if they shall.
    pub token_file: Option<TokenFile>,
    /// What the workers share.
    pub machine: Machine,
    /// Workers that there may be, over all endpoints.
    pub max_instances: usize,
    pub kind: InstanceKind,
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
}

impl ClusterPlan {
    fn processes(&self) -> Processes {
        let token_file = self.token_file.as_ref().map(|it| it.path().to_owned());
        let (binaries, data) = (self.binaries.clone(), self.data.clone());
        Processes { binaries, data, token_file, kind: self.kind }
    }
}

impl Cluster {
    /// Starts store and router, and what will start workers; `None` if a signal came first. Unless it returns a cluster, nothing of what was started is left.
    pub async fn start(
        plan: ClusterPlan,
        signals: &mut Signals,
    ) -> Result<Option<Self>, ClusterError> {
        plan.binaries.check()?;
        start::check_free(plan.listen)?;
        let mut launched = Launched::default();
        let outcome = signals.unless(launched.bring_up(&plan)).await;
        match (outcome, launched) {
            (Some(Ok(client)), Launched { store: Some(store), router: Some(router) }) => {
                let processes = plan.processes();
                let store = Started::watch(store);
                let store_url = format!("http://{}", store.address());
                Ok(Some(Self {
                    router: router.watch(),
                    fleets: Fleets::start(processes, plan.machine, client.clone(), store_url),
                    store,
                    client,
                    token_file: plan.token_file,
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

    /// Follows the token's file. Once; never ends.
    pub fn keep_token_current(&mut self) -> impl Future<Output = Infallible> + use<> {
        TokenFile::keep_current(self.token_file.take())
    }

    /// Waits until nobody keeps some part of the cluster running any more, and returns which. Only a
    /// fault of ours does that: whatever a child does, it is started again.
    pub async fn lost(&self) -> &'static str {
        tokio::select! {
            () = self.router.lost() => "router",
            () = self.store.lost() => "store",
            () = self.fleets.lost() => "workers",
        }
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
        let workers = self.fleets.stop(WORKER_GRACE).await;
        note("store", self.store.stop(STORE_GRACE).await);
        killed.extend(workers);
        killed
    }

    /// Returns a handle that kills everything at once, also while it is being stopped.
    pub fn killer(&self) -> Killer {
        Killer([self.router.killer(), self.store.killer(), self.fleets.killer()])
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
