//! What a joining instance is told to load: of what the others hold, what will be its own.

use shared::api::residents::{MAX_SHARE, Resident};
use std::{cmp::Reverse, collections::HashMap};

/// What instances hold together of the models that will be an instance's own, each once.
#[derive(Debug, Default)]
pub struct Held(HashMap<String, Resident>);

impl Held {
    /// Adds what one instance holds. Heat adds up, as it does in placement; of the rest the freshest
    /// use and the largest size count.
    pub fn add(&mut self, list: Vec<Resident>, is_own: impl Fn(&str) -> bool) {
        for model in list.into_iter().filter(|it| !it.is_bound && is_own(&it.artifact)) {
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

    /// Returns them: the hottest first, then what was used last. What does not come in is loaded
    /// when it is invoked.
    pub fn share(self) -> Vec<Resident> {
        let mut models: Vec<_> = self.0.into_values().collect();
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
        let is_own = |artifact: &str| artifact != "other";
        held.add(vec![model("a", 100, 5), model("cold", 0, 9), model("b", 60, 0)], is_own);
        held.add(vec![model("other", 900, 0), model("b", 60, 3), model("warm", 0, 1)], is_own);
        assert_eq!(names(held.share()), ["b", "a", "warm", "cold"]);
    }

    #[test]
    fn what_is_bound_to_its_instance_is_nobody_elses_share() {
        let mut held = Held::default();
        held.add(vec![Resident { is_bound: true, ..model("a", 100, 0) }], |_| true);
        assert!(held.share().is_empty());
    }

    #[test]
    fn a_share_has_a_bound() {
        let mut held = Held::default();
        let many = (0..2 * MAX_SHARE).map(|idx| model(&idx.to_string(), 0, idx as u64));
        held.add(many.collect(), |_| true);
        let share = held.share();
        assert_eq!((share.len(), share[0].idle_ms), (MAX_SHARE, 0));
    }
}
