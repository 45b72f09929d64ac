//! This router's place in a cluster with etcd: registers it, and tells `Membership` of the instances.
//!
//! # Invariants
//!
//! - What etcd said last stays while it cannot be asked: losing it freezes the view.
//! - The lease under which this router is registered is what it claims work by.

use crate::{
    actors::membership::Membership, async_invocations::sharing::Sharing, config::ClusterConfig,
    metrics::ClusterMetrics,
};
use shared::{
    etcd::{
        Etcd,
        directory::{Directory, View},
        members::{Reader, Registered, RouterRecord},
        registration::{Kept, Registration},
    },
    own_address,
    task::Task,
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// How long a router that starts waits for the instances that etcd knows, so that its first clients
/// find them: probes take milliseconds. It serves without those that do not answer.
const GATHER_PATIENCE: Duration = Duration::from_millis(500);

/// How often it is looked whether all are there.
const GATHER_POLL: Duration = Duration::from_millis(10);

/// Keeps this router registered and instances followed. Dropped, it does neither.
#[derive(Debug)]
pub struct Cluster {
    identity: Identity,
    registration: Registration,
    views: watch::Receiver<View>,
    following: Task,
}

/// A router as others see it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Differs after every start.
    pub id: String,
    /// `http://host:port`, where workers reach it.
    pub url: String,
}

impl Identity {
    /// Finds out under which address this router is reached, which is bound to `bound`. etcd may be
    /// away, and then have no name.
    pub async fn of(config: &ClusterConfig, etcd: &Etcd, bound: SocketAddr) -> io::Result<Self> {
        let authority = match &config.advertise {
            Some(authority) => authority.to_string(),
            None if bound.ip().is_unspecified() => {
                let hosts = etcd.address().hosts.clone();
                let own =
                    spawn_blocking(move || own_address::reached_by(hosts, bound.ip())).await??;
                SocketAddr::new(own, bound.port()).to_string()
            }
            None => bound.to_string(),
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { id, url: format!("http://{authority}") })
    }
}

impl Cluster {
    /// Begins to register this router, and to tell of the instances that etcd knows.
    pub fn start(
        etcd: &Etcd,
        config: &ClusterConfig,
        identity: Identity,
        membership: Membership,
        metrics: ClusterMetrics,
    ) -> Self {
        let record = RouterRecord { url: identity.url.clone() }.encode();
        let key = format!("{}{}", etcd.address().routers(), identity.id);
        // Never changed: who registers is who it is until it ends.
        let (_, value) = watch::channel(record);
        let ttl = Duration::from_secs(config.lease_s);
        let registration = Registration::start(etcd.clone(), Kept { key, value, ttl });
        let directory = Directory::start(etcd.clone(), etcd.address().instances());
        let views = directory.views();
        let following = Task::spawn(follow(directory, membership, metrics));
        Self { identity, registration, views, following }
    }

    /// Returns what shares jobs with the other routers, claimed under this router's lease.
    pub fn sharing(&self, etcd: Etcd) -> Sharing {
        Sharing::new(etcd, self.identity.url.clone(), self.registration.lease())
    }

    /// Whether it still does both. Nothing but a panic ends that, and then the view is frozen for good
    /// or the lease lost.
    pub fn is_alive(&self) -> bool {
        self.following.is_alive() && self.registration.is_alive()
    }

    /// Waits until the instances that etcd knows are in service, or for as long as that is worth it.
    pub async fn gather(&mut self, membership: &Membership) {
        let views = &mut self.views;
        let gathered = async {
            let n_registered = match views.wait_for(|view| view.is_known).await {
                Ok(view) => view.entries.len(),
                Err(_) => return,
            };
            while membership.list().await.is_ok_and(|it| it.len() < n_registered) {
                sleep(GATHER_POLL).await;
            }
        };
        let _all_or_not = timeout(GATHER_PATIENCE, gathered).await;
    }

    /// Takes this router out of etcd.
    pub async fn leave(self) {
        drop(self.following);
        self.registration.end().await;
    }
}

async fn follow(directory: Directory, membership: Membership, metrics: ClusterMetrics) {
    let mut views = directory.views();
    let mut reader = Reader::default();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        metrics.reachable.set(i64::from(view.is_current));
        if view.is_current {
            membership.registered(reader.read::<Registered>(view.entries.values()));
        }
    }
}
