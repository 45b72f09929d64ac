//! Which instances of a fleet start and which drain, as a plain function.

use std::collections::BTreeSet;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) start: Vec<u32>,
    pub(super) drain: Vec<u32>,
}

/// Returns what makes `n_wanted` of those that serve. Instances are told apart by their index in the
/// fleet, and an index is not used again before its instance has ended: two workers with one name
/// would share a log, a cache and an id.
///
/// The lowest indices stay, so that a launcher that starts anew finds the caches of those that ran.
pub(super) fn change(serving: &BTreeSet<u32>, draining: &BTreeSet<u32>, n_wanted: u32) -> Change {
    let n_wanted = usize::try_from(n_wanted).unwrap_or(usize::MAX);
    let n_too_many = serving.len().saturating_sub(n_wanted);
    let n_missing = n_wanted.saturating_sub(serving.len());
    let is_free = |idx: &u32| !serving.contains(idx) && !draining.contains(idx);
    Change {
        start: (0..=u32::MAX).filter(is_free).take(n_missing).collect(),
        drain: serving.iter().rev().take(n_too_many).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(serving: &[u32], draining: &[u32], n_wanted: u32, start: &[u32], drain: &[u32]) {
        let set = |indices: &[u32]| indices.iter().copied().collect::<BTreeSet<_>>();
        let expected = Change { start: start.to_vec(), drain: drain.to_vec() };
        assert_eq!(change(&set(serving), &set(draining), n_wanted), expected);
    }

    #[test]
    fn new_instances_do_not_wait_for_those_that_drain() {
        check(&[], &[], 2, &[0, 1], &[]);
        check(&[0, 1, 2], &[], 1, &[], &[2, 1]);
        check(&[0], &[1, 2], 3, &[3, 4], &[]);
        check(&[0, 3, 4], &[], 3, &[], &[]);
        check(&[0, 3, 4], &[], 4, &[1], &[]);
        check(&[0, 3], &[], 0, &[], &[3, 0]);
    }

    proptest! {
        #[test]
        fn as_many_serve_as_are_wanted_and_no_index_is_used_twice(
            serving in proptest::collection::btree_set(0_u32..20, 0..10),
            draining in proptest::collection::btree_set(0_u32..20, 0..10),
            n_wanted in 0_u32..20,
        ) {
            let draining: BTreeSet<_> = draining.difference(&serving).copied().collect();
            let Change { start, drain } = change(&serving, &draining, n_wanted);
            prop_assert_eq!(serving.len() + start.len() - drain.len(), n_wanted as usize);
            prop_assert!(start.is_empty() || drain.is_empty());
            prop_assert!(start.iter().all(|it| !serving.contains(it) && !draining.contains(it)));
            prop_assert!(drain.iter().all(|it| serving.contains(it)));
        }
    }
}
