//! Chooses which replicas to evict: the least recently used idle ones, no more than needed.

use tokio::time::Instant;

/// A replica that might go. `K` names it.
#[derive(Clone, Debug)]
pub struct Candidate<K> {
    pub key: K,
    /// What its eviction frees.
    pub size_bytes: u64,
    pub last_used: Instant,
    /// Holds on it now: invocations, or a platform that loaded it by name. A leased replica is
    /// never evicted.
    pub n_leases: usize,
}

/// Returns idle replicas that free `needed_bytes`, or `None` if even all of them would not.
///
/// They are taken least recently used first; then those that the later ones made unnecessary stay
/// after all, the most recently used first.
pub fn victims<K>(mut candidates: Vec<Candidate<K>>, needed_bytes: u64) -> Option<Vec<K>> {
    candidates.retain(|candidate| candidate.n_leases == 0);
    candidates.sort_by_key(|candidate| candidate.last_used);

    let mut freed_bytes = 0_u64;
    let mut victims = Vec::new();
    for candidate in candidates {
        if freed_bytes >= needed_bytes {
            break;
        }
        freed_bytes = freed_bytes.saturating_add(candidate.size_bytes);
        victims.push(candidate);
    }
    let mut surplus_bytes = freed_bytes.checked_sub(needed_bytes)?;
    victims.reverse();
    victims.retain(|victim| {
        let stays = victim.size_bytes <= surplus_bytes;
        surplus_bytes -= if stays { victim.size_bytes } else { 0 };
        !stays
    });
    victims.reverse();
    Some(victims.into_iter().map(|victim| victim.key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// `(key, size, leases)`, the longest unused first.
    fn candidates(replicas: &[(&'static str, u64, usize)]) -> Vec<Candidate<&'static str>> {
        let start = Instant::now();
        let candidate = |((key, size_bytes, n_leases), age): (&(&'static str, u64, usize), u64)| {
            let last_used = start + Duration::from_secs(age);
            Candidate { key: *key, size_bytes: *size_bytes, last_used, n_leases: *n_leases }
        };
        replicas.iter().zip(0..).map(candidate).collect()
    }

    #[track_caller]
    fn check(
        replicas: &[(&'static str, u64, usize)],
        needed_bytes: u64,
        expected: Option<&[&str]>,
    ) {
        let victims = victims(candidates(replicas), needed_bytes);
        assert_eq!(victims.as_deref(), expected);
    }

    #[test]
    fn the_longest_unused_idle_replica_goes_first() {
        check(&[("old", 10, 0), ("new", 10, 0)], 5, Some(&["old"]));
    }

    #[test]
    fn a_leased_replica_is_never_evicted() {
        check(&[("leased", 10, 1), ("idle", 10, 0)], 5, Some(&["idle"]));
        check(&[("leased", 10, 1)], 5, None);
    }

    #[test]
    fn nothing_goes_when_nothing_is_needed() {
        check(&[("idle", 10, 0)], 0, Some(&[]));
    }

    #[test]
    fn nothing_goes_when_all_would_not_be_enough() {
        check(&[("a", 10, 0), ("b", 10, 0)], 21, None);
    }

    #[test]
    fn small_replicas_stay_when_a_large_one_makes_the_room_alone() {
        check(&[("small", 1, 0), ("large", 100, 0), ("new", 1, 0)], 50, Some(&["large"]));
    }

    proptest! {
        #[test]
        fn victims_are_enough_and_each_is_needed(
            sizes in prop::collection::vec((1_u64..1000, 0_usize..2), 0..20),
            needed in 0_u64..5000,
        ) {
            let start = Instant::now();
            let all: Vec<_> = sizes.iter().enumerate().map(|(key, (size_bytes, n_leases))| {
                Candidate { key, size_bytes: *size_bytes, last_used: start, n_leases: *n_leases }
            }).collect();
            let idle: u64 = sizes.iter().filter(|it| it.1 == 0).map(|it| it.0).sum();
            match victims(all, needed) {
                None => prop_assert!(idle < needed),
                Some(keys) => {
                    let freed: u64 = keys.iter().map(|key| sizes[*key].0).sum();
                    prop_assert!(freed >= needed);
                    for key in &keys {
                        prop_assert_eq!(sizes[*key].1, 0);
                        prop_assert!(freed - sizes[*key].0 < needed, "{} was not needed", key);
                    }
                }
            }
        }
    }
}
