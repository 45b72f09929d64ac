//! Which routers a source has named, and how long one counts that it names no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Twice a lease. A source that was away for a moment (an etcd that was stopped and went on has let all
/// leases end) names everybody again within one; a router that hears nothing for one drops us.
pub const GRACE: Duration = Duration::from_secs(6);

/// The routers of one source.
#[derive(Clone, Debug, Default)]
pub struct Routers {
    /// With when the source ceased to name it.
    known: BTreeMap<String, Option<Instant>>,
}

impl Routers {
    /// The source names exactly these now. One that names nobody is not believed: there is nobody else
    /// to report to, and a router that is gone costs a request a second.
    pub fn named(&mut self, urls: BTreeSet<String>, now: Instant) {
        if urls.is_empty() {
            return self.unknown();
        }
        for (url, vanished_at) in &mut self.known {
            if !urls.contains(url) {
                vanished_at.get_or_insert(now);
            }
        }
        self.known.extend(urls.into_iter().map(|url| (url, None)));
    }

    /// The source cannot be asked: what it ceased to name before may have been its mistake.
    pub fn unknown(&mut self) {
        for vanished_at in self.known.values_mut() {
            *vanished_at = None;
        }
    }

    /// Returns who counts now, and forgets who no longer does.
    pub fn current(&mut self, now: Instant) -> BTreeSet<String> {
        self.known.retain(|_, vanished_at| vanished_at.is_none_or(|at| now - at < GRACE));
        self.known.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(urls: &[&str]) -> BTreeSet<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn a_router_that_is_named_no_more_counts_for_a_grace() {
        let (mut routers, start) = (Routers::default(), Instant::now());
        routers.named(set(&["a", "b"]), start);
        routers.named(set(&["a"]), start);
        assert_eq!(routers.current(start), set(&["a", "b"]));
        assert_eq!(routers.current(start + GRACE), set(&["a"]));
    }

    #[test]
    fn one_that_is_named_again_stays() {
        let (mut routers, start) = (Routers::default(), Instant::now());
        routers.named(set(&["a", "b"]), start);
        routers.named(set(&["b"]), start);
        routers.named(set(&["a", "b"]), start + GRACE / 2);
        assert_eq!(routers.current(start + GRACE * 2), set(&["a", "b"]));
    }

    #[test]
    fn a_source_that_names_nobody_any_more_leaves_those_whom_it_named_last() {
        let (mut routers, start) = (Routers::default(), Instant::now());
        routers.named(set(&["gone", "a", "b"]), start);
        routers.named(set(&["a", "b"]), start);
        assert_eq!(routers.current(start + GRACE), set(&["a", "b"]));
        routers.named(set(&[]), start + GRACE);
        assert_eq!(routers.current(start + GRACE * 100), set(&["a", "b"]));
        // One is back first: the other has its grace.
        routers.named(set(&["b"]), start + GRACE * 100);
        assert_eq!(routers.current(start + GRACE * 100), set(&["a", "b"]));
        assert_eq!(routers.current(start + GRACE * 101), set(&["b"]));
    }

    #[test]
    fn none_is_dropped_while_the_source_cannot_be_asked() {
        let (mut routers, start) = (Routers::default(), Instant::now());
        routers.named(set(&["a", "b"]), start);
        routers.named(set(&["b"]), start);
        routers.unknown();
        assert_eq!(routers.current(start + GRACE * 100), set(&["a", "b"]));
    }
}
