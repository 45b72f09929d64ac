//! What came of many invocations, counted.

use crate::client::Answer;
use std::{cmp::Reverse, collections::BTreeMap};

#[derive(Debug, Default)]
pub(super) struct Tally {
    by_class: BTreeMap<String, usize>,
    by_instance: BTreeMap<String, usize>,
    /// Where each model was served last.
    homes: BTreeMap<String, String>,
    pub(super) n_hits: usize,
    pub(super) n_misses: usize,
}

impl Tally {
    pub(super) fn add(&mut self, model: &str, answer: &Answer, top_class: &str) {
        *self.by_class.entry(top_class.to_owned()).or_default() += 1;
        *self.by_instance.entry(answer.instance().to_owned()).or_default() += 1;
        self.homes.insert(model.to_owned(), answer.instance().to_owned());
        if answer.is_hit() {
            self.n_hits += 1;
        } else {
            self.n_misses += 1;
        }
    }

    pub(super) fn classes(&self) -> Vec<(&str, usize)> {
        most_first(&self.by_class)
    }

    pub(super) fn instances(&self) -> Vec<(&str, usize)> {
        most_first(&self.by_instance)
    }

    /// Returns the models of each instance.
    pub(super) fn models_by_home(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (model, instance) in &self.homes {
            models.entry(instance).or_default().push(model);
        }
        models
    }
}

fn most_first(counts: &BTreeMap<String, usize>) -> Vec<(&str, usize)> {
    let mut counts: Vec<_> = counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    counts.sort_by_key(|(name, n)| (Reverse(*n), *name));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};
    use shared::api::invocation::{CACHE, INSTANCE};
    use std::time::Duration;

    fn answer(instance: &'static str, cache: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(INSTANCE, HeaderValue::from_static(instance));
        headers.insert(CACHE, HeaderValue::from_static(cache));
        Answer { status: 200, headers, body: bytes::Bytes::new(), elapsed: Duration::ZERO }
    }

    #[test]
    fn invocations_are_counted_by_class_instance_and_cache() {
        let mut tally = Tally::default();
        tally.add("a", &answer("worker-0", "miss"), "cat");
        tally.add("b", &answer("worker-1", "miss"), "dog");
        tally.add("a", &answer("worker-0", "hit"), "cat");
        assert_eq!(tally.classes(), [("cat", 2), ("dog", 1)]);
        assert_eq!(tally.instances(), [("worker-0", 2), ("worker-1", 1)]);
        assert_eq!((tally.n_hits, tally.n_misses), (1, 2));
        assert_eq!(tally.models_by_home()["worker-1"], ["b"]);
    }
}
