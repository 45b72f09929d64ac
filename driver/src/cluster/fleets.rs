//! The worker processes of a cluster: as many as the router wants, of the fleets that it wants.
//!
//! A task asks the router again and again, starts what is missing and drains what is too many. It
//! remembers nothing of what the router wants: a router that was killed says it again.
//!
//! # Invariants
//!
//! - Only this task starts or stops workers, so every worker is in its list until it has ended and
//!   what it leaves is removed. A name is used again only then.
//! - Of memory, every worker in the list has the same share, those that drain included, and is told
//!   with each turn until it has heard. Shares add up to the machine's budget but for the moments in
//!   which some have not heard yet that there are more of them: a worker that starts, or starts again
//!   with the share of its first life, does not wait for the others to shrink.

mod instance;
mod plan;
#[cfg(test)]
mod tests;

use crate::{
    client::Client,
    console,
    data::DataDir,
    orders::{self, KillOrder, Order, OrderReceiver, Orders},
    processes::Processes,
    share::{Machine, Share, shares},
};
use futures_util::future::join_all;
use instance::Instance;
use plan::Change;
use shared::{
    api::fleets::{DesiredFleet, DesiredFleets, FleetReport, FleetsReport},
    id::FleetId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    task::Poll,
    time::Duration,
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

/// A worker that drains hands its models over, for 30 s at most, and finishes what it accepted: an
/// invocation takes 60 s at most. A container has half a minute more to end.
const DRAIN_GRACE: Duration = Duration::from_secs(130);

/// After a router that could not be asked: it is being started again.
const RETRY: Duration = Duration::from_millis(200);

/// Keeps the workers. Dropping it kills them.
#[derive(Debug)]
pub struct Fleets {
    orders: Orders,
    task: JoinHandle<Vec<String>>,
}

impl Fleets {
    pub fn start(
        processes: Processes,
        machine: Machine,
        client: Client,
        store_url: String,
    ) -> Self {
        let (orders, receiver) = orders::channel();
        let keeper = Keeper {
            processes,
            machine,
            client,
            store_url,
            instances: BTreeMap::new(),
            known: 0,
            is_tidy: false,
        };
        Self { orders, task: tokio::spawn(keeper.run(receiver)) }
    }

    /// Stops every worker. Returns the names of those that had to be killed.
    pub async fn stop(&mut self, grace: Duration) -> Vec<String> {
        self.orders.stop(grace);
        (&mut self.task).await.unwrap_or_default()
    }

    pub fn killer(&self) -> KillOrder {
        self.orders.killer()
    }

    /// Waits until nobody keeps the workers any more: they were stopped, or the task has panicked.
    pub async fn lost(&self) {
        self.orders.unheard().await;
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
}

impl Keeper {
    async fn run(mut self, mut orders: OrderReceiver) -> Vec<String> {
        loop {
            let order = tokio::select! {
                biased;
                order = orders.next() => order,
                () = self.turn() => continue,
            };
            return self.end(order, orders).await;
        }
    }

    /// Waits for the next thing to do, and does it. Cancel safe.
    async fn turn(&mut self) {
        let report = self.report();
        let client = self.client.clone();
        tokio::select! {
            biased;
            name = next_ended(&mut self.instances) => self.ended(&name),
            desired = ask(&client, &report) => {
                self.tidy(&desired).await;
                self.reconcile(&desired);
            }
        }
        self.share_memory().await;
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

    /// Removes once what was left by a launcher that was killed, of fleets that never come again:
    /// before anything is started, so that it cannot be what a new instance has made.
    async fn tidy(&mut self, desired: &DesiredFleets) {
        if self.is_tidy {
            return;
        }
        let fleets = desired.fleets.iter();
        let names = fleets.flat_map(|it| (0..it.n_instances).map(move |idx| name(it, idx)));
        let wanted: BTreeSet<String> = names.collect();
        let data = self.processes.data.clone();
        let removed = spawn_blocking(move || forget_others(&data, &wanted)).await;
        // A panic there leaves files, which is no reason to do without workers.
        self.is_tidy = true;
        drop(removed);
    }

    fn reconcile(&mut self, desired: &DesiredFleets) {
        if desired.version == self.known {
            return;
        }
        self.known = desired.version;
        let changes: Vec<_> =
            desired.fleets.iter().map(|fleet| (fleet, self.change(fleet))).collect();
        let wanted: BTreeSet<&FleetId> = desired.fleets.iter().map(|it| &it.fleet).collect();
        let too_many: BTreeSet<(&FleetId, u32)> = changes
            .iter()
            .flat_map(|(fleet, change)| change.drain.iter().map(|idx| (&fleet.fleet, *idx)))
            .collect();
        let data = &self.processes.data;
        let drained = |(name, instance): (String, Instance)| {
            let is_wanted = wanted.contains(&instance.fleet)
                && !too_many.contains(&(&instance.fleet, instance.idx));
            let kept = if is_wanted { instance } else { instance.drain(DRAIN_GRACE, data.clone()) };
            (name, kept)
        };
        self.instances = std::mem::take(&mut self.instances).into_iter().map(drained).collect();
        let missing: Vec<_> = changes
            .iter()
            .flat_map(|(fleet, change)| change.start.iter().map(|idx| (*fleet, *idx)))
            .collect();
        let shares = self.shares_of_new(missing.len());
        for ((fleet, idx), share) in missing.into_iter().zip(shares) {
            self.start(fleet, idx, share);
        }
    }

    fn change(&self, fleet: &DesiredFleet) -> Change {
        let of_fleet = self.instances.values().filter(|it| it.fleet == fleet.fleet);
        let (draining, serving): (Vec<_>, Vec<_>) = of_fleet.partition(|it| it.is_draining());
        let indices = |instances: Vec<&Instance>| instances.iter().map(|it| it.idx).collect();
        plan::change(&indices(serving), &indices(draining), fleet.n_instances)
    }

    /// The shares of instances that are to start. Cores are of those that serve, because a worker
    /// keeps its slots; memory is of all, and grows when some have ended.
    fn shares_of_new(&self, n_new: usize) -> Vec<Share> {
        let n_serving = self.instances.values().filter(|it| !it.is_draining()).count() + n_new;
        let all = shares(self.machine.budget_bytes(), self.machine.n_cores, n_serving);
        let memory_budget_bytes = self.budget_bytes(self.instances.len() + n_new);
        all.into_iter().rev().take(n_new).map(|it| Share { memory_budget_bytes, ..it }).collect()
    }

    fn start(&mut self, fleet: &DesiredFleet, idx: u32, share: Share) {
        let name = name(fleet, idx);
        let urls = (self.client.router_url(), &*self.store_url);
        let spec = self.processes.instance(&name, share, urls, fleet.container.as_ref());
        console::say(&format!(
            "          {name}: {} MiB for models, {} compute slot(s)",
            share.memory_budget_bytes >> 20,
            share.compute_slots
        ));
        let instance = Instance::start(spec, fleet, idx, share.memory_budget_bytes);
        self.instances.insert(name, instance);
    }

    fn ended(&mut self, name: &str) {
        let ended = self.instances.remove(name);
        if ended.is_some_and(|it| !it.is_draining()) {
            console::complain(&format!("{name}: what kept it running has failed"));
            // It is missing now.
            self.known = 0;
        }
    }

    /// Divides the machine's memory anew among all that run.
    async fn share_memory(&mut self) {
        let budget_bytes = self.budget_bytes(self.instances.len());
        let all = self.instances.values_mut();
        join_all(all.map(|it| it.set_budget(&self.client, budget_bytes))).await;
    }

    fn budget_bytes(&self, n_instances: usize) -> u64 {
        self.machine.budget_bytes() / n_instances.max(1) as u64
    }

    /// Stops everything, or kills it. Returns the names of those that had to be killed.
    async fn end(mut self, order: Order, mut orders: OrderReceiver) -> Vec<String> {
        let instances = std::mem::take(&mut self.instances);
        let killers: Vec<_> = instances.values().map(Instance::killer).collect();
        let kill = || killers.iter().for_each(KillOrder::give);
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
            () = orders.killed() => {
                kill();
                stopping.await
            }
        };
        stopped.into_iter().flatten().collect()
    }
}

fn forget_others(data: &DataDir, wanted: &BTreeSet<String>) {
    let left = data.cached().into_iter().filter(|it| !wanted.contains(it));
    left.for_each(|it| data.forget(&it));
}

/// Waits until an instance has ended for good, and returns its name. Cancel safe.
async fn next_ended(instances: &mut BTreeMap<String, Instance>) -> String {
    poll_fn(|context| {
        let mut ended = instances.iter_mut().filter_map(|(name, instance)| {
            instance.poll_ended(context).is_ready().then(|| name.clone())
        });
        ended.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await
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
