//! Step 4 of an invocation: chooses the instance for an artifact.
//!
//! # Invariants
//!
//! - Every published instance is in service: `Membership` tells us of a loss before anyone else,
//!   and the snapshot without it is out before the ring is.
//! - The ring changes in a blocking task, one at a time; meanwhile invocations use the old one,
//!   which is right but for the instances that just came or went.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

use crate::{
    instance::Instance,
    metrics::PlacementMetrics,
    policy::ring::{self, PlacementRing, Shares},
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use shared::id::InstanceId;
use std::{collections::BTreeMap, sync::Arc};
use tracing::{debug, error};

/// Chooses the instance for an artifact. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placement {
    addr: Addr<PlacementActor>,
    published: Arc<ArcSwap<Published>>,
}

/// The instances in service.
pub type InService = BTreeMap<InstanceId, Arc<Instance>>;

#[derive(Debug)]
struct Published {
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
    pub fn start(metrics: PlacementMetrics) -> Self {
        let published = Published {
            ring: Arc::new(PlacementRing::empty()),
            instances: Arc::new(InService::new()),
        };
        let published = Arc::new(ArcSwap::from_pointee(published));
        let actor = PlacementActor {
            published: Arc::clone(&published),
            wanted: Shares::new(),
            is_changing: false,
            metrics,
        };
        Self { addr: actor.start(), published }
    }

    /// Returns the most preferred instance for the artifact `key` that is not among `tried`; one
    /// under suspicion only if there is no other.
    pub fn place(&self, key: &str, tried: &[Arc<Instance>]) -> Option<Place> {
        let published = self.published.load();
        // One that was just lost is in the snapshot until the actor has heard of it.
        let may = |instance: &&Arc<Instance>| {
            !instance.is_lost() && tried.iter().all(|tried| tried.id != instance.id)
        };
        let mut suspect = None;
        for (idx, id) in published.ring.preference(key).enumerate() {
            // The ring may still hold one that is gone.
            let Some(instance) = published.instances.get(id).filter(may) else {
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
            let instance = published.instances.values().find(may)?;
            Some(Place { instance: Arc::clone(instance), is_first: false })
        })
    }

    /// How many instances are in service.
    pub fn n_instances(&self) -> usize {
        self.published.load().instances.len()
    }

    pub fn instances_changed(&self, instances: InService) {
        self.addr.do_send(InstancesChanged { instances });
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct InstancesChanged {
    instances: InService,
}

/// `None`: the task panicked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct RingChanged {
    ring: Option<PlacementRing>,
}

// === Actor ===

#[derive(Debug)]
struct PlacementActor {
    published: Arc<ArcSwap<Published>>,
    wanted: Shares,
    /// Whether a blocking task is changing the ring.
    is_changing: bool,
    metrics: PlacementMetrics,
}

impl Actor for PlacementActor {
    type Context = Context<Self>;
}

// === Handlers, in the order of the messages ===

impl Handler<InstancesChanged> for PlacementActor {
    type Result = ();

    fn handle(&mut self, message: InstancesChanged, ctx: &mut Self::Context) {
        let InstancesChanged { instances } = message;
        let budgets = instances.iter().map(|(id, it)| (id.clone(), it.budget_bytes)).collect();
        self.wanted = ring::shares(&budgets);
        let ring = Arc::clone(&self.published.load().ring);
        self.publish(ring, Arc::new(instances));
        self.change_ring(ctx.address());
    }
}

impl Handler<RingChanged> for PlacementActor {
    type Result = ();

    fn handle(&mut self, RingChanged { ring }: RingChanged, ctx: &mut Self::Context) {
        self.is_changing = false;
        let Some(ring) = ring else {
            // Trying the same again would panic again: wait for the next change.
            error!("changing the ring panicked; placement keeps the old one");
            return;
        };
        self.metrics.ring_changes.inc();
        let instances = Arc::clone(&self.published.load().instances);
        let n_instances = ring.shares().len();
        debug!(n_instances, "ring changed");
        self.publish(Arc::new(ring), instances);
        self.metrics.ring_instances.set(i64::try_from(n_instances).unwrap_or(i64::MAX));
        // More may have come or gone meanwhile.
        self.change_ring(ctx.address());
    }
}

impl PlacementActor {
    fn publish(&self, ring: Arc<PlacementRing>, instances: Arc<InService>) {
        self.published.store(Arc::new(Published { ring, instances }));
    }

    fn change_ring(&mut self, myself: Addr<Self>) {
        let ring = Arc::clone(&self.published.load().ring);
        if self.is_changing || *ring.shares() == self.wanted {
            return;
        }
        self.is_changing = true;
        let wanted = self.wanted.clone();
        let changed = tokio::task::spawn_blocking(move || ring.changed_to(&wanted));
        actix::spawn(async move {
            myself.do_send(RingChanged { ring: changed.await.ok() });
        });
    }
}

#[cfg(test)]
mod tests;
