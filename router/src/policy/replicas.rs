//! Decides which instances hold the replicas of hot models, which of them take invocations, and
//! which have to be warmed first.
//!
//! # Invariants
//!
//! - The replicas of a model are the first instances of its order, as many as
//!   [`Replication`] says. An instance takes its invocations once it is known to hold it: because
//!   it said so in a heartbeat, or because it was warmed. If none does, the first of the order
//!   takes them all: one load, however many wait.
//! - An instance is warmed for a model by at most one request of this router at a time, and a
//!   router has a bounded number of them open (`MIN_WARMING`).
//! - What is known of an instance ends with its process: see [`Replicas::forget`].

use super::{
    replication::{Capacity, Replication, heat},
    ring::{Key, Node, PlacementRing},
};
use shared::api::membership::HotModel;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A router warms as many replicas at the same time, or one for every fourth instance if those are
/// more: each is a load of up to seconds at some worker, and an open connection here. A thousand
/// instances want thousands of replicas; sixteen at a time took longer than their queues could wait
/// (`tests/simulation/work.rs`).
const MIN_WARMING: usize = 16;
const WARMING_PART: usize = 4;

/// After that long an instance that could not be warmed is asked again. Meanwhile the next of the
/// order takes its part.
const WARM_AGAIN: Duration = Duration::from_secs(30);

/// How long a replica counts as new.
const SLOW_START: Duration = Duration::from_secs(2);

/// So many instances beyond the replicas are looked at: where the ring has changed, one that was a
/// replica goes on until the one that took its place is warm. And so many may be asked where
/// replicas are too busy: that more of them leave at the same time is an outage.
const SPARE: usize = 4;

/// Invocations for each slot from which on an instance counts as one where they wait: some always
/// do, for a moment.
const QUEUEING: usize = 2;

/// What is known of the hot models of a group, and of who holds them.
#[derive(Debug, Default)]
pub struct Replicas {
    reports: BTreeMap<Node, Report>,
    replication: Replication,
    sets: HashMap<Arc<str>, ReplicaSet>,
    warming: BTreeSet<(Arc<str>, Node)>,
}

#[derive(Debug)]
struct Report {
    hot: Vec<HotModel>,
    is_queueing: bool,
}

/// Who holds a model.
#[derive(Debug, Default)]
struct ReplicaSet {
    /// Since when, as far as is known.
    warm: BTreeMap<Node, Instant>,
    /// Those that could not be warmed, and when to try them again.
    failed: BTreeMap<Node, Instant>,
}

/// An instance that may hold replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub node: Node,
    pub n_slots: usize,
}

/// A replica that takes invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub node: Node,
    pub is_new: bool,
}

/// Who takes a hot model's invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Homes {
    /// Its replicas, the most preferred first. None: only its first choice, but it waits in a
    /// queue there, and others may be better off.
    pub members: Vec<Member>,
    /// The next of its order, for when another load costs less than to wait.
    pub spares: Vec<Node>,
}

/// What follows from all that is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub sets: Vec<(Arc<str>, Homes)>,
    /// What shall be warmed now. Whoever asks for the plan does so, and tells what came of it.
    pub warms: Vec<(Arc<str>, Node)>,
}

impl Replicas {
    /// Takes what an instance reports of its hot models, in place of what it did before, and how
    /// many invocations it has.
    pub fn hear(&mut self, from: Host, hot: Vec<HotModel>, n_in_flight: usize) {
        let Host { node, n_slots } = from;
        let is_queueing = n_in_flight > QUEUEING * n_slots;
        if hot.is_empty() {
            self.reports.remove(&node);
        } else {
            self.reports.insert(node, Report { hot, is_queueing });
        }
    }

    /// Forgets what an instance said and held: it has left, or is another process now.
    pub fn forget(&mut self, node: Node) {
        self.reports.remove(&node);
        self.warming.retain(|(_, warming)| *warming != node);
        for set in self.sets.values_mut() {
            set.warm.remove(&node);
            set.failed.remove(&node);
        }
    }

    pub fn warmed(&mut self, artifact: &Arc<str>, node: Node, now: Instant) {
        self.warming.remove(&(Arc::clone(artifact), node));
        if let Some(set) = self.sets.get_mut(artifact) {
            set.warm.entry(node).or_insert(now);
        }
    }

    pub fn failed(&mut self, artifact: &Arc<str>, node: Node, now: Instant) {
        self.warming.remove(&(Arc::clone(artifact), node));
        if let Some(set) = self.sets.get_mut(artifact) {
            set.failed.insert(node, now + WARM_AGAIN);
        }
    }

