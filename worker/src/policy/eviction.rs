//! Chooses which replicas to evict: the least recently used idle ones, no more than needed.

use crate::runtime::Footprint;
use tokio::time::Instant;

/// A replica that might go. `K` names it.
#[derive(Clone, Debug)]
pub struct Candidate<K> {
    pub key: K,
    /// What no longer counts once it has gone.
    pub footprint: Footprint,
    pub last_used: Instant,
    /// Holds on it now: invocations, or a platform that loaded it by name. A leased replica is
    /// never evicted.
    pub n_leases: usize,
}

/// Returns the idle replicas that must go until `is_enough` says so of the footprints that stay, or
/// `None` if even without all of them it does not.
///
/// They are taken least recently used first; then those that the later ones made unnecessary stay
/// after all, the most recently used first.
pub fn victims<K>(
    mut candidates: Vec<Candidate<K>>,
    is_enough: impl Fn(&[Footprint]) -> bool,
) -> Option<Vec<K>> {
    // Whoever goes first comes last, so that going is a pop.
    candidates.sort_by_key(|it| (it.n_leases == 0, std::cmp::Reverse(it.last_used)));
    let mut staying: Vec<Footprint> = candidates.iter().map(|it| it.footprint).collect();
    let mut leaving = Vec::new();
    while !is_enough(&staying) {
        let victim = candidates.pop().filter(|it| it.n_leases == 0)?;
        staying.pop();
        leaving.push(victim);
    }
    let mut victims = Vec::new();
    for victim in leaving.into_iter().rev() {
        staying.push(victim.footprint);
        if !is_enough(&staying) {
            staying.pop();
            victims.push(victim.key);
        }
    }
    victims.reverse();
    Some(victims)
}

/// Returns the idle replica that has not been used for the longest time, if one is idle: what goes when
/// nobody knows how much must.
pub fn longest_unused<K>(candidates: Vec<Candidate<K>>) -> Option<K> {
    let idle = candidates.into_iter().filter(|it| it.n_leases == 0);
    idle.min_by_key(|it| it.last_used).map(|it| it.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::budget;
    use proptest::prelude::*;
    use std::time::Duration;

    fn resident(resident_bytes: u64) -> Footprint {
        Footprint { resident_bytes, workspace_bytes: 0 }
    }

    fn total(footprints: &[Footprint]) -> u64 {
        footprints.iter().map(|it| it.resident_bytes).sum()
    }

    /// `(key, footprint, leases)`, the longest unused first.
    fn candidates(replicas: &[(&'static str, Footprint, usize)]) -> Vec<Candidate<&'static str>> {
        let start = Instant::now();
        replicas
            .iter()
            .zip(0..)
            .map(|((key, footprint, n_leases), age)| Candidate {
                key: *key,
                footprint: *footprint,
                last_used: start + Duration::from_secs(age),
                n_leases: *n_leases,
            })
            .collect()
    }

    #[track_caller]
    fn check(replicas: &[(&'static str, u64, usize)], max_bytes: u64, expected: Option<&[&str]>) {
        let replicas: Vec<_> = replicas
            .iter()
            .map(|(key, bytes, n_leases)| (*key, resident(*bytes), *n_leases))
            .collect();
        let victims = victims(candidates(&replicas), |staying| total(staying) <= max_bytes);
        assert_eq!(victims.as_deref(), expected);
    }

    #[test]
    fn the_longest_unused_idle_replica_goes_first() {
        check(&[("old", 10, 0), ("new", 10, 0)], 15, Some(&["old"]));
    }

    #[test]
    fn where_sizes_are_unknown_the_longest_unused_idle_replica_goes() {
        let nothing = Footprint::default();
        let replicas = [("leased", nothing, 1), ("old", nothing, 0), ("new", nothing, 0)];
        assert_eq!(longest_unused(candidates(&replicas)), Some("old"));
        assert_eq!(longest_unused(candidates(&replicas[..1])), None);
    }

    #[test]
    fn a_leased_replica_is_never_evicted() {
        check(&[("leased", 10, 1), ("idle", 10, 0)], 15, Some(&["idle"]));
        check(&[("leased", 10, 1)], 5, None);
    }

    #[test]
    fn nothing_goes_when_everything_fits() {
        check(&[("idle", 10, 0)], 10, Some(&[]));
    }

    #[test]
    fn nothing_goes_when_all_would_not_be_enough() {
        check(&[("a", 10, 0), ("b", 10, 0), ("leased", 5, 1)], 4, None);
    }

    #[test]
    fn small_replicas_stay_when_a_large_one_makes_the_room_alone() {
        check(&[("small", 1, 0), ("large", 100, 0), ("new", 1, 0)], 50, Some(&["large"]));
    }

    #[test]
    fn workspace_that_leaves_with_a_replica_makes_room_too() {
        let replicas = [("hungry", Footprint { resident_bytes: 20, workspace_bytes: 100 }, 0)];
        let fits = |staying: &[Footprint]| {
            budget::used_bytes(staying.iter().copied().chain([resident(400)]), 2) <= 500
        };
        assert_eq!(victims(candidates(&replicas), fits), Some(vec!["hungry"]));
    }

    proptest! {
        #[test]
        fn victims_are_enough_and_each_is_needed(
            replicas in prop::collection::vec((1_u64..1000, 0_u64..1000, 0_usize..2), 0..20),
            max_bytes in 0_u64..10_000,
        ) {
            let start = Instant::now();
            let all: Vec<_> = replicas.iter().enumerate().map(|(key, it)| {
                let footprint = Footprint { resident_bytes: it.0, workspace_bytes: it.1 };
                Candidate { key, footprint, last_used: start, n_leases: it.2 }
            }).collect();
            let used = |gone: &[usize]| {
                let staying = all.iter().filter(|it| !gone.contains(&it.key));
                budget::used_bytes(staying.map(|it| it.footprint), 2)
            };
            let is_enough =
                |staying: &[Footprint]| budget::used_bytes(staying.iter().copied(), 2) <= max_bytes;
            let idle: Vec<usize> = all.iter().filter(|it| it.n_leases == 0).map(|it| it.key).collect();
            match victims(all.clone(), is_enough) {
                None => prop_assert!(used(&idle) > max_bytes),
                Some(gone) => {
                    prop_assert!(used(&gone) <= max_bytes);
                    for victim in &gone {
                        prop_assert!(idle.contains(victim));
                        let others: Vec<_> = gone.iter().copied().filter(|it| it != victim).collect();
                        prop_assert!(used(&others) > max_bytes, "{victim} was not needed");
                    }
                }
            }
        }
    }
}
