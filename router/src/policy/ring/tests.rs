use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const GIB: u64 = 1 << 30;

fn instance(name: &str) -> InstanceId {
    name.parse().unwrap()
}

fn ring_of<'a>(names: impl IntoIterator<Item = &'a str>) -> PlacementRing {
    let budgets = names.into_iter().map(|name| (instance(name), GIB)).collect();
    PlacementRing::empty().changed_to(&shares(&budgets))
}

fn model(n: usize) -> String {
    format!("s3://manifold-demo/models/resnet_{n}.tar.gz")
}

fn first(ring: &PlacementRing, key: &str) -> InstanceId {
    ring.preference(key).next().unwrap().clone()
}

/// Different names, as launchers give them: short, with a common prefix.
fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("worker-{n}")).collect()
}

#[track_caller]
fn check_shares(budgets: &[u64], expected: &[usize]) {
    let names = names(budgets.len());
    let budgets = names.iter().map(|it| instance(it)).zip(budgets.iter().copied());
    let shares = shares(&budgets.collect());
    assert_eq!(shares.into_values().collect::<Vec<_>>(), expected);
}

#[test]
fn equal_budgets_have_equal_shares() {
    check_shares(&[GIB, GIB, GIB], &[512, 512, 512]);
    check_shares(&[0, 0], &[512, 512]);
    check_shares(&[7], &[512]);
    check_shares(&[u64::MAX, u64::MAX], &[512, 512]);
}

#[test]
fn shares_follow_the_budget_in_steps() {
    check_shares(&[GIB, 3 * GIB], &[256, 768]);
    check_shares(&[GIB, GIB + GIB / 10], &[512, 512]);
}

#[test]
fn no_instance_takes_everything_or_nothing() {
    check_shares(&[1, 1, 1, 1, 1, 1, 1, 1, 1000], &[128, 128, 128, 128, 128, 128, 128, 128, 2048]);
    check_shares(&[0, GIB], &[128, 1024]);
}

#[test]
fn the_order_is_the_same_in_every_release() {
    let ring = ring_of(["a", "b", "c"]);
    let order: Vec<String> = (0..6)
        .map(|n| ring.preference(&model(n)).map(InstanceId::as_str).collect::<String>())
        .collect();
    assert_eq!(order, ["abc", "abc", "cba", "cab", "abc", "bca"]);
}

#[test]
fn models_spread_evenly() {
    for n_instances in [2, 3, 5, 16] {
        let names = names(n_instances);
        let ring = ring_of(names.iter().map(String::as_str));
        let mut n_models: BTreeMap<InstanceId, u32> = BTreeMap::new();
        for n in 0..20_000 {
            *n_models.entry(first(&ring, &model(n))).or_default() += 1;
        }
        let mean = 20_000.0 / f64::from(u32::try_from(n_instances).unwrap());
        for (instance, n_models) in n_models {
            let ratio = f64::from(n_models) / mean;
            assert!((0.85..1.15).contains(&ratio), "{instance} of {n_instances}: {ratio}");
        }
    }
}

#[test]
fn an_instance_with_more_memory_gets_more_models() {
    let budgets = BTreeMap::from([(instance("small"), GIB), (instance("large"), 3 * GIB)]);
    let ring = PlacementRing::empty().changed_to(&shares(&budgets));
    let n_large = (0..10_000).filter(|n| first(&ring, &model(*n)).as_str() == "large").count();
    assert!((7_000..8_000).contains(&n_large), "{n_large}");
}

#[test]
fn losing_an_instance_moves_only_its_own_models() {
    let names = names(8);
    let all = ring_of(names.iter().map(String::as_str));
    let lost = instance("worker-3");
    let mut rest = all.shares().clone();
    rest.remove(&lost);
    let rest = all.changed_to(&rest);

    let mut heirs = BTreeSet::new();
    for n in 0..5_000 {
        let (before, after) = (first(&all, &model(n)), first(&rest, &model(n)));
        if before == lost {
            heirs.insert(after);
        } else {
            assert_eq!(before, after, "{}", model(n));
        }
    }
    assert_eq!(heirs.len(), 7, "the lost instance's models spread over all others");
}

#[test]
fn a_joining_instance_takes_its_share_and_nothing_else_moves() {
    for n_instances in [2, 4, 8, 16] {
        let names = names(n_instances + 1);
        let before = ring_of(names[..n_instances].iter().map(String::as_str));
        let after = ring_of(names.iter().map(String::as_str));
        let newcomer = instance(&names[n_instances]);

        let mut n_moved = 0;
        for n in 0..10_000 {
            let (was, is) = (first(&before, &model(n)), first(&after, &model(n)));
            if was != is {
                assert_eq!(is, newcomer);
                n_moved += 1;
            }
        }
        let fair = 10_000 / (n_instances + 1);
        assert!((fair * 8 / 10..fair * 12 / 10).contains(&n_moved), "{n_moved} of {fair}");
    }
}

#[test]
fn an_empty_ring_prefers_nobody() {
    assert_eq!(PlacementRing::empty().preference("x").count(), 0);
    assert_eq!(ring_of(["a"]).changed_to(&Shares::new()).preference("x").count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever joins and leaves in whatever order, only who is there in the end counts.
    #[test]
    fn the_order_does_not_depend_on_history(
        steps in proptest::collection::vec((0_usize..6, 0_u64..5), 1..12),
        keys in proptest::collection::vec("\\PC{1,40}", 1..8),
    ) {
        let mut budgets = BTreeMap::new();
        let mut grown = PlacementRing::empty();
        for (n, budget) in steps {
            let id = instance(&format!("w-{n}"));
            if budget == 0 {
                budgets.remove(&id);
            } else {
                budgets.insert(id, budget * GIB);
            }
            grown = grown.changed_to(&shares(&budgets));
        }
        let fresh = PlacementRing::empty().changed_to(&shares(&budgets));
        for key in keys {
            let order: Vec<_> = grown.preference(&key).collect();
            prop_assert_eq!(&order, &fresh.preference(&key).collect::<Vec<_>>());
            let distinct: BTreeSet<_> = order.iter().copied().collect();
            prop_assert!(distinct.into_iter().eq(budgets.keys()), "each instance exactly once");
        }
    }
}