    /// Decides how many replicas each model shall have. Call it about once a second.
    pub fn decide(&mut self, hosts: &[Host], now: Instant) {
        let n_slots = hosts.iter().map(|host| host.n_slots).sum();
        let capacity = Capacity { n_instances: hosts.len(), n_slots };
        let heat = heat(self.reports.values().map(|report| &*report.hot));
        self.replication.decide(&heat, capacity, now);
    }

    /// Returns who takes what, and what is to be warmed.
    pub fn plan(&mut self, ring: &PlacementRing, hosts: &[Host], now: Instant) -> Plan {
        self.renew_sets(now);
        let max_warming = MIN_WARMING.max(hosts.len() / WARMING_PART);
        let hosts: HashSet<Node> = hosts.iter().map(|host| host.node).collect();
        let mut plan = Plan::default();
        for (artifact, n_replicas) in self.replication.replicated() {
            let Some(set) = self.sets.get(artifact) else { continue };
            let order = ring.preference(Key::of(artifact)).filter(|node| hosts.contains(node));
            let order: Vec<Node> = order.take(n_replicas + SPARE).collect();
            plan.sets.push((Arc::clone(artifact), set.homes(&order, n_replicas, now)));
            for node in set.wanted(&order, n_replicas, now) {
                let warm = (Arc::clone(artifact), node);
                if self.warming.len() < max_warming && self.warming.insert(warm.clone()) {
                    plan.warms.push(warm);
                }
            }
        }
        plan.sets.extend(self.queueing().into_iter().map(|artifact| {
            let others = ring.preference(Key::of(&artifact)).skip(1);
            let spares = others.filter(|node| hosts.contains(node)).take(SPARE).collect();
            (artifact, Homes { members: Vec::new(), spares })
        }));
        plan
    }

    /// How many replicas there are wished for, beyond the first of each model.
    pub fn n_further(&self) -> usize {
        self.replication.replicated().map(|(_, n_replicas)| n_replicas - 1).sum()
    }

    /// Has a set for each model with several replicas, and in it whom we heard that they hold it.
    fn renew_sets(&mut self, now: Instant) {
        let Self { reports, replication, sets, .. } = self;
        sets.retain(|artifact, _| replication.n_replicas(artifact) > 1);
        for (artifact, _) in replication.replicated() {
            sets.entry(Arc::clone(artifact)).or_default();
        }
        let long_ago = now.checked_sub(SLOW_START).unwrap_or(now);
        for (node, report) in reports {
            for hot in &report.hot {
                if let Some(set) = sets.get_mut(&*hot.artifact) {
                    set.warm.entry(*node).or_insert(long_ago);
                }
            }
        }
    }

    /// The hot models with one replica on instances where invocations wait.
    fn queueing(&self) -> BTreeSet<Arc<str>> {
        let reports = self.reports.values().filter(|report| report.is_queueing);
        let hot = reports.flat_map(|report| &report.hot).map(|hot| &*hot.artifact);
        hot.filter(|artifact| !self.sets.contains_key(*artifact)).map(Arc::from).collect()
    }
}

impl ReplicaSet {
    fn homes(&self, order: &[Node], n_replicas: usize, now: Instant) -> Homes {
        let members = self.members(order, n_replicas, now);
        let taken: HashSet<Node> = members.iter().map(|member| member.node).collect();
        let others = order.iter().copied().filter(|node| !taken.contains(node));
        Homes { spares: others.take(SPARE).collect(), members }
    }

    fn members(&self, order: &[Node], n_replicas: usize, now: Instant) -> Vec<Member> {
        let is_new = |since: Instant| now.saturating_duration_since(since) < SLOW_START;
        let warm = order.iter().filter_map(|node| {
            self.warm.get(node).map(|since| Member { node: *node, is_new: is_new(*since) })
        });
        let members: Vec<Member> = warm.take(n_replicas).collect();
        if members.is_empty() {
            return order
                .iter()
                .take(1)
                .map(|node| Member { node: *node, is_new: false })
                .collect();
        }
        members
    }

    /// Those that shall become warm, but for those that just could not.
    fn wanted(
        &self,
        order: &[Node],
        n_replicas: usize,
        now: Instant,
    ) -> impl Iterator<Item = Node> {
        let may = move |node: &Node| self.failed.get(node).is_none_or(|again| *again <= now);
        let nodes = order.iter().copied().filter(may).take(n_replicas);
        nodes.filter(|node| !self.warm.contains_key(node))
    }
}

#[cfg(test)]
mod tests;
