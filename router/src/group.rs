//! A group of instances with its ring, as placement publishes it: every question about where an
//! artifact belongs is answered here, from the snapshot alone.

pub mod hot;

use crate::{
    instance::Instance,
    policy::{
        choice::{self, Load},
        replicas::{Homes, Host, Member},
        ring::{self, ByHash, Key, Node, PlacementRing, Shares},
    },
};
use shared::{api::membership::InstanceState, id::InstanceId};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// How far an order is followed, beyond what was tried, for one who is above suspicion. As many
/// suspects at the same time are an outage; and each step looks again at those before it.
const MAX_WALK: usize = 16;

/// The instances in service.
pub type InService = BTreeMap<InstanceId, Arc<Instance>>;

/// The instance for an invocation.
#[derive(Clone, Debug)]
pub struct Place {
    pub instance: Arc<Instance>,
    pub affinity: Affinity,
}

/// What an instance is to an artifact that is placed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The one that it prefers, or one of its replicas.
    First,
    /// One after these, which were tried or are suspect.
    Other,
    /// The next after them: to load it there is cheaper than to wait.
    Spilled,
}

/// Instances that share their models. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Group {
    ring: Arc<PlacementRing>,
    instances: Arc<InService>,
    nodes: Arc<HashMap<Node, Arc<Instance>, ByHash>>,
    hot: Arc<HashMap<Key, HotHomes, ByHash>>,
}

/// The [`Homes`] of a hot model, as instances.
#[derive(Debug)]
struct HotHomes {
    replicas: Vec<Replica>,
    spares: Vec<Arc<Instance>>,
}

#[derive(Clone, Debug)]
struct Replica {
    instance: Arc<Instance>,
    is_new: bool,
}

impl Group {
    /// A group whose ring is still that of the instances before.
    pub fn new(instances: InService, ring: Arc<PlacementRing>) -> Self {
        let nodes = instances.values().map(|it| (it.node, Arc::clone(it))).collect();
        let instances = Arc::new(instances);
        Self { ring, instances, nodes: Arc::new(nodes), hot: Arc::default() }
    }

    #[must_use]
    pub fn with_ring(&self, ring: PlacementRing) -> Self {
        Self { ring: Arc::new(ring), ..self.clone() }
    }

    /// The group with exactly these hot models.
    #[must_use]
    pub fn with_hot(&self, sets: &[(Arc<str>, Homes)]) -> Self {
        let replica = |member: &Member| {
            let instance = Arc::clone(self.nodes.get(&member.node)?);
            Some(Replica { instance, is_new: member.is_new })
        };
        let spare = |node: &Node| self.nodes.get(node).map(Arc::clone);
        let hot = sets.iter().map(|(artifact, Homes { members, spares })| {
            let replicas = members.iter().filter_map(replica).collect();
            let spares = spares.iter().filter_map(spare).collect();
            (Key::of(artifact), HotHomes { replicas, spares })
        });
        Self { hot: Arc::new(hot.collect()), ..self.clone() }
    }

    pub fn ring(&self) -> &Arc<PlacementRing> {
        &self.ring
    }

    pub fn instances(&self) -> &InService {
        &self.instances
    }

    pub fn instance(&self, node: Node) -> Option<&Arc<Instance>> {
        self.nodes.get(&node)
    }

    pub fn has_hot(&self) -> bool {
        !self.hot.is_empty()
    }

    /// The instances that may get replicas.
    pub fn hosts(&self) -> Vec<Host> {
        let staying = self.instances.values().filter(|it| it.state == InstanceState::Serving);
        staying.map(|it| Host { node: it.node, n_slots: it.n_slots }).collect()
    }

    /// The shares that its ring should have.
    pub fn wanted(&self) -> Shares {
        let budgets = self.instances.iter().map(|(id, it)| (id.clone(), it.budget_bytes));
        ring::shares(&budgets.collect())
    }

