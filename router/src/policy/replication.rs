//! Decides how many replicas a model has, by the work that instances measured for it.
//!
//! A model has one replica until its work is more than 15 % of an instance's slots, and as many as
//! keep each at about that. More come at once, fewer slowly. What is not known here,
//! which instances they are, follows from the ring alone; so routers that see the same heartbeats
//! agree, and where they do not it costs a load.

use shared::api::membership::HotModel;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// The part of an instance's slots that one replica should take, in percent. In the simulation
/// (`tests/simulation/work.rs`, Zipf 1.1, sixteen seeds) a quarter left the busiest of 8 instances
/// at up to 1.47 × the mean, and 1.44 of 32; with 15 % it is 1.30 and 1.29, for copies of
/// 0.2 % of the models instead of 0.15 %.
const TARGET_PERCENT: u64 = 15;

/// Below this part of what one replica less could take, it is one too many: so that a model whose
/// work wavers about a threshold does not come and go. In percent.
const CALM_PERCENT: u64 = 67;

/// How long a model must be calm before it loses replicas. They cost memory that nobody may want,
/// and a load to have again.
const CALM: Duration = Duration::from_mins(10);

/// Each time that a model was calm it loses this part of its replicas, at least one.
const SHRINK_PART: usize = 4;

/// Models with replicas are at most so many for each instance: more than can be hot at once, since each
/// of those takes 15 % of an instance, however many names instances report one after the other.
const MAX_MODELS: usize = 64;

/// How many replicas each hot model has. What is not here has one.
#[derive(Debug, Default)]
pub struct Replication {
    models: BTreeMap<Arc<str>, Model>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    n_replicas: usize,
    /// Since when fewer would do.
    calm_since: Option<Instant>,
}

/// The instances of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub n_instances: usize,
    /// Compute slots of all of them.
    pub n_slots: usize,
}

/// The work for each model at all instances: thousandths of a compute slot.
pub type Heat<'a> = HashMap<&'a str, u64>;

/// Adds up what instances report. Of the fast and the slow average the larger counts: the fast one
/// tells of a rise at once, the slow one does not forget it at once.
pub fn heat<'a>(reports: impl IntoIterator<Item = &'a [HotModel]>) -> Heat<'a> {
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    for hot in reports.into_iter().flatten() {
        let (fast, slow) = sums.entry(&hot.artifact).or_default();
        *fast += u64::from(hot.fast_millicores);
        *slow += u64::from(hot.slow_millicores);
    }
    sums.into_iter().map(|(artifact, (fast, slow))| (artifact, fast.max(slow))).collect()
}

impl Capacity {
    /// Thousandths of a slot that a replica should take.
    fn target(self) -> u64 {
        let n_slots = u64::try_from(self.n_slots).unwrap_or(u64::MAX / 1000);
        let n_instances = u64::try_from(self.n_instances.max(1)).unwrap_or(u64::MAX);
        (n_slots.saturating_mul(1000 * TARGET_PERCENT / 100) / n_instances).max(1)
    }

    /// As many replicas as may come at a time: each is a load, and they compete for the store.
    fn step(self) -> usize {
        2.max(self.n_instances / 3)
    }
}

impl Replication {
    /// Decides anew. Call it about once a second.
    pub fn decide(&mut self, heat: &Heat<'_>, capacity: Capacity, now: Instant) {
        let max_models = MAX_MODELS * capacity.n_instances.max(1);
        for (artifact, work) in heat {
            if *work <= capacity.target() || self.models.contains_key(*artifact) {
                continue;
            }
            if self.models.len() >= max_models {
                self.models.retain(|known, _| heat.contains_key(&**known));
            }
            if self.models.len() < max_models {
                self.models.insert(Arc::from(*artifact), Model::SINGLE);
            }
        }
        for (artifact, model) in &mut self.models {
            let work = heat.get(&**artifact).copied().unwrap_or(0);
            *model = model.after(work, capacity, now);
        }
        self.models.retain(|_, model| *model != Model::SINGLE);
    }

    pub fn n_replicas(&self, artifact: &str) -> usize {
        self.models.get(artifact).map_or(1, |model| model.n_replicas)
    }

    /// The models that have more than one replica.
    pub fn replicated(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.models.iter().map(|(artifact, model)| (artifact, model.n_replicas))
    }
}

impl Model {
    const SINGLE: Self = Self { n_replicas: 1, calm_since: None };

    fn after(self, work: u64, capacity: Capacity, now: Instant) -> Self {
        let n_most = capacity.n_instances.max(1);
        let wanted = usize::try_from(work.div_ceil(capacity.target())).unwrap_or(usize::MAX);
        let wanted = wanted.clamp(1, n_most);
        if self.n_replicas > n_most {
            return Self { n_replicas: n_most, calm_since: None };
        }
        if wanted > self.n_replicas {
            let n_replicas = wanted.min(self.n_replicas + capacity.step());
            return Self { n_replicas, calm_since: None };
        }
        let one_less = u64::try_from(self.n_replicas - 1).unwrap_or(u64::MAX);
        let is_calm = work < one_less.saturating_mul(capacity.target()) * CALM_PERCENT / 100;
        match self.calm_since {
            _ if !is_calm => Self { calm_since: None, ..self },
            None => Self { calm_since: Some(now), ..self },
            Some(since) if now.saturating_duration_since(since) < CALM => self,
            Some(_) => {
                let fewer = self.n_replicas - (self.n_replicas / SHRINK_PART).max(1);
                Self { n_replicas: fewer.max(wanted), calm_since: None }
            }
        }
    }
}

#[cfg(test)]
mod tests;
