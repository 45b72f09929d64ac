//! Finds the routers, and tells etcd of this instance.
//!
//! Routers are told by flags, named by etcd, or behind a DNS name (a headless service of Kubernetes);
//! all that are found are reported to.
//!
//! # Invariants
//!
//! - Who was found stays while its source cannot be asked: losing etcd or DNS freezes the view.

use crate::{config::MembershipConfig, policy::routers::Routers};
use shared::{
    etcd::{
        Etcd,
        directory::{Directory, View},
        members::{self, RouterRecord},
        registration::{Kept, Registration},
    },
    id::InstanceId,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    net::lookup_host,
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

/// How often a name is resolved: routers come and go by the minute, and heartbeats say who is gone.
const DNS_INTERVAL: Duration = Duration::from_secs(5);

/// How long a name server may take.
const DNS_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked who has been gone for long.
const TICK: Duration = Duration::from_secs(1);

/// Routers that are reported to at most: each costs a request a second.
const MAX_ROUTERS: usize = 64;

/// What finds routers, for as long as it is kept.
#[derive(Debug)]
pub struct Discovery {
    task: JoinHandle<()>,
    registration: Option<Registration>,
}

/// Where routers are found, and where news of this instance go.
#[derive(Debug)]
pub struct Found {
    pub routers: watch::Receiver<BTreeSet<String>>,
    pub registered: watch::Sender<Vec<u8>>,
}

impl Discovery {
    /// Begins to look for routers. The instance is in etcd once it has said what it is.
    pub fn start(config: &MembershipConfig, instance: &InstanceId) -> (Self, Found) {
        let told: BTreeSet<String> = config.routers.iter().cloned().collect();
        let (publish, routers) = watch::channel(told.clone());
        let (registered, value) = watch::channel(Vec::new());
        let etcd = config.cluster.access().map(Etcd::new);
        let registration = etcd.clone().map(|etcd| {
            let key = format!("{}{instance}", etcd.address().instances());
            let ttl = Duration::from_secs(config.cluster.lease_s);
            Registration::start(etcd, Kept { key, value, ttl })
        });
        let directory = etcd.map(|etcd| Directory::start(etcd.clone(), etcd.address().routers()));
        let sources = Sources { told, directory, dns: config.router_dns.clone() };
        let task = tokio::spawn(sources.follow(publish));
        (Self { task, registration }, Found { routers, registered })
    }

    /// Takes this instance out of etcd.
    pub async fn leave(&mut self) {
        if let Some(registration) = self.registration.take() {
            registration.end().await;
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sources {
    told: BTreeSet<String>,
    directory: Option<Directory>,
    dns: Option<String>,
}

impl Sources {
    async fn follow(self, publish: watch::Sender<BTreeSet<String>>) {
        let (mut of_etcd, mut of_dns) = (Routers::default(), Routers::default());
        let mut views = self.directory.as_ref().map(Directory::views);
        let mut ticks = interval(TICK);
        let mut lookups = interval(DNS_INTERVAL);
        for clock in [&mut ticks, &mut lookups] {
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                Some(()) = changed(&mut views) => {
                    let view = views.as_ref().map(|it| it.borrow().clone()).unwrap_or_default();
                    take(&mut of_etcd, &view);
                }
                _ = lookups.tick(), if self.dns.is_some() => {
                    resolve(self.dns.as_deref().unwrap_or_default(), &mut of_dns).await;
                }
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            let found = of_etcd.current(now).into_iter().chain(of_dns.current(now));
            let all: BTreeSet<String> =
                self.told.iter().cloned().chain(found).take(MAX_ROUTERS).collect();
            publish.send_if_modified(|before| {
                let is_news = *before != all;
                if is_news {
                    info!(routers = ?all, "routers found");
                    *before = all;
                }
                is_news
            });
        }
    }
}

/// Waits for news of etcd; for ever where there is none.
async fn changed(views: &mut Option<watch::Receiver<View>>) -> Option<()> {
    match views {
        Some(views) => views.changed().await.ok(),
        None => std::future::pending().await,
    }
}

fn take(routers: &mut Routers, view: &View) {
    if !view.is_current {
        routers.unknown();
        return;
    }
    let records = view.entries.values().filter_map(members::decode::<RouterRecord>);
    routers.named(records.map(|it| it.url).collect(), Instant::now());
}

async fn resolve(name: &str, routers: &mut Routers) {
    match timeout(DNS_PATIENCE, lookup_host(name)).await {
        Ok(Ok(addresses)) => {
            let urls = addresses.map(|address| format!("http://{address}")).collect();
            routers.named(urls, Instant::now());
        }
        failed => {
            let reason = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "the name server does not answer".to_owned(),
            };
            warn!(name, reason, "routers not looked up; those that are known stay");
            routers.unknown();
        }
    }
}
