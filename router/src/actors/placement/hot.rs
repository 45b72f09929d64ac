//! What the actor knows of hot models, group by group, and the tasks that warm them.

use super::{GroupName, PlacementActor, Warmed};
use crate::{
    group::{Group, InService},
    instance::Instance,
    instance_client::Options,
    policy::replicas::{Homes, Host, Replicas},
};
use actix::prelude::*;
use shared::{api::membership::HotModel, telemetry::Chain};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// The hot models of every group.
#[derive(Debug, Default)]
pub(super) struct HotModels {
    groups: BTreeMap<GroupName, Known>,
}

#[derive(Debug, Default)]
struct Known {
    replicas: Replicas,
    /// What was published last.
    sets: Vec<(Arc<str>, Homes)>,
}

/// What an instance says of its hot models.
#[derive(Debug)]
pub(super) struct HeatReport {
    pub(super) instance: Arc<Instance>,
    pub(super) hot: Vec<HotModel>,
    pub(super) n_in_flight: usize,
}

/// A replica that shall be warmed.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) group: GroupName,
    pub(super) artifact: Arc<str>,
    pub(super) instance: Arc<Instance>,
}

impl HotModels {
    pub(super) fn hear(&mut self, group: GroupName, report: HeatReport) {
        let HeatReport { instance, hot, n_in_flight } = report;
        let host = Host { node: instance.node, n_slots: instance.n_slots };
        match self.groups.entry(group) {
            // As long as nothing is hot there is nothing to keep.
            Entry::Vacant(_) if hot.is_empty() => {}
            entry => entry.or_default().replicas.hear(host, hot, n_in_flight),
        }
    }

    /// Forgets what processes held that have gone.
    pub(super) fn left(&mut self, group: &GroupName, before: &InService, after: &InService) {
        let Some(known) = self.groups.get_mut(group) else { return };
        for (id, instance) in before {
            if !after.get(id).is_some_and(|it| it.is_same_process_as(instance)) {
                known.replicas.forget(instance.node);
            }
        }
    }

    /// Forgets groups that have gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&GroupName) -> bool) {
        self.groups.retain(|group, _| is_there(group));
    }

    pub(super) fn decide(&mut self, name: &GroupName, group: &Group, now: Instant) {
        if let Some(known) = self.groups.get_mut(name) {
            known.replicas.decide(&group.hosts(), now);
        }
    }

    /// Returns the group with the replicas as they are to be, if anything is to change, and who
    /// shall be warmed.
    pub(super) fn renewed(
        &mut self,
        name: &GroupName,
        group: &Group,
        now: Instant,
    ) -> (Option<Group>, Vec<Wish>) {
        let Some(known) = self.groups.get_mut(name) else { return (None, Vec::new()) };
        let plan = known.replicas.plan(group.ring(), &group.hosts(), now);
        let is_same = known.sets == plan.sets && group.has_hot() != plan.sets.is_empty();
        let renewed = (!is_same).then(|| group.with_hot(&plan.sets));
        known.sets = plan.sets;
        let mut wishes = Vec::new();
        for (artifact, node) in plan.warms {
            match group.instance(node) {
                Some(instance) => wishes.push(Wish {
                    group: name.clone(),
                    artifact,
                    instance: Arc::clone(instance),
                }),
                None => known.replicas.failed(&artifact, node, now),
            }
        }
        (renewed, wishes)
    }

    pub(super) fn warmed(&mut self, wish: &Wish, is_warm: bool, now: Instant) {
        let Some(known) = self.groups.get_mut(&wish.group) else { return };
        let node = wish.instance.node;
        if is_warm {
            known.replicas.warmed(&wish.artifact, node, now);
        } else {
            known.replicas.failed(&wish.artifact, node, now);
        }
    }

    /// Replicas beyond the first of each model.
    pub(super) fn n_further(&self) -> usize {
        self.groups.values().map(|known| known.replicas.n_further()).sum()
    }
}

impl PlacementActor {
    /// Warms a replica in a task that reports back once.
    pub(super) fn warm(&self, wish: Wish, myself: Addr<Self>) {
        self.metrics.warms_begun.inc();
        let (warmer, asked) = (self.warmer.clone(), wish.clone());
        let warming = actix::spawn(async move {
            warmer.warm(&asked.instance, &asked.artifact, Options::default()).await
        });
        actix::spawn(async move {
            let Wish { artifact, instance, .. } = &wish;
            let is_warm = match warming.await {
                Ok(Ok(())) => {
                    info!(%artifact, instance = %instance.id, "replica is warm");
                    true
                }
                Ok(Err(error)) => {
                    let error = Chain(&error);
                    warn!(%artifact, instance = %instance.id, %error, "replica not warmed");
                    false
                }
                // A panic must come back too, or it would be waited for for ever.
                Err(_) => false,
            };
            myself.do_send(Warmed { wish, is_warm });
        });
    }
}
