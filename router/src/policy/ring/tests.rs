use super::*;
use proptest::prelude::*;
use shared::id::InstanceId;
use std::collections::{BTreeMap, BTreeSet};

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

fn first(ring: &PlacementRing, name: &str) -> Node {
    ring.first(Key::of(name)).unwrap()
}

fn order(ring: &PlacementRing, name: &str) -> Vec<Node> {
    ring.preference(Key::of(name)).collect()
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
    check_shares(&[GIB, GIB, GIB], &[1024, 1024, 1024]);
    check_shares(&[0, 0], &[1024, 1024]);
    check_shares(&[7], &[1024]);
    check_shares(&[u64::MAX, u64::MAX], &[1024, 1024]);
}

#[test]
fn budgets_that_hardly_differ_have_equal_shares() {
    check_shares(&[1000, 995, 1004, 998], &[1024; 4]);
}

#[test]
fn shares_follow_the_budget() {
    check_shares(&[GIB, 3 * GIB], &[512, 1536]);
    check_shares(&[16, 17], &[992, 1056]);
}

#[test]
fn no_instance_takes_everything_or_nothing() {
    check_shares(&[1, 1, 1, 1, 1, 1, 1, 1, 1000], &[256, 256, 256, 256, 256, 256, 256, 256, 4096]);
    check_shares(&[0, GIB], &[256, 2048]);
}

#[test]
fn the_shares_of_a_shard_add_up_to_the_instances() {
    for share in [256, 1024, 1056, 1088, 4096] {
        for name in names(20) {
            let node = Node::of(&instance(&name));
            let parts: Vec<usize> = (0..N_SHARDS).map(|it| node.share_in(it, share)).collect();
            assert_eq!(parts.iter().sum::<usize>(), share);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
    }
}

/// Half of the instances have twice the memory: the average moves with each that leaves.
#[test]
fn who_leaves_changes_few_shares_of_the_others_and_those_by_little() {
    let names = names(40);
    let mut budgets: BTreeMap<InstanceId, u64> =
        (0..40).map(|n| (instance(&names[n]), if n % 2 == 0 { GIB } else { 2 * GIB })).collect();
    let mut n_changed = 0;
    for name in &names[..10] {
        let before = shares(&budgets);
        budgets.remove(&instance(name));
        let after = shares(&budgets);
        for (id, share) in &after {
            n_changed += usize::from(before[id] != *share);
            assert!(before[id].abs_diff(*share) <= 64, "{id}: {} to {share}", before[id]);
        }
    }
    // A hundredth of the average each time: a third of a step for each of thirty.
    assert!(n_changed < 200, "{n_changed}");
}

#[test]
fn the_order_is_the_same_in_every_release() {
    let ring = ring_of(["a", "b", "c"]);
    let name = |node: Node| {
        let mut names = ring.shares().keys().map(InstanceId::as_str);
        names.find(|name| Node::of(&instance(name)) == node).unwrap().to_owned()
    };
    let orders: Vec<String> =
        (0..6).map(|n| order(&ring, &model(n)).into_iter().map(name).collect::<String>()).collect();
    assert_eq!(orders, ["cba", "abc", "cba", "bca", "bac", "cba"]);
}

#[test]
fn models_spread_evenly() {
    for n_instances in [2, 3, 5, 16] {
        let names = names(n_instances);
        let ring = ring_of(names.iter().map(String::as_str));
        let mut n_models: BTreeMap<Node, u32> = BTreeMap::new();
        for n in 0..20_000 {
            *n_models.entry(first(&ring, &model(n))).or_default() += 1;
        }
        let mean = 20_000.0 / f64::from(u32::try_from(n_instances).unwrap());
        for (instance, n_models) in n_models {
            let ratio = f64::from(n_models) / mean;
            assert!((0.85..1.15).contains(&ratio), "{instance:?} of {n_instances}: {ratio}");
        }
    }
}

#[test]
fn an_instance_with_more_memory_gets_more_models() {
    let budgets = BTreeMap::from([(instance("small"), GIB), (instance("large"), 3 * GIB)]);
    let ring = PlacementRing::empty().changed_to(&shares(&budgets));
    let large = Node::of(&instance("large"));
    let n_large = (0..10_000).filter(|n| first(&ring, &model(*n)) == large).count();
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
        if before == Node::of(&lost) {
            assert_eq!(after, order(&all, &model(n))[1], "{}", model(n));
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
        let newcomer = Node::of(&instance(&names[n_instances]));

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
    let nobody = PlacementRing::empty();
    let nobody_any_more = ring_of(["a"]).changed_to(&Shares::new());
    for ring in [nobody, nobody_any_more] {
        assert_eq!(ring.first(Key::of("x")), None);
        assert_eq!(order(&ring, "x"), []);
    }
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
            let found = order(&grown, &key);
            prop_assert_eq!(&found, &order(&fresh, &key));
            prop_assert_eq!(found.first().copied(), grown.first(Key::of(&key)));
            let distinct: BTreeSet<_> = found.into_iter().collect();
            let there: BTreeSet<_> = budgets.keys().map(Node::of).collect();
            prop_assert_eq!(distinct, there, "each instance exactly once");
        }
    }

    /// What a leaver held is where it was placed beforehand: no order but the leaver's own place
    /// in it changes.
    #[test]
    fn the_order_without_an_instance_is_the_order_less_it(
        n_instances in 2_usize..12,
        leaver in 0_usize..12,
        keys in proptest::collection::vec("\\PC{1,40}", 1..8),
    ) {
        let names = names(n_instances);
        let ring = ring_of(names.iter().map(String::as_str));
        let leaver = instance(&names[leaver % n_instances]);
        let mut rest = ring.shares().clone();
        rest.remove(&leaver);
        let without = ring.changed_to(&rest);
        for key in keys {
            let mut expected = order(&ring, &key);
            expected.retain(|node| *node != Node::of(&leaver));
            prop_assert_eq!(order(&without, &key), expected);
        }
    }
}
