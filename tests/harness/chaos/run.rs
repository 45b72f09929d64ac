//! One scenario while it runs: its cluster under load, and what was done to it when.

use super::{
    Plan,
    load::{Menu, PacedLoad},
    report::{Mark, Report},
};
use crate::{archives, client::Client, cluster::Cluster, eventually};
use futures_util::{StreamExt as _, stream};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Uploads, and first invocations, that are under way at a time.
const N_AT_ONCE: usize = 8;

/// A cluster under load.
#[derive(Debug)]
pub struct Run {
    name: String,
    plan: Plan,
    load: PacedLoad,
    marks: Vec<Mark>,
}

impl Run {
    /// Uploads the models, asks the warm ones, and starts the load. `lasting` is what the faults take
    /// in all.
    pub async fn start(name: &str, cluster: &Cluster, plan: &Plan, lasting: Duration) -> Self {
        Self::start_with_disk(name, cluster, plan, lasting, 0).await
    }

    /// The same, with models that are on disk alone.
    pub async fn start_with_disk(
        name: &str,
        cluster: &Cluster,
        plan: &Plan,
        lasting: Duration,
        n_on_disk: usize,
    ) -> Self {
        let names = |kind: &str, n: usize| -> Vec<String> {
            (0..n).map(|idx| format!("{kind}-{idx}.tar.gz")).collect()
        };
        let menu = Menu {
            warm: names("warm", plan.n_warm),
            cold: names("cold", plan.n_cold(lasting)),
            on_disk: names("disk", n_on_disk),
            cold_percent: plan.cold_percent,
        };
        let all = menu.warm.iter().chain(&menu.cold).chain(&menu.on_disk);
        stream::iter(all)
            .for_each_concurrent(N_AT_ONCE, |model| cluster.publish(model, archives::echo()))
            .await;
        if n_on_disk > 0 {
            ask_all(cluster.client(), &menu.on_disk).await;
            eventually(async || cluster.n_on_disk() == n_on_disk).await;
            cluster.restart_workers().await;
        }
        ask_all(cluster.client(), &menu.warm).await;
        let load = PacedLoad::start(cluster.clients(), menu, plan.rate);
        let run = Self { name: name.to_owned(), plan: *plan, load, marks: Vec::new() };
        run.lasts(plan.calm).await;
        run
    }

    /// Notes that something is done now.
    pub fn mark(&mut self, what: &str) {
        self.marks.push(Mark { what: what.to_owned(), at: Instant::now(), counts_cold: true });
    }

    /// Notes that something is done now which models on no instance may suffer from.
    pub fn mark_but_cold(&mut self, what: &str) {
        self.marks.push(Mark { what: what.to_owned(), at: Instant::now(), counts_cold: false });
    }

    /// Mixes in the models that are on disk alone.
    pub fn ask_disk(&self) {
        self.load.ask_disk();
    }

    /// Lets the load go on. Time is what this is about; no state is waited for.
    pub async fn lasts(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets the load go on as long as a fault lasts.
    pub async fn hold(&self) {
        self.lasts(self.plan.hold).await;
    }

    /// Lets the cluster be, ends the load, and tells what came of it.
    pub async fn end(self) -> Report {
        self.lasts(self.plan.calm).await;
        let records = self.load.end().await;
        Report::new(&self.name, &records, &self.marks, self.plan.disturbed)
    }
}

async fn ask_all(client: &Client, models: &[String]) {
    stream::iter(models)
        .for_each_concurrent(N_AT_ONCE, async |model| {
            let answer = client.invoke(model, b"first").await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        })
        .await;
}
