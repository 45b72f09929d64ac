//! The hot models of a group: what its instances say of them, and what follows from that.
//!
//! Who keeps it tells it what it hears, has it decide about once a second, publishes the group that it makes
//! and warms what it wishes for: `actors/placement.rs`, and the simulation in `tests/`.

use super::{Group, InService};
use crate::{
    instance::Instance,
    policy::replicas::{Homes, Host, Replicas},
};
use shared::api::membership::HotModel;
use std::sync::Arc;
use tokio::time::Instant;

/// What is known of a group's hot models.
#[derive(Debug, Default)]
pub struct HotModels {
    replicas: Replicas,
    /// What was published last.
    sets: Vec<(Arc<str>, Homes)>,
}

/// A replica that shall be warmed.
#[derive(Clone, Debug)]
pub struct Wish {
    pub artifact: Arc<str>,
    pub instance: Arc<Instance>,
}

/// What follows from all that is known.
#[derive(Debug)]
pub struct Renewed {
    /// The group with the replicas as they are to be; `None`: as they are.
    pub group: Option<Group>,
    /// Each is asked for once, until [`HotModels::warmed`] tells what came of it.
    pub wishes: Vec<Wish>,
}

impl HotModels {
    /// Takes what an instance reports of its hot models, in place of what it did before, and how many
    /// invocations it has.
    pub fn hear(&mut self, from: &Instance, hot: Vec<HotModel>, n_in_flight: usize) {
        let Instance { node, n_slots, .. } = *from;
        self.replicas.hear(Host { node, n_slots }, hot, n_in_flight);
    }

    /// Forgets what processes held that have gone.
    pub fn left(&mut self, before: &InService, after: &InService) {
        for (id, instance) in before {
            if !after.get(id).is_some_and(|it| it.is_same_process_as(instance)) {
                self.replicas.forget(instance.node);
            }
        }
    }

    /// Decides how many replicas each model shall have. Call it about once a second.
    pub fn decide(&mut self, group: &Group, now: Instant) {
        self.replicas.decide(&group.hosts(), now);
    }

    /// Returns what is to be published, and who is to be warmed.
    pub fn renewed(&mut self, group: &Group, now: Instant) -> Renewed {
        let plan = self.replicas.plan(group.ring(), &group.hosts(), now);
        let is_same = self.sets == plan.sets && group.has_hot() != plan.sets.is_empty();
        let renewed = (!is_same).then(|| group.with_hot(&plan.sets));
        self.sets = plan.sets;
        let mut wishes = Vec::new();
        for (artifact, node) in plan.warms {
            match group.instance(node) {
                Some(instance) => wishes.push(Wish { artifact, instance: Arc::clone(instance) }),
                None => self.replicas.failed(&artifact, node, now),
            }
        }
        Renewed { group: renewed, wishes }
    }

    /// Learns what came of a wish.
    pub fn warmed(&mut self, wish: &Wish, is_warm: bool, now: Instant) {
        let Wish { artifact, instance } = wish;
        if is_warm {
            self.replicas.warmed(artifact, instance.node, now);
        } else {
            self.replicas.failed(artifact, instance.node, now);
        }
    }

    /// How many replicas there are wished for, beyond the first of each model.
    pub fn n_further(&self) -> usize {
        self.replicas.n_further()
    }
}
