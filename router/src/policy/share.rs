//! What a joining instance is told to load: of what the others hold, what will be its own.

use shared::api::residents::{MAX_SHARE, Resident};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

/// What instances hold together, each model once.
#[derive(Debug, Default)]
pub struct Held(HashMap<String, Resident>);

impl Held {
    /// Adds what one instance holds. Heat adds up, as it does in placement; of the rest the freshest
    /// use and the largest size count.
    pub fn add(&mut self, list: Vec<Resident>) {
        for model in list.into_iter().filter(|it| !it.is_bound) {
            let Some(held) = self.0.get_mut(&model.artifact) else {
                self.0.insert(model.artifact.clone(), model);
                continue;
            };
            held.fast_millicores = held.fast_millicores.saturating_add(model.fast_millicores);
            held.slow_millicores = held.slow_millicores.saturating_add(model.slow_millicores);
            held.resident_bytes = held.resident_bytes.max(model.resident_bytes);
            held.idle_ms = held.idle_ms.min(model.idle_ms);
            held.serves_stale |= model.serves_stale;
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys of placement.
    pub fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Returns the models of these keys: the hottest first, then what was used last. What does not come
    /// in is loaded when it is invoked.
    pub fn share(self, own: &[String]) -> Vec<Resident> {
        let own: HashSet<&String> = own.iter().collect();
        let mut models: Vec<_> =
            self.0.into_values().filter(|it| own.contains(&it.artifact)).collect();
        models.sort_by_key(|it| (Reverse(it.fast_millicores.max(it.slow_millicores)), it.idle_ms));
        models.truncate(MAX_SHARE);
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(artifact: &str, millicores: u32, idle_ms: u64) -> Resident {
        Resident {
            artifact: artifact.to_owned(),
            resident_bytes: 10,
            fast_millicores: millicores,
            slow_millicores: 0,
            idle_ms,
            serves_stale: false,
            is_bound: false,
        }
    }

    fn names(models: Vec<Resident>) -> Vec<String> {
        models.into_iter().map(|it| it.artifact).collect()
    }

    #[test]
    fn a_share_is_what_is_its_own_hottest_first() {
        let mut held = Held::default();
        held.add(vec![model("a", 100, 5), model("cold", 0, 9), model("b", 60, 0)]);
        held.add(vec![model("other", 900, 0), model("b", 60, 3), model("warm", 0, 1)]);
        assert_eq!(held.len(), 5);
        let own = ["a", "b", "cold", "warm", "unheard of"].map(str::to_owned);
        assert_eq!(names(held.share(&own)), ["b", "a", "warm", "cold"]);
    }

    #[test]
    fn what_is_bound_to_its_instance_is_nobody_elses_share() {
        let mut held = Held::default();
        held.add(vec![Resident { is_bound: true, ..model("a", 100, 0) }]);
        assert!(held.is_empty());
    }

    #[test]
    fn a_share_has_a_bound() {
        let mut held = Held::default();
        held.add((0..2 * MAX_SHARE).map(|idx| model(&idx.to_string(), 0, idx as u64)).collect());
        let keys = held.keys();
        let share = held.share(&keys);
        assert_eq!((share.len(), share[0].idle_ms), (MAX_SHARE, 0));
    }
}
