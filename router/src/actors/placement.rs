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
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

use crate::{
    instance::Instance,
    metrics::PlacementMetrics,
    policy::{
        deployment::Provision,
        ring::{self, PlacementRing, Shares},
    },
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use shared::id::{FleetId, InstanceId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tracing::{debug, error};

/// Chooses the instance for an artifact. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placement {
    addr: Addr<PlacementActor>,
    published: Arc<ArcSwap<Groups>>,
    provision: Provision,
}

/// The instances in service.
pub type InService = BTreeMap<InstanceId, Arc<Instance>>;

/// Every group of instances; `None` is the pool.
type Groups = BTreeMap<Option<FleetId>, Group>;

#[derive(Clone, Debug)]
struct Group {
    ring: Arc<PlacementRing>,
    instances: Arc<InService>,
}

/// The instance for an invocation.
#[derive(Clone, Debug)]
pub struct Place {
    pub instance: Arc<Instance>,
    /// Whether it is the one that the artifact prefers.
    pub is_first: bool,
}

impl Placement {
    pub fn start(provision: Provision, metrics: PlacementMetrics) -> Self {
        let published = Arc::new(ArcSwap::from_pointee(Groups::new()));
        let actor = PlacementActor {
            published: Arc::clone(&published),
            provision,
            changing: BTreeSet::new(),
            metrics,
        };
        Self { addr: actor.start(), published, provision }
    }

    /// Returns the most preferred instance of a fleet for the artifact `key` that is not among
    /// `tried`; one under suspicion only if there is no other.
    pub fn place(&self, fleet: &FleetId, key: &str, tried: &[Arc<Instance>]) -> Option<Place> {
        let published = self.published.load();
        let group = published.get(&self.group(fleet))?;
        // One that was just lost is in the snapshot until the actor has heard of it.
        let may = |instance: &&Arc<Instance>| {
            !instance.is_lost() && tried.iter().all(|tried| tried.id != instance.id)
        };
        let mut suspect = None;
        for (idx, id) in group.ring.preference(key).enumerate() {
            // The ring may still hold one that is gone.
            let Some(instance) = group.instances.get(id).filter(may) else {
                continue;
            };
            let place = Place { instance: Arc::clone(instance), is_first: idx == 0 };
            if !instance.is_suspect() {
                return Some(place);
            }
            suspect.get_or_insert(place);
        }
        // In its first milliseconds an instance may be in service but not on the ring.
        suspect.or_else(|| {
            let instance = group.instances.values().find(may)?;
            Some(Place { instance: Arc::clone(instance), is_first: false })
        })
    }

    /// How many instances of a fleet are in service.
    pub fn n_instances(&self, fleet: &FleetId) -> usize {
        self.published.load().get(&self.group(fleet)).map_or(0, |group| group.instances.len())
    }

    /// Returns every instance in service.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        let published = self.published.load();
        published.values().flat_map(|group| group.instances.values().map(Arc::clone)).collect()
    }

    pub fn instances_changed(&self, instances: InService) {
        self.addr.do_send(InstancesChanged { instances });
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
struct RingChanged {
    group: Option<FleetId>,
    /// `None`: the task panicked.
    ring: Option<PlacementRing>,
}

// === Actor ===

#[derive(Debug)]
struct PlacementActor {
    published: Arc<ArcSwap<Groups>>,
    provision: Provision,
    /// The groups whose ring a blocking task is changing.
    changing: BTreeSet<Option<FleetId>>,
    metrics: PlacementMetrics,
}

impl Actor for PlacementActor {
    type Context = Context<Self>;
}

// === Handlers, in the order of the messages ===

impl Handler<InstancesChanged> for PlacementActor {
    type Result = ();

    fn handle(&mut self, message: InstancesChanged, ctx: &mut Self::Context) {
        let mut groups: BTreeMap<Option<FleetId>, InService> = BTreeMap::new();
        for (id, instance) in message.instances {
            let fleet = match self.provision {
                Provision::Launched => instance.fleet.clone(),
                Provision::Pooled => None,
            };
            groups.entry(fleet).or_default().insert(id, instance);
        }
        let published = self.published.load();
        let group = |(fleet, instances): (Option<FleetId>, InService)| {
            let ring = published.get(&fleet).map(|group| Arc::clone(&group.ring));
            let ring = ring.unwrap_or_else(|| Arc::new(PlacementRing::empty()));
            (fleet, Group { ring, instances: Arc::new(instances) })
        };
        let groups: Groups = groups.into_iter().map(group).collect();
        let names: Vec<_> = groups.keys().cloned().collect();
        self.publish(groups);
        for name in names {
            self.change_ring(name, ctx.address());
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
            group.ring = Arc::new(ring);
        }
        self.publish(groups);
        // More may have come or gone meanwhile.
        self.change_ring(group, ctx.address());
    }
}

impl PlacementActor {
    fn publish(&self, groups: Groups) {
        let n_instances: usize = groups.values().map(|it| it.ring.shares().len()).sum();
        self.published.store(Arc::new(groups));
        self.metrics.ring_instances.set(i64::try_from(n_instances).unwrap_or(i64::MAX));
    }

    fn change_ring(&mut self, name: Option<FleetId>, myself: Addr<Self>) {
        let published = self.published.load();
        let Some(group) = published.get(&name) else { return };
        let wanted = wanted(&group.instances);
        let ring = Arc::clone(&group.ring);
        if *ring.shares() == wanted || !self.changing.insert(name.clone()) {
            return;
        }
        let changed = tokio::task::spawn_blocking(move || ring.changed_to(&wanted));
        actix::spawn(async move {
            myself.do_send(RingChanged { group: name, ring: changed.await.ok() });
        });
    }
}

fn wanted(instances: &InService) -> Shares {
    ring::shares(&instances.iter().map(|(id, it)| (id.clone(), it.budget_bytes)).collect())
}

#[cfg(test)]
mod tests;
