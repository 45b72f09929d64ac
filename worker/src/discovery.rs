//! Finds the routers, and tells etcd of this instance.
//!
//! Routers are told by flags, named by etcd, or behind a DNS name (a headless service of Kubernetes);
//! all that are found are reported to.
//!
//! # Invariants
//!
//! - Who was found stays while its source cannot be asked, or names nobody: losing etcd or DNS freezes
//!   the view.

mod names;

use crate::{config::MembershipConfig, policy::routers::Routers};
use names::{Answer, Names};
use shared::{
    etcd::{
        Etcd,
        directory::{Directory, View},
        members::{Reader, RouterRecord},
        registration::{Kept, Registration},
    },
    id::InstanceId,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::info;

/// How often it is looked who has been gone for long.
const TICK: Duration = Duration::from_secs(1);

/// Routers that are reported to at most: each costs a request a second.
const MAX_ROUTERS: usize = 64;

/// What finds routers, for as long as it is kept.
#[derive(Debug)]
pub struct Discovery {
    /// Absent where routers are told, or there are none.
    task: Option<JoinHandle<()>>,
    registration: Option<Registration>,
}

/// Where routers are found, and where news of this instance go.
#[derive(Debug)]
pub struct Found {
    /// Closed where none is looked for beside those that were told.
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
        let names = config.router_dns.clone().map(Names::follow);
        let is_looking = directory.is_some() || names.is_some();
        let sources = Sources { told, directory, names };
        let task = is_looking.then(|| tokio::spawn(sources.follow(publish)));
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
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Sources {
    told: BTreeSet<String>,
    directory: Option<Directory>,
    names: Option<Names>,
}

impl Sources {
    async fn follow(self, publish: watch::Sender<BTreeSet<String>>) {
        let (mut of_etcd, mut of_dns) = (Routers::default(), Routers::default());
        let mut reader = Reader::default();
        let mut views = self.directory.as_ref().map(Directory::views);
        let mut answers = self.names.as_ref().map(Names::answers);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = changed(&mut views) => {
                    let view = views.as_ref().map(|it| it.borrow().clone()).unwrap_or_default();
                    take(&mut of_etcd, &view, &mut reader);
                }
                Some(()) = changed(&mut answers) => {
                    let answer = answers.as_ref().map(|it| it.borrow().clone()).unwrap_or_default();
                    match answer {
                        Answer::Named(urls) => of_dns.named(urls, Instant::now()),
                        Answer::Unknown => of_dns.unknown(),
                    }
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

/// Waits for news of a source; for ever where there is none.
async fn changed<T>(news: &mut Option<watch::Receiver<T>>) -> Option<()> {
    match news {
        Some(news) => news.changed().await.ok(),
        None => std::future::pending().await,
    }
}

fn take(routers: &mut Routers, view: &View, reader: &mut Reader) {
    if !view.is_current {
        routers.unknown();
        return;
    }
    let records = reader.read::<RouterRecord>(view.entries.values());
    routers.named(records.into_iter().map(|it| it.url).collect(), Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use clap::Parser as _;

    fn start(flags: &[&str]) -> (Discovery, Found) {
        let config = Config::parse_from(["manifold-worker"].iter().chain(flags));
        Discovery::start(&config.membership, &"a".parse().unwrap())
    }

    #[tokio::test]
    async fn a_worker_by_itself_waits_for_no_router() {
        let (_discovery, mut alone) = start(&[]);
        assert!(alone.routers.wait_for(|it| !it.is_empty()).await.is_err());
        let (_discovery, told) = start(&["--router", "http://127.0.0.1:1"]);
        assert_eq!(told.routers.borrow().len(), 1);
    }

    #[tokio::test]
    async fn routers_behind_a_name_are_found() {
        let (_discovery, mut found) = start(&["--router-dns", "127.0.0.1:7"]);
        let urls = found.routers.wait_for(|it| !it.is_empty()).await.unwrap();
        assert_eq!(*urls, BTreeSet::from(["http://127.0.0.1:7".to_owned()]));
    }
}
