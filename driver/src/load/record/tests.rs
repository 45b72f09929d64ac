use super::*;
use crate::load::plan::Popularity;
use proptest::prelude::*;
use shared::id::TargetModel;

const DURATION: Duration = Duration::from_secs(10);

fn plan(n_targets: usize) -> Plan {
    let targets: Vec<TargetModel> =
        (0..n_targets).map(|n| format!("m{n}").parse().unwrap()).collect();
    let plan = Plan::closed("http://127.0.0.1:1", &targets, 1);
    Plan { duration: DURATION, popularity: Popularity::Uniform, ..plan }
}

fn event(target: u32, due_ms: u64, took_ms: u64, outcome: Outcome) -> Event {
    let due = Duration::from_millis(due_ms);
    Event {
        choice: Choice { target, body: 0, is_cold: false },
        due,
        sent: due,
        ended: due + Duration::from_millis(took_ms),
        router_idx: 0,
        is_retried: false,
        outcome,
    }
}

fn ok(instance: &str, cache: Cache) -> Outcome {
    Outcome::Answered { instance: instance.to_owned(), cache, n_bytes: 1 }
}

fn failed(kind: &str, class: FailureClass) -> Outcome {
    Outcome::Failed(Failure { class, kind: kind.to_owned(), text: format!("because {kind}") })
}

fn kept(plan: &Plan, events: &[Event]) -> Kept {
    let mut recorder = Recorder::new(plan);
    for event in events {
        recorder.add(event);
    }
    recorder.kept(plan)
}

#[test]
fn late_answer_counts_where_it_was_due_and_where_it_came() {
    let plan = plan(1);
    let kept = kept(&plan, &[event(0, 150, 2_000, ok("a", Cache::Hit))]);
    let slots = &kept.timeline.slots;
    assert!((kept.timeline.slot_ms - 100.0).abs() < 1e-9);
    assert_eq!((slots[1].n_due, slots[1].n_ok, slots[1].n_answered), (1, 1, 0));
    assert!((slots[1].max_ms / 2_000.0 - 1.0).abs() < 0.02, "{:?}", slots[1]);
    assert_eq!((slots[21].n_due, slots[21].n_answered), (0, 1));
}

#[test]
fn late_answers_of_a_run_of_all_slots_do_not_pile_up_in_its_last_one() {
    let plan = Plan { duration: Duration::from_mins(1), ..plan(1) };
    let took = [2_000, 30_000, 70_000];
    let events = took.map(|took_ms| event(0, 59_950, took_ms, ok("a", Cache::Hit)));
    let kept = kept(&plan, &events);
    let slots = &kept.timeline.slots;
    let answered: Vec<_> = (0..slots.len()).filter(|idx| slots[*idx].n_answered > 0).collect();
    assert_eq!(answered, [619, 899, 1_299]);
    assert!(slots.iter().all(|slot| slot.n_answered <= 1));
    assert_eq!((slots[599].n_due, slots.len()), (3, 1_300));
}

#[test]
fn answer_after_the_window_is_good_and_late() {
    let plan = plan(1);
    let mut recorder = Recorder::new(&plan);
    recorder.add(&event(0, 9_000, 1_000, ok("a", Cache::Hit)));
    recorder.add(&event(0, 9_000, 1_001, ok("a", Cache::Hit)));
    assert_eq!((recorder.totals.n_ok, recorder.totals.n_late), (2, 1));
    recorder.end_window(Duration::from_secs(5));
    recorder.add(&event(0, 4_000, 1_001, ok("a", Cache::Hit)));
    recorder.end_window(Duration::from_secs(6));
    recorder.add(&event(0, 4_000, 1_001, ok("a", Cache::Hit)));
    assert_eq!((recorder.totals.n_ok, recorder.totals.n_late), (4, 3));
    assert_eq!(recorder.kept(&plan).window, Duration::from_secs(5));
}

#[test]
fn failures_are_kept_by_kind_with_their_first_and_last_time() {
    let events = [
        event(0, 2_000, 1, failed("500", FailureClass::Failed)),
        event(1, 1_000, 1, failed("500", FailureClass::Failed)),
        event(0, 3_000, 0, failed("not sent", FailureClass::NotSent)),
    ];
    let kept = kept(&plan(2), &events);
    let row = &kept.errors[0];
    assert_eq!((&*row.kind, row.n, &*row.example), ("500", 2, "because 500"));
    assert_eq!((row.first_ms, row.last_ms), (1_000.0, 2_000.0));
    assert_eq!((kept.totals.n_failed, kept.totals.n_not_sent), (2, 1));
    assert_eq!(kept.failures[1].model, "m1");
    // What was not sent took no time.
    assert_eq!(kept.failed.n, 2);
}