    /// Returns the instance for an artifact that is best and not among `tried`; one under suspicion
    /// only if there is no other. Replicas that are as busy as each other are told apart by `turn`.
    pub fn place(
        &self,
        name: &str,
        tried: &[Arc<Instance>],
        turn: impl FnOnce() -> u32,
    ) -> Option<Place> {
        let key = Key::of(name);
        if let Some(homes) = self.hot.get(&key)
            && let Some(place) = self.place_hot(key, homes, tried, turn)
        {
            return Some(place);
        }
        match self.first(key).filter(|it| is_able(it, tried)) {
            Some(first) => Some(Place { instance: Arc::clone(first), affinity: Affinity::First }),
            None => self.place_elsewhere(key, tried),
        }
    }

    fn first(&self, key: Key) -> Option<&Arc<Instance>> {
        self.nodes.get(&self.ring.first(key)?)
    }

    fn place_hot(
        &self,
        key: Key,
        HotHomes { replicas, spares }: &HotHomes,
        tried: &[Arc<Instance>],
        turn: impl FnOnce() -> u32,
    ) -> Option<Place> {
        let load = |replica: &Replica| {
            let instance = &replica.instance;
            is_able(instance, tried).then(|| Load { is_new: replica.is_new, ..instance.load() })
        };
        let best = if replicas.is_empty() {
            self.first(key).filter(|it| is_able(it, tried))?
        } else {
            let start = usize::try_from(turn()).unwrap_or_default();
            &replicas[choice::least_loaded(replicas, start, load)?].instance
        };
        let spilled = if tried.is_empty() { spilled(spares, best) } else { None };
        Some(match spilled {
            Some(next) => Place { instance: Arc::clone(next), affinity: Affinity::Spilled },
            None => Place { instance: Arc::clone(best), affinity: Affinity::First },
        })
    }

    /// The first of the order is out of the question, or under suspicion.
    fn place_elsewhere(&self, key: Key, tried: &[Arc<Instance>]) -> Option<Place> {
        let order = self.ring.preference(key).enumerate().take(tried.len() + MAX_WALK);
        let on_ring = order.filter_map(|(idx, node)| {
            // The ring may still hold one that is gone.
            let instance = self.nodes.get(&node).filter(|it| may(it, tried))?;
            Some((instance, if idx == 0 { Affinity::First } else { Affinity::Other }))
        });
        let (instance, affinity) = choice::most_trusted(on_ring, |(it, _)| it.is_suspect())
            // In its first milliseconds an instance may be in service but not on the ring.
            .or_else(|| {
                let mut in_service = self.instances.values();
                Some((in_service.find(|it| may(it, tried))?, Affinity::Other))
            })?;
        Some(Place { instance: Arc::clone(instance), affinity })
    }

    /// Returns where an artifact belongs once `leaver` is gone.
    pub fn next_home(&self, name: &str, leaver: &InstanceId) -> Option<Arc<Instance>> {
        let order = self.ring.preference(Key::of(name));
        let mut others = order.filter_map(|node| self.nodes.get(&node));
        others.find(|it| it.id != *leaver && it.is_home()).map(Arc::clone)
    }
}

/// Returns the instance that is next after a model's replicas if it is better off there than at the
/// `best` of them, although it has to be loaded.
fn spilled<'a>(spares: &'a [Arc<Instance>], best: &Instance) -> Option<&'a Arc<Instance>> {
    let here = best.figures();
    // Mostly so, and then nobody else's figures are looked at: other threads write them.
    if !here.has_to_wait() {
        return None;
    }
    let next = spares.iter().find(|it| it.is_home() && it.id != best.id)?;
    choice::is_worth_a_load(here, next.figures()).then_some(next)
}

/// Whether there is no reason to look for another.
fn is_able(instance: &Instance, tried: &[Arc<Instance>]) -> bool {
    may(instance, tried) && !instance.is_suspect()
}

/// One that was just lost is in the snapshot until the actor has heard of it.
fn may(instance: &Instance, tried: &[Arc<Instance>]) -> bool {
    !instance.is_lost() && tried.iter().all(|tried| tried.id != instance.id)
}

#[cfg(test)]
mod tests;
