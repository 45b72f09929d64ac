use super::*;
use proptest::prelude::*;

/// Eight instances of two slots: a replica should take 300 thousandths of a slot.
const CAPACITY: Capacity = Capacity { n_instances: 8, n_slots: 16 };

fn hot(artifact: &str, fast: u32, slow: u32) -> HotModel {
    HotModel { artifact: artifact.to_owned(), fast_millicores: fast, slow_millicores: slow }
}

/// Decides once a second for a model with this work, and returns its replicas after each.
fn decided(replication: &mut Replication, start: Instant, works: &[u64]) -> Vec<usize> {
    let decide = |(second, work): (u64, &u64)| {
        let now = start + Duration::from_secs(second);
        replication.decide(&Heat::from([("m", *work)]), CAPACITY, now);
        replication.n_replicas("m")
    };
    (0..).zip(works).map(decide).collect()
}

#[track_caller]
fn check(work: u64, expected: usize) {
    let mut replication = Replication::default();
    let last = *decided(&mut replication, Instant::now(), &[work; 8]).last().unwrap();
    assert_eq!(last, expected, "replicas for {work}");
}

#[test]
fn a_model_has_as_many_replicas_as_keep_each_at_its_part_of_an_instance() {
    for (work, expected) in [(0, 1), (299, 1), (300, 1), (301, 2), (600, 2), (601, 3)] {
        check(work, expected);
    }
    check(16_000, 8);
    check(u64::MAX, 8);
}

#[test]
fn replicas_come_a_few_at_a_time() {
    let replicas = decided(&mut Replication::default(), Instant::now(), &[16_000; 5]);
    assert_eq!(replicas, [3, 5, 7, 8, 8]);
    let many = Capacity { n_instances: 90, n_slots: 180 };
    let mut replication = Replication::default();
    replication.decide(&Heat::from([("m", 1_000_000)]), many, Instant::now());
    assert_eq!(replication.n_replicas("m"), 31);
}

#[test]
fn new_hot_names_without_end_are_kept_for_no_longer_than_they_are_reported() {
    let mut replication = Replication::default();
    let start = Instant::now();
    for second in 0..100 {
        let names: Vec<String> = (0..100).map(|n| format!("{second}-{n}")).collect();
        let heat = names.iter().map(|name| (name.as_str(), 1000)).collect();
        replication.decide(&heat, CAPACITY, start + Duration::from_secs(second));
        assert!(replication.replicated().count() <= MAX_MODELS * CAPACITY.n_instances);
        // Who is hot now has replicas all the same.
        assert!(names.iter().all(|name| replication.n_replicas(name) > 1), "{second}");
    }
}

#[test]
fn the_work_of_all_instances_counts_and_of_its_averages_the_larger() {
    let reports = [vec![hot("m", 300, 0), hot("n", 10, 20)], vec![hot("m", 300, 550)]];
    let heat = heat(reports.iter().map(Vec::as_slice));
    assert_eq!(heat, Heat::from([("m", 600), ("n", 20)]));
}

#[test]
fn work_that_wavers_about_a_threshold_changes_nothing() {
    let works: Vec<u64> = (0..2000).map(|n| if n % 2 == 0 { 601 } else { 450 }).collect();
    let replicas = decided(&mut Replication::default(), Instant::now(), &works);
    assert_eq!(replicas.iter().min(), replicas.iter().max());
}

#[test]
fn replicas_go_after_ten_calm_minutes_and_not_all_at_once() {
    let (mut replication, start) = (Replication::default(), Instant::now());
    decided(&mut replication, start, &[16_000; 10]);
    let start = start + Duration::from_secs(10);
    let replicas = decided(&mut replication, start, &vec![100; 4 * 600]);
    assert_eq!([replicas[0], replicas[599], replicas[602]], [8, 8, 6]);
    assert_eq!(*replicas.last().unwrap(), 4);
    assert!(replicas.windows(2).all(|pair| pair[0] - pair[1] <= 2));
}

#[test]
fn a_calm_that_is_interrupted_begins_anew() {
    let (mut replication, start) = (Replication::default(), Instant::now());
    decided(&mut replication, start, &[601; 3]);
    let mut works = vec![100; 599];
    works.extend([600; 2]);
    works.extend([100; 599]);
    let replicas = decided(&mut replication, start + Duration::from_secs(3), &works);
    assert!(replicas.iter().all(|n| *n == 3), "{replicas:?}");
}

#[test]
fn a_model_that_is_hot_no_more_is_forgotten() {
    let (mut replication, start) = (Replication::default(), Instant::now());
    decided(&mut replication, start, &[500; 1]);
    assert_eq!(replication.replicated().count(), 1);
    for minute in 1..=30 {
        let now = start + Duration::from_mins(minute);
        replication.decide(&Heat::default(), CAPACITY, now);
    }
    assert_eq!(replication.replicated().count(), 0);
}

#[test]
fn there_are_never_more_replicas_than_instances() {
    let (mut replication, now) = (Replication::default(), Instant::now());
    decided(&mut replication, now, &[16_000; 10]);
    let heat = Heat::from([("m", 16_000)]);
    replication.decide(&heat, Capacity { n_instances: 3, n_slots: 6 }, now);
    assert_eq!(replication.n_replicas("m"), 3);
    replication.decide(&heat, Capacity { n_instances: 0, n_slots: 0 }, now);
    assert_eq!(replication.n_replicas("m"), 1);
}

proptest! {
    /// Whatever is measured: within bounds, up by no more than a step, down by no more than a part.
    #[test]
    fn every_decision_is_a_bounded_step(
        works in proptest::collection::vec(0_u64..40_000, 1..200),
        n_instances in 1_usize..100,
    ) {
        let capacity = Capacity { n_instances, n_slots: 2 * n_instances };
        let (mut replication, mut now) = (Replication::default(), Instant::now());
        let mut before = 1;
        for work in works {
            now += Duration::from_mins(3);
            replication.decide(&Heat::from([("m", work)]), capacity, now);
            let after = replication.n_replicas("m");
            prop_assert!((1..=n_instances).contains(&after));
            prop_assert!(after <= before + 2.max(n_instances / 3));
            prop_assert!(after + (before / 4).max(1) >= before);
            before = after;
        }
    }
}
