//! A router: the real group and its hot models, with what its actor does each second.

use router::{
    group::{
        Affinity, Group, InService,
        hot::{HotModels, Renewed, Wish},
    },
    instance::Instance,
    policy::ring::{ByHash, Node, PlacementRing},
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
    hot: HotModels,
    pub(super) n_spilled: u64,
}

impl Router {
    pub(super) fn new(n_instances: usize, n_slots: usize) -> Self {
        let instances: Vec<&'static Arc<Instance>> =
            (0..n_instances).map(|n| &*Box::leak(Box::new(instance(n, n_slots)))).collect();
        let numbers = instances.iter().enumerate().map(|(n, it)| (it.node, n)).collect();
        let in_service: InService =
            instances.iter().map(|it| (it.id.clone(), Arc::clone(*it))).collect();
        let group = Group::new(in_service, Arc::new(PlacementRing::empty()));
        let group = group.with_ring(group.ring().changed_to(&group.wanted()));
        Self { instances, numbers, group, hot: HotModels::default(), n_spilled: 0 }
    }

    /// The number of the instance for an invocation.
    pub(super) fn place(&mut self, model: &str, turn: impl FnOnce() -> u32) -> usize {
        let place = self.group.place(model, &[], turn).expect("all are in service");
        self.n_spilled += u64::from(place.affinity == Affinity::Spilled);
        self.number(&place.instance)
    }

    pub(super) fn number(&self, instance: &Instance) -> usize {
        self.numbers[&instance.node]
    }

    pub(super) fn hear(&mut self, number: usize, hot: Vec<HotModel>, n_in_flight: usize) {
        let instance = self.instances[number];
        instance.report(n_in_flight);
        self.hot.hear(instance, hot, n_in_flight);
    }

    /// What its actor does each second.
    pub(super) fn decide(&mut self, now: Instant) -> Vec<Wish> {
        self.hot.decide(&self.group, now);
        let Renewed { group, wishes } = self.hot.renewed(&self.group, now);
        if let Some(group) = group {
            self.group = group;
        }
        wishes
    }

    pub(super) fn warmed(&mut self, wish: &Wish, now: Instant) {
        self.hot.warmed(wish, true, now);
    }

    pub(super) fn n_further(&self) -> usize {
        self.hot.n_further()
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
