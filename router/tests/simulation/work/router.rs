//! A router: the real group and replicas, and what its actor does with them.

use router::{
    group::{Affinity, Group, InService},
    instance::Instance,
    policy::{
        replicas::{Host, Replicas},
        ring::{ByHash, Node, PlacementRing},
    },
};
use shared::{
    api::membership::{Heartbeat, HotModel, InstanceState},
    id::InstanceId,
};
use std::{collections::HashMap, sync::Arc};
use tokio::time::Instant;

pub(super) struct Router {
    /// By their numbers. For ever, so that whatever is in flight may point to them.
    pub(super) instances: Vec<&'static Arc<Instance>>,
    numbers: HashMap<Node, usize, ByHash>,
    group: Group,
    replicas: Replicas,
    pub(super) n_spilled: u64,
}

/// What is to be warmed, and where.
pub(super) type Wish = (Arc<str>, usize);

impl Router {
    pub(super) fn new(n_instances: usize, n_slots: usize) -> Self {
        let instances: Vec<&'static Arc<Instance>> =
            (0..n_instances).map(|n| &*Box::leak(Box::new(instance(n, n_slots)))).collect();
        let numbers = instances.iter().enumerate().map(|(n, it)| (it.node, n)).collect();
        let in_service: InService =
            instances.iter().map(|it| (it.id.clone(), Arc::clone(*it))).collect();
        let group = Group::new(in_service, Arc::new(PlacementRing::empty()));
        let group = group.with_ring(group.ring().changed_to(&group.wanted()));
        Self { instances, numbers, group, replicas: Replicas::default(), n_spilled: 0 }
    }

    /// The number of the instance for an invocation.
    pub(super) fn place(&mut self, model: &str, turn: impl FnOnce() -> u32) -> usize {
        let place = self.group.place(model, &[], turn).expect("all are in service");
        self.n_spilled += u64::from(place.affinity == Affinity::Spilled);
        self.numbers[&place.instance.node]
    }

    pub(super) fn hear(&mut self, number: usize, hot: Vec<HotModel>, n_in_flight: usize) {
        let instance = self.instances[number];
        instance.report(n_in_flight);
        let from = Host { node: instance.node, n_slots: instance.n_slots };
        self.replicas.hear(from, hot, n_in_flight);
    }

    /// What its actor does each second.
    pub(super) fn decide(&mut self, now: Instant) -> Vec<Wish> {
        self.replicas.decide(&self.group.hosts(), now);
        let plan = self.replicas.plan(self.group.ring(), &self.group.hosts(), now);
        self.group = self.group.with_hot(&plan.sets);
        let wishes = plan.warms.into_iter();
        wishes.map(|(model, node)| (model, self.numbers[&node])).collect()
    }

    pub(super) fn warmed(&mut self, model: &Arc<str>, number: usize, now: Instant) {
        self.replicas.warmed(model, self.instances[number].node, now);
    }

    pub(super) fn n_further(&self) -> usize {
        self.replicas.n_further()
    }
}

fn instance(n: usize, n_slots: usize) -> Arc<Instance> {
    let id: InstanceId = format!("worker-{n}").parse().expect("a valid id");
    Arc::new(Instance::new(&Heartbeat {
        instance: id,
        fleet: None,
        address: "127.0.0.1:9".parse().expect("an address"),
        boot_id: String::new(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        n_slots,
        hot: Vec::new(),
    }))
}