#[test]
fn models_and_instances_have_their_shares() {
    let events = [
        event(0, 0, 10, ok("a", Cache::Miss)),
        event(0, 1, 2, ok("a", Cache::Hit)),
        event(1, 2, 2, ok("b", Cache::Hit)),
        event(0, 3, 2, ok("a", Cache::Hit)),
    ];
    let kept = kept(&plan(3), &events);
    assert_eq!(kept.models.n_asked, 2);
    let first = &kept.models.listed[0];
    assert_eq!((&*first.model, first.n_due, first.n_hits, first.n_misses), ("m0", 3, 2, 1));
    assert!((first.max_ms - 10.0).abs() < 1e-9);
    let shares: Vec<_> =
        kept.instances.iter().map(|row| (&*row.instance, row.n_ok, row.share)).collect();
    assert_eq!(shares, [("a", 3, 0.75), ("b", 1, 0.25)]);
    assert_eq!(kept.heat.rows[0].counts.iter().sum::<u32>(), 3);
}

#[test]
fn strangers_names_do_not_make_it_grow() {
    let plan = plan(1);
    let mut recorder = Recorder::new(&plan);
    for n in 0..10_000 {
        recorder.add(&event(0, 1, 1, ok(&format!("instance-{n}"), Cache::Hit)));
        recorder.add(&event(0, 1, 1, failed(&format!("kind-{n}"), FailureClass::Failed)));
    }
    let kept = recorder.kept(&plan);
    assert!(
        kept.instances.len() < 3_000 && kept.errors.len() < 200 && kept.failures.len() <= 1_000
    );
    assert_eq!(kept.instances.iter().map(|row| row.n_ok).sum::<u64>(), 10_000);
    assert_eq!(kept.errors.iter().map(|row| row.n).sum::<u64>(), 10_000);
}

#[test]
fn long_runs_have_longer_slots_and_no_more_of_them() {
    for (seconds, slot_ms) in [(1, 100), (60, 100), (61, 200), (600, 1_000), (604_800, 1_200_000)] {
        let duration = Duration::from_secs(seconds);
        assert_eq!(slot(duration), Duration::from_millis(slot_ms), "{seconds}");
        assert!(duration.as_millis().div_ceil(u128::from(slot_ms)) <= MAX_SLOTS);
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    use FailureClass::{Abandoned, Failed, NotSent, Unavailable};
    prop_oneof![
        proptest::sample::select(vec![Cache::Hit, Cache::Miss, Cache::Unsaid])
            .prop_map(|cache| ok("a", cache)),
        proptest::sample::select(vec![Failed, Unavailable, NotSent, Abandoned])
            .prop_map(|class| failed("k", class)),
    ]
}

proptest! {
    // A recorder takes some megabytes.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_invocation_is_counted_once_in_each_table(
        events in proptest::collection::vec((0..700_u32, 0..10_000_u64, 0..20_000_u64, outcomes()), 0..300),
    ) {
        let events: Vec<Event> =
            events.into_iter().map(|(target, due, took, it)| event(target, due, took, it)).collect();
        let kept = kept(&plan(700), &events);
        let n = events.len() as u64;
        let totals = kept.totals;
        prop_assert!(totals.add_up() && totals.n_due == n, "{:?}", totals);
        let slots = &kept.timeline.slots;
        prop_assert_eq!(slots.iter().map(|slot| slot.n_due).sum::<u64>(), n);
        prop_assert_eq!(slots.iter().map(|slot| slot.n_ok).sum::<u64>(), totals.n_ok);
        prop_assert_eq!(slots.iter().map(|slot| slot.n_answered).sum::<u64>(), totals.n_ok);
        let listed: u64 = kept.models.listed.iter().map(|row| row.n_due).sum();
        prop_assert_eq!(listed + kept.models.others.n_due, n);
        prop_assert_eq!(kept.errors.iter().map(|row| row.n).sum::<u64>(), totals.n_bad());
        prop_assert_eq!(kept.latency.n, totals.n_ok);
    }
}
