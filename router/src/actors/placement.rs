//! Step 4 of an invocation: chooses the instance for an artifact.
//!
//! Instances form groups: the fleets that a launcher started, each for one variant, or one pool
//! that serves all. A group has a ring of its own.
//!
//! # Invariants
//!
//! - Every published instance is in service: `Membership` tells us of a loss before anyone else,
//!   and the snapshot without it is out before the ring is.
//! - A group's ring changes in a blocking task, one at a time; meanwhile invocations use the old
//!   one, which is right but for the instances that just came or went.
//! - A hot model has replicas, by [`crate::policy::replicas`]. One takes invocations once it is
//!   warm; it is warmed in a task, and this actor decides anew once a second.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

mod handover;
mod warming;

use crate::{
    group::{
        Group, InService, Place,
        hot::{HotModels, Renewed, Wish},
    },
    instance::Instance,
    instance_client::warmer::Warmer,
    metrics::PlacementMetrics,
    policy::{deployment::Provision, ring::PlacementRing},
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use shared::{
    api::membership::{HotModel, InstanceState},
    id::FleetId,
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{debug, error};

/// Chooses the instance for an artifact. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placement {
    addr: Addr<PlacementActor>,
    published: Arc<ArcSwap<Groups>>,
    provision: Provision,
}

/// Every group of instances.
type Groups = BTreeMap<GroupName, Group>;

/// The fleet that a group is; `None` is the pool.
type GroupName = Option<FleetId>;

/// How often it is decided how many replicas models have: as often as heartbeats come.
const DECIDE_INTERVAL: Duration = Duration::from_secs(1);

/// Replicas that become warm are published together, after so long: where there are a thousand
/// instances they come by the hundred, and each time all hot models are looked at.
const GATHER: Duration = Duration::from_millis(20);

impl Placement {
    pub fn start(provision: Provision, warmer: Warmer, metrics: PlacementMetrics) -> Self {
        let published = Arc::new(ArcSwap::from_pointee(Groups::new()));
        let actor = PlacementActor {
            published: Arc::clone(&published),
            provision,
            changing: BTreeSet::new(),
            hot: BTreeMap::new(),
            is_gathering: false,
            warmer,
            metrics,
        };
        Self { addr: actor.start(), published, provision }
    }

    /// Returns the most preferred instance of a fleet for the artifact `key` that is not among
    /// `tried`; one under suspicion only if there is no other.
    pub fn place(&self, fleet: &FleetId, key: &str, tried: &[Arc<Instance>]) -> Option<Place> {
        self.published.load().get(&self.group(fleet))?.place(key, tried, rand::random)
    }

    /// How many instances of a fleet are in service, and will stay.
    pub fn n_instances(&self, fleet: &FleetId) -> usize {
        self.published.load().get(&self.group(fleet)).map_or(0, |group| {
            group.instances().values().filter(|it| it.state == InstanceState::Serving).count()
        })
    }

    /// Returns every instance in service.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        let published = self.published.load();
        published.values().flat_map(|group| group.instances().values().map(Arc::clone)).collect()
    }

    pub fn instances_changed(&self, instances: InService) {
        self.addr.do_send(InstancesChanged { instances });
    }

    /// An instance says what work it does for its hottest models.
    pub fn heat_reported(&self, instance: Arc<Instance>, hot: Vec<HotModel>, n_in_flight: usize) {
        self.addr.do_send(HeatReported { instance, hot, n_in_flight });
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }

    fn group(&self, fleet: &FleetId) -> Option<FleetId> {
        match self.provision {
            Provision::Launched => Some(fleet.clone()),
            Provision::Pooled => None,
        }
    }
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct InstancesChanged {
    instances: InService,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct HeatReported {
    instance: Arc<Instance>,
    hot: Vec<HotModel>,
    n_in_flight: usize,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Warmed {
    group: GroupName,
    wish: Wish,
    is_warm: bool,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct RingChanged {
    group: GroupName,
    /// `None`: the task panicked.
    ring: Option<PlacementRing>,
}

// === Actor ===

#[derive(Debug)]
struct PlacementActor {
    published: Arc<ArcSwap<Groups>>,
    provision: Provision,
    /// The groups whose ring a blocking task is changing.
    changing: BTreeSet<GroupName>,
    /// Of the groups in which something is hot, or was.
    hot: BTreeMap<GroupName, HotModels>,
    /// Whether replicas have become warm that are not published yet.
    is_gathering: bool,
    warmer: Warmer,
    metrics: PlacementMetrics,
}

impl Actor for PlacementActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(DECIDE_INTERVAL, |actor, ctx| actor.decide(&ctx.address()));
    }
}

// === Handlers, in the order of the messages ===

impl Handler<InstancesChanged> for PlacementActor {
    type Result = ();

    fn handle(&mut self, message: InstancesChanged, ctx: &mut Self::Context) {
        let mut groups: BTreeMap<GroupName, InService> = BTreeMap::new();
        for (id, instance) in message.instances {
            groups.entry(self.group_of(&instance)).or_default().insert(id, instance);
        }
        let published = self.published.load_full();
        let group = |(name, instances): (GroupName, InService)| {
            let before = published.get(&name);
            if let (Some(before), Some(hot)) = (before, self.hot.get_mut(&name)) {
                hot.left(before.instances(), &instances);
            }
            let ring = before.map(|group| Arc::clone(group.ring()));
            let ring = ring.unwrap_or_else(|| Arc::new(PlacementRing::empty()));
            (name, Group::new(instances, ring))
        };
        let groups: Groups = groups.into_iter().map(group).collect();
        let names: Vec<_> = groups.keys().cloned().collect();
        self.hot.retain(|name, _| groups.contains_key(name));
        self.publish(groups, &ctx.address());
        for name in names {
            self.change_ring(name, ctx.address());
        }
    }
}

impl Handler<HeatReported> for PlacementActor {
    type Result = ();

    fn handle(&mut self, report: HeatReported, _: &mut Self::Context) {
        let HeatReported { instance, hot, n_in_flight } = report;
        let group = self.group_of(&instance);
        // One that has gone meanwhile would stay in the books for ever.
        if !self.is_current(&group, &instance) {
            return;
        }
        match self.hot.entry(group) {
            // As long as nothing is hot there is nothing to keep.
            Entry::Vacant(_) if hot.is_empty() => {}
            entry => entry.or_default().hear(&instance, hot, n_in_flight),
        }
    }
}

impl Handler<Warmed> for PlacementActor {
    type Result = ();

    fn handle(&mut self, message: Warmed, ctx: &mut Self::Context) {
        let Warmed { group, wish, is_warm } = message;
        if !is_warm {
            self.metrics.warms_failed.inc();
        }
        // Another process holds nothing of what this one was asked to load.
        let is_warm = is_warm && self.is_current(&group, &wish.instance);
        if let Some(hot) = self.hot.get_mut(&group) {
            hot.warmed(&wish, is_warm, Instant::now());
        }
        if !std::mem::replace(&mut self.is_gathering, true) {
            ctx.run_later(GATHER, |actor, ctx| {
                actor.is_gathering = false;
                let published = actor.published.load_full();
                actor.publish(Groups::clone(&published), &ctx.address());
            });
        }
    }
}

impl Handler<RingChanged> for PlacementActor {
    type Result = ();

    fn handle(&mut self, RingChanged { group, ring }: RingChanged, ctx: &mut Self::Context) {
        self.changing.remove(&group);
        let Some(ring) = ring else {
            // Trying the same again would panic again: wait for the next change.
            error!("changing the ring panicked; placement keeps the old one");
            return;
        };
        self.metrics.ring_changes.inc();
        debug!(?group, n_instances = ring.shares().len(), "ring changed");
        let mut groups = Groups::clone(&self.published.load());
        // The group may have gone meanwhile.
        if let Some(group) = groups.get_mut(&group) {
            *group = group.with_ring(ring);
        }
        self.publish(groups, &ctx.address());
        // More may have come or gone meanwhile.
        self.change_ring(group, ctx.address());
    }
}

impl PlacementActor {
    /// Decides how many replicas models have.
    fn decide(&mut self, myself: &Addr<Self>) {
        let published = self.published.load_full();
        for (name, hot) in &mut self.hot {
            if let Some(group) = published.get(name) {
                hot.decide(group, Instant::now());
            }
        }
        self.publish(Groups::clone(&published), myself);
        let n_further: usize = self.hot.values().map(HotModels::n_further).sum();
        self.metrics.replicas.set(i64::try_from(n_further).unwrap_or(i64::MAX));
    }

    /// Publishes groups with the replicas of hot models as they follow from all that is known.
    fn publish(&mut self, mut groups: Groups, myself: &Addr<Self>) {
        for (name, group) in &mut groups {
            let Some(hot) = self.hot.get_mut(name) else { continue };
            let Renewed { group: renewed, wishes } = hot.renewed(group, Instant::now());
            if let Some(renewed) = renewed {
                *group = renewed;
            }
            for wish in wishes {
                self.warm(name.clone(), wish, myself.clone());
            }
        }
        let n_instances: usize = groups.values().map(|it| it.ring().shares().len()).sum();
        self.published.store(Arc::new(groups));
        self.metrics.ring_instances.set(i64::try_from(n_instances).unwrap_or(i64::MAX));
    }

    fn group_of(&self, instance: &Instance) -> GroupName {
        match self.provision {
            Provision::Launched => instance.fleet.clone(),
            Provision::Pooled => None,
        }
    }

    /// Whether an instance is in service as the process that it was.
    fn is_current(&self, group: &GroupName, instance: &Instance) -> bool {
        let published = self.published.load();
        let current = published.get(group).and_then(|it| it.instance(instance.node));
        current.is_some_and(|it| it.is_same_process_as(instance))
    }

    fn change_ring(&mut self, name: GroupName, myself: Addr<Self>) {
        let published = self.published.load();
        let Some(group) = published.get(&name) else { return };
        let wanted = group.wanted();
        let ring = Arc::clone(group.ring());
        if *ring.shares() == wanted || !self.changing.insert(name.clone()) {
            return;
        }
        let changed = tokio::task::spawn_blocking(move || ring.changed_to(&wanted));
        actix::spawn(async move {
            myself.do_send(RingChanged { group: name, ring: changed.await.ok() });
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
