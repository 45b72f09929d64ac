//! Chooses which artifacts leave the disk.

/// An artifact on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Names it in the cache.
    pub digest: String,
    pub size_bytes: u64,
    /// Counts up with each use: a larger one is more recent.
    pub last_use: u64,
    /// Holds on it now. A leased artifact never goes.
    pub n_leases: usize,
}

/// Returns unleased artifacts that free `needed_bytes`, or `None` if all of them together would not.
///
/// They are taken least recently used first; then those that the later ones made unnecessary stay
/// after all, the most recently used first.
pub fn victims(mut candidates: Vec<Candidate>, needed_bytes: u64) -> Option<Vec<String>> {
    candidates.retain(|candidate| candidate.n_leases == 0);
    candidates.sort_by_key(|candidate| candidate.last_use);

    let mut freed_bytes = 0_u64;
    let mut victims = Vec::new();
    for candidate in candidates {
        if needed_bytes <= freed_bytes {
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
    Some(victims.into_iter().map(|victim| victim.digest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(artifacts: &[(&str, u64, usize)], needed_bytes: u64, expected: Option<&[&str]>) {
        let candidates =
            artifacts.iter().zip(0..).map(|((digest, size_bytes, n_leases), use_)| Candidate {
                digest: (*digest).to_owned(),
                size_bytes: *size_bytes,
                last_use: use_,
                n_leases: *n_leases,
            });
        let victims = victims(candidates.collect(), needed_bytes);
        let expected = expected.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(victims, expected);
    }

    #[test]
    fn least_recently_used_artifact_goes_first() {
        check(&[("old", 10, 0), ("new", 10, 0)], 5, Some(&["old"]));
        check(&[("old", 10, 0), ("new", 10, 0)], 11, Some(&["old", "new"]));
    }

    #[test]
    fn small_artifacts_stay_when_a_large_one_makes_the_room_alone() {
        check(&[("small", 1, 0), ("large", 100, 0), ("new", 1, 0)], 50, Some(&["large"]));
    }

    #[test]
    fn leased_artifact_never_goes() {
        check(&[("leased", 10, 1), ("idle", 10, 0)], 5, Some(&["idle"]));
        check(&[("leased", 10, 1), ("idle", 10, 0)], 11, None);
    }

    #[test]
    fn nothing_goes_when_nothing_is_needed_or_nothing_would_help() {
        check(&[("idle", 10, 0)], 0, Some(&[]));
        check(&[("idle", 10, 0)], 11, None);
        check(&[], 1, None);
    }

    proptest! {
        #[test]
        fn victims_are_enough_and_each_is_needed(
            sizes in proptest::collection::vec((1_u64..100, 0_usize..2), 0..20),
            needed_bytes in 0_u64..500,
        ) {
            let candidates: Vec<_> = sizes.iter().enumerate().map(|(nth, (size_bytes, n_leases))| {
                Candidate {
                    digest: nth.to_string(),
                    size_bytes: *size_bytes,
                    last_use: nth as u64,
                    n_leases: *n_leases,
                }
            }).collect();
            let size = |digest: &String| sizes[digest.parse::<usize>().unwrap()].0;
            let freeable: u64 = sizes.iter().filter(|it| it.1 == 0).map(|it| it.0).sum();
            match victims(candidates, needed_bytes) {
                None => prop_assert!(freeable < needed_bytes),
                Some(victims) => {
                    let freed: u64 = victims.iter().map(size).sum();
                    prop_assert!(freed >= needed_bytes);
                    for victim in &victims {
                        prop_assert!(freed - size(victim) < needed_bytes, "{} stays", victim);
                    }
                }
            }
        }
    }
}
