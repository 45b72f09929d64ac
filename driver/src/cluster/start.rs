//! How a cluster starts: the store, then the router. Workers come when endpoints want them.
//!
//! What was started is kept apart from the future that starts it, so that whoever drops the future
//! can still wait for the end of every child.

use super::{ClusterError, ClusterPlan, reachable_url};
use crate::{
    child::{Child, ChildSpec, StartError},
    cli::InstanceKind,
    client::Client,
    console::Step,
    processes::Processes,
    signing::Key,
    supervise::Supervised,
};
use shared::token::TokenFile;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

/// Any free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The children so far. Dropping it kills them; [`Launched::kill`] waits for their end, too.
#[derive(Debug, Default)]
pub(super) struct Launched {
    pub(super) store: Option<Started>,
    pub(super) router: Option<Started>,
}

/// A child that is not yet watched.
#[derive(Debug)]
pub(super) struct Started {
    spec: ChildSpec,
    child: Child,
    /// Where it listens, once it does.
    address: SocketAddr,
}

impl Launched {
    /// Starts both and returns a client of the router.
    pub(super) async fn bring_up(&mut self, plan: &ClusterPlan) -> Result<Client, ClusterError> {
        let processes = plan.processes();
        let store_url = self.start_store(&processes).await?;
        self.start_router(&processes, &store_url, plan).await
    }

    async fn start_store(&mut self, processes: &Processes) -> Result<String, ClusterError> {
        let step = Step::start();
        let store = self.store.insert(Started::start(processes.store(ANY_PORT))?);
        store.listen().await?;
        // When it is started again, its clients must find it where it was.
        store.spec = processes.store(store.address);
        let url = format!("http://{}", store.address);
        step.done(&format!("store on {url}"));
        Ok(url)
    }

    async fn start_router(
        &mut self,
        processes: &Processes,
        store_url: &str,
        plan: &ClusterPlan,
    ) -> Result<Client, ClusterError> {
        let step = Step::start();
        let max_instances = plan.max_instances.to_string();
        let router_spec = |listen| {
            let mut spec = processes.with_store(processes.router(listen), store_url);
            let flags = [["--instances", "launcher"], ["--max-endpoint-instances", &max_instances]];
            spec.args.extend(flags.as_flattened().iter().map(Into::into));
            spec.args
                .extend((plan.kind == InstanceKind::Docker).then(|| "--launches-images".into()));
            spec.args.extend(plan.router_flags.iter().cloned());
            spec.env.extend(plan.key.iter().flat_map(Key::environment));
            spec
        };
        let router = self.router.insert(Started::start(router_spec(plan.listen))?);
        router.listen().await?;
        router.spec = router_spec(router.address);
        let url = reachable_url(router.address);
        step.done(&format!("router on {url}"));
        let token = plan.token_file.as_ref().map(TokenFile::token);
        Ok(Client::new(&url).signing_with(plan.key.clone()).showing(token))
    }

    /// Kills what was started, and returns when nothing of it is left.
    pub(super) async fn kill(mut self) {
        for started in self.all() {
            started.child.kill().await;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Started> {
        self.store.iter_mut().chain(&mut self.router)
    }
}

impl Started {
    fn start(spec: ChildSpec) -> Result<Self, StartError> {
        let child = Child::start(&spec)?;
        Ok(Self { spec, child, address: ANY_PORT })
    }

    async fn listen(&mut self) -> Result<(), StartError> {
        self.address = self.child.address().await?;
        Ok(())
    }

    pub(super) fn watch(self) -> Supervised {
        Supervised::new(self.spec, self.child, self.address)
    }
}

/// Fails early and plainly if the router could not listen. Whoever takes the port between now and
/// then still makes the router fail, with the end of its log.
pub(super) fn check_free(address: SocketAddr) -> Result<(), ClusterError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ClusterError::AddressTaken { address })
        }
        Err(source) => Err(ClusterError::Listen { address, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_address_says_how_to_choose_another() {
        let taken = TcpListener::bind(ANY_PORT).unwrap();
        let error = check_free(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("taken by another program"), "{error}");
        assert!(error.contains("--listen"), "{error}");
    }
}
