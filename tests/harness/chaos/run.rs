//! One scenario while it runs: its cluster under load, and what was done to it when.

use super::{
    Aim, Plan,
    load::{Menu, PacedLoad},
    recovery::Judge,
    report::{Cost, Mark, Report},
    witness::Witness,
};
use crate::{archives, client::Client, cluster::Cluster, eventually};
use futures_util::{StreamExt as _, stream};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Uploads, and first invocations, that are under way at a time.
const N_AT_ONCE: usize = 8;

/// A cluster under load.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    plan: Plan,
    load: PacedLoad,
    witness: Witness,
    marks: Vec<Mark>,
}

impl Run {
    /// Uploads the models, asks the warm ones, and starts the load. `lasting` is what the faults take
    /// in all.
    pub(super) async fn start(
        name: &str,
        cluster: &Cluster,
        plan: &Plan,
        lasting: Duration,
    ) -> Self {
        Self::start_with_disk(name, cluster, plan, lasting, 0).await
    }

    /// The same, with models that are on disk alone.
    pub(super) async fn start_with_disk(
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
        let witness = Witness::start();
        let run = Self { name: name.to_owned(), plan: *plan, load, witness, marks: Vec::new() };
        run.lasts(plan.calm).await;
        run
    }

    /// Notes that something is done now, and what it may cost in time.
    pub(super) fn mark(&mut self, what: &str, aim: Aim) {
        self.mark_costing(Cost::Nothing, what, aim);
    }

    /// Notes that something is done now that must cost some invocations more than time.
    pub(super) fn mark_costing(&mut self, cost: Cost, what: &str, aim: Aim) {
        self.marks.push(Mark { what: what.to_owned(), at: Instant::now(), aim, cost });
    }

    /// Has the load ask every router in turn again.
    pub(super) fn ask_every_router(&self) {
        self.load.ask_every_router();
    }

    /// Mixes in the models that are on disk alone.
    pub(super) fn ask_disk(&self) {
        self.load.ask_disk();
    }

    /// Lets the load go on. Time is what this is about; no state is waited for.
    pub(super) async fn lasts(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets the load go on as long as a fault lasts.
    pub(super) async fn hold(&self) {
        self.lasts(self.plan.hold).await;
    }

    /// Lets the cluster be, ends the load, and tells what came of it.
    pub(super) async fn end(self) -> Report {
        self.lasts(self.plan.calm).await;
        let records = self.load.end().await;
        let judge = Judge { patience: self.plan.disturbed, stalls: self.witness.end().await };
        Report::new(&self.name, &records, &self.marks, &judge)
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
