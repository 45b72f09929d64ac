//! The worker processes of a cluster: as many as the router wants, of the fleets that it wants.
//!
//! A task asks the router again and again, starts what is missing and drains what is too many. It
//! remembers nothing of what the router wants: a router that was killed says it again.
//!
//! # Invariants
//!
//! - Only this task starts or stops workers, so every worker is in its list until it has ended.
//! - The memory budgets of those that serve add up to the machine's, whenever their number changes.

mod instance;

use crate::{
    client::Client,
    console,
    processes::Processes,
    share::{Machine, shares},
    supervise::KillOrder as KillWorker,
};
use futures_util::future::join_all;
use instance::Instance;
use shared::{
    api::fleets::{DesiredFleet, DesiredFleets, FleetReport, FleetsReport},
    id::FleetId,
    telemetry::Chain,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

/// A worker that drains finishes what it accepted: an invocation takes 60 s at most.
const DRAIN_GRACE: Duration = Duration::from_secs(65);

/// After a router that could not be asked: it is being started again.
const RETRY: Duration = Duration::from_millis(200);

/// Ends of workers that the task has not looked at yet. Each worker ends once.
const MAX_NEWS: usize = 256;

/// Keeps the workers. Dropping it kills them.
#[derive(Debug)]
pub struct Fleets {
    orders: watch::Sender<Order>,
    task: JoinHandle<Vec<String>>,
}

/// Kills every worker at once when it is given.
#[derive(Clone, Debug)]
pub struct KillOrder(watch::Sender<Order>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Stop { grace: Duration },
    Kill,
}

impl Fleets {
    pub fn start(
        processes: Processes,
        machine: Machine,
        client: Client,
        store_url: String,
    ) -> Self {
        let (orders, receiver) = watch::channel(Order::Run);
        let (tell, news) = mpsc::channel(MAX_NEWS);
        let keeper = Keeper {
            processes,
            machine,
            client,
            store_url,
            instances: BTreeMap::new(),
            known: 0,
            is_tidy: false,
            tell,
        };
        Self { orders, task: tokio::spawn(keeper.run(receiver, news)) }
    }

    /// Stops every worker. Returns the names of those that had to be killed.
    pub async fn stop(&mut self, grace: Duration) -> Vec<String> {
        self.orders.send_if_modified(|order| {
            // A kill that was ordered stays ordered.
            let is_running = *order == Order::Run;
            if is_running {
                *order = Order::Stop { grace };
            }
            is_running
        });
        (&mut self.task).await.unwrap_or_default()
    }

    pub fn killer(&self) -> KillOrder {
        KillOrder(self.orders.clone())
    }
}

impl KillOrder {
    pub fn give(&self) {
        self.0.send_replace(Order::Kill);
    }
}

/// The task's state.
struct Keeper {
    processes: Processes,
    machine: Machine,
    client: Client,
    store_url: String,
    /// By name: those that run, and those that drain.
    instances: BTreeMap<String, Instance>,
    /// The version of the desired fleets that was seen last.
    known: u64,
    /// Whether what an earlier run left was looked for.
    is_tidy: bool,
    tell: mpsc::Sender<Ended>,
}

/// News of a worker that was to drain: it has ended.
#[derive(Debug)]
struct Ended {
    name: String,
}

impl Keeper {
    async fn run(
        mut self,
        mut orders: watch::Receiver<Order>,
        mut news: mpsc::Receiver<Ended>,
    ) -> Vec<String> {
        loop {
            let report = self.report();
            let client = self.client.clone();
            tokio::select! {
                biased;
                order = next(&mut orders) => return self.end(order, orders).await,
                Some(ended) = news.recv() => self.ended(&ended),
                desired = ask(&client, &report) => self.reconcile(&desired),
            }
            self.share_memory().await;
        }
    }

    /// Says what runs, whether or not it shall.
    fn report(&self) -> FleetsReport {
        let mut fleets: BTreeMap<FleetId, FleetReport> = BTreeMap::new();
        for instance in self.instances.values() {
            let fleet = fleets.entry(instance.fleet.clone()).or_default();
            fleet.n_running += 1;
            fleet.failure = fleet.failure.take().or_else(|| instance.failure());
        }
        FleetsReport { known: self.known, fleets }
    }

    fn reconcile(&mut self, desired: &DesiredFleets) {
        if desired.version == self.known {
            return;
        }
        self.known = desired.version;
        let wanted: BTreeMap<String, &DesiredFleet> = desired
            .fleets
            .iter()
            .flat_map(|fleet| (0..fleet.n_instances).map(move |idx| (name(fleet, idx), fleet)))
            .collect();
        let instances = std::mem::take(&mut self.instances).into_iter();
        let drained = |(name, instance): (String, Instance)| {
            if wanted.contains_key(&name) {
                return (name, instance);
            }
            (name, instance.drain(DRAIN_GRACE, self.tell.clone()))
        };
        self.instances = instances.map(drained).collect();
        if !std::mem::replace(&mut self.is_tidy, true) {
            // Left by a launcher that was killed: their fleets never come again.
            let left = self.processes.data.cached().into_iter();
            left.filter(|it| !wanted.contains_key(it))
                .for_each(|it| self.processes.data.forget(&it));
        }
        let missing: Vec<_> =
            wanted.iter().filter(|(name, _)| !self.instances.contains_key(*name)).collect();
        let n_serving = self.n_serving() + missing.len();
        let shares = shares(self.machine.budget_bytes(), self.machine.n_cores, n_serving);
        for ((name, fleet), share) in missing.into_iter().zip(shares.iter().rev()) {
            let spec =
                self.processes.worker(name, *share, self.client.router_url(), &self.store_url);
            match Instance::start(spec, fleet, share.memory_budget_bytes) {
                Ok(instance) => {
                    console::say(&format!(
                        "          {name}: {} MiB for models, {} compute slot(s)",
                        share.memory_budget_bytes >> 20,
                        share.compute_slots
                    ));
                    self.instances.insert(name.clone(), instance);
                }
                // Seen again with the next question, because it is still missing.
                Err(error) => {
                    console::say(&format!("{name}: {}", Chain(&error)));
                    self.known = 0;
                }
            }
        }
    }

    fn ended(&mut self, Ended { name }: &Ended) {
        if self.instances.remove(name).is_some() {
            self.processes.data.forget(name);
        }
        // It may be wanted again by now.
        self.known = 0;
    }

    /// Divides the machine anew among those that serve.
    async fn share_memory(&mut self) {
        let n_serving = self.n_serving().max(1) as u64;
        let budget_bytes = self.machine.budget_bytes() / n_serving;
        let serving = self.instances.values_mut().filter(|it| !it.is_draining());
        join_all(serving.map(|it| it.set_budget(&self.client, budget_bytes))).await;
    }

    fn n_serving(&self) -> usize {
        self.instances.values().filter(|it| !it.is_draining()).count()
    }

    /// Stops everything, or kills it. Returns the names of those that had to be killed.
    async fn end(mut self, order: Order, mut orders: watch::Receiver<Order>) -> Vec<String> {
        let instances = std::mem::take(&mut self.instances);
        let killers: Vec<_> = instances.values().map(Instance::killer).collect();
        let kill = || killers.iter().for_each(KillWorker::give);
        let grace = match order {
            Order::Stop { grace } => grace,
            Order::Run | Order::Kill => {
                kill();
                Duration::ZERO
            }
        };
        let stops = instances.into_iter().map(async |(name, instance)| {
            let was_killed = instance.stop(grace).await;
            was_killed.then_some(name)
        });
        let mut stopping = std::pin::pin!(join_all(stops));
        let stopped = tokio::select! {
            biased;
            stopped = &mut stopping => stopped,
            () = killed(&mut orders) => {
                kill();
                stopping.await
            }
        };
        stopped.into_iter().flatten().collect()
    }
}

async fn killed(orders: &mut watch::Receiver<Order>) {
    // A dropped handle means a kill, too.
    let _ = orders.wait_for(|order| *order == Order::Kill).await;
}

/// Waits until the workers shall not run any more. A dropped handle means a kill.
async fn next(orders: &mut watch::Receiver<Order>) -> Order {
    orders.wait_for(|order| *order != Order::Run).await.map_or(Order::Kill, |order| *order)
}

/// Asks what shall run, until there is an answer.
async fn ask(client: &Client, report: &FleetsReport) -> DesiredFleets {
    loop {
        match client.report_fleets(report).await {
            Ok(desired) => return desired,
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Names that say what they are, and differ from those of every other fleet. At most 63 characters.
fn name(fleet: &DesiredFleet, instance_idx: u32) -> String {
    const MAX_ENDPOINT_CHARS: usize = 25;
    const MAX_VARIANT_CHARS: usize = 16;
    // Fleets are `f-` and 32 hexadecimal digits.
    const FLEET_CHARS: std::ops::Range<usize> = 2..10;
    let short = |text: &str, max_chars: usize| {
        text.chars().take(max_chars).collect::<String>().trim_end_matches('-').to_owned()
    };
    let (endpoint, variant) = (fleet.endpoint.as_str(), fleet.variant.as_str());
    format!(
        "{}-{}-{}-{instance_idx}",
        short(endpoint, MAX_ENDPOINT_CHARS),
        short(variant, MAX_VARIANT_CHARS),
        fleet.fleet.as_str().get(FLEET_CHARS).unwrap_or(fleet.fleet.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::InstanceId;

    #[test]
    fn names_of_instances_are_valid_and_differ_between_fleets() {
        let fleet = |id: &str| DesiredFleet {
            fleet: id.parse().unwrap(),
            endpoint: format!("a{}", "-b".repeat(31)).parse().unwrap(),
            variant: "v".repeat(63).parse().unwrap(),
            n_instances: 1,
            environment: BTreeMap::new(),
        };
        let (one, other) = (format!("f-{}", "1".repeat(32)), format!("f-{}", "2".repeat(32)));
        let (one, other) = (name(&fleet(&one), 0), name(&fleet(&other), 4_000_000_000));
        assert_ne!(one, other);
        for name in [one, other] {
            assert!(name.parse::<InstanceId>().is_ok(), "{name}");
        }
    }
}
