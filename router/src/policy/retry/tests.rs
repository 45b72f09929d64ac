use super::*;
use Failed::{Died, Left, Lost, NotBegun, Refused, Silent};
use proptest::prelude::*;

#[track_caller]
fn check(may_repeat: bool, failures: &[Failed], expected: &[Next]) {
    let mut history = History::new(3, may_repeat);
    let steps: Vec<Next> = failures.iter().map(|failed| history.next(*failed)).collect();
    assert_eq!(steps, expected, "{failures:?}");
}

#[test]
fn what_did_not_begin_goes_to_the_next_instance() {
    check(true, &[NotBegun], &[Next::Other]);
    check(true, &[Refused, Refused], &[Next::Other, Next::Other]);
    check(false, &[NotBegun, NotBegun], &[Next::Other, Next::Other]);
}

#[test]
fn three_instances_are_enough() {
    check(true, &[NotBegun; 3], &[Next::Other, Next::Other, Next::GiveUp]);
}

#[test]
fn what_moves_with_its_model_is_followed_however_many_have_left() {
    check(false, &[Left; 8], &[Next::Other; 8]);
    check(true, &[Left, NotBegun, Left, NotBegun], &[Next::Other; 4]);
    check(true, &[Died, Left, Died], &[Next::Same, Next::Other, Next::Same]);
}

#[test]
fn a_closed_connection_is_tried_once_more_at_the_same_instance() {
    check(true, &[Died, NotBegun], &[Next::Same, Next::Other]);
    check(true, &[Died, Died], &[Next::Same, Next::Other]);
}

#[test]
fn a_lost_instance_is_not_tried_again() {
    check(true, &[Lost], &[Next::Other]);
    check(true, &[Died, Lost], &[Next::Same, Next::Other]);
    check(true, &[Lost, Lost], &[Next::Other, Next::GiveUp]);
    check(false, &[Lost], &[Next::GiveUp]);
    check(true, &[Died, NotBegun, Silent], &[Next::Same, Next::Other, Next::Other]);
    check(false, &[Silent], &[Next::GiveUp]);
}

#[test]
fn an_invocation_is_deadly_once_two_instances_died_under_it() {
    let mut history = History::new(3, true);
    for (failed, is_deadly) in [(Died, false), (NotBegun, false), (Died, false), (NotBegun, true)] {
        history.next(failed);
        assert_eq!(history.is_deadly(), is_deadly, "{failed:?}");
    }
    let mut history = History::new(3, true);
    (0..3).for_each(|_| _ = history.next(NotBegun));
    assert!(!history.is_deadly(), "instances out of reach did not die of it");
    let mut history = History::new(3, true);
    for failed in [Died, Refused, Died, Refused] {
        history.next(failed);
    }
    assert!(!history.is_deadly(), "instances that refuse live");
}

#[test]
fn what_may_have_begun_is_not_repeated_where_that_is_forbidden() {
    check(false, &[Died], &[Next::GiveUp]);
    check(false, &[NotBegun, Died], &[Next::Other, Next::GiveUp]);
}

#[test]
fn an_invocation_that_took_two_instances_with_it_gets_no_third() {
    check(
        true,
        &[Died, NotBegun, Died, Died],
        &[Next::Same, Next::Other, Next::Same, Next::GiveUp],
    );
}

#[test]
fn one_instance_may_be_all_there_is_to_try() {
    let mut history = History::new(1, true);
    assert_eq!(history.next(Died), Next::Same);
    assert_eq!(history.next(NotBegun), Next::GiveUp);
}

const ALLOWANCE: RetryAllowance = RetryAllowance { percent: 20, burst: 10, per_second: 2 };

fn spend_all(budget: &RetryBudget, now: Duration) -> u64 {
    (0..1000).take_while(|_| budget.spend(now)).count().try_into().unwrap()
}

#[test]
fn the_death_of_a_busy_instance_may_spend_the_whole_burst_and_no_more() {
    let budget = RetryBudget::new(ALLOWANCE);
    assert_eq!(spend_all(&budget, Duration::ZERO), 10);
}

#[test]
fn five_invocations_earn_one_retry() {
    let budget = RetryBudget::new(ALLOWANCE);
    spend_all(&budget, Duration::ZERO);
    (0..4).for_each(|_| budget.earn());
    assert!(!budget.spend(Duration::ZERO));
    budget.earn();
    assert!(budget.spend(Duration::ZERO));
}

#[test]
fn quiet_times_recover() {
    let budget = RetryBudget::new(ALLOWANCE);
    spend_all(&budget, Duration::ZERO);
    assert_eq!(spend_all(&budget, Duration::from_millis(400)), 0);
    assert_eq!(spend_all(&budget, Duration::from_millis(500)), 1);
    assert_eq!(spend_all(&budget, Duration::from_millis(2_500)), 4);
    assert_eq!(spend_all(&budget, Duration::from_hours(24)), 10, "never more than the burst");
}

proptest! {
    /// Whatever happens, an invocation is sent at most twice per instance and comes to an end.
    #[test]
    fn attempts_are_bounded(
        max_instances in 1_usize..6,
        may_repeat in any::<bool>(),
        failures in proptest::collection::vec(prop_oneof![Just(NotBegun), Just(Refused), Just(Died), Just(Lost), Just(Silent)], 32),
    ) {
        let mut history = History::new(max_instances, may_repeat);
        let steps: Vec<Next> = failures.iter().map(|it| history.next(*it)).collect();
        let end = steps.iter().position(|next| *next == Next::GiveUp);
        prop_assert!(end.is_some_and(|end| end < 2 * max_instances));
        let n_others = steps[..end.unwrap()].iter().filter(|it| **it == Next::Other).count();
        prop_assert!(n_others < max_instances);
    }

    /// However it is used, spending stays below burst + percent × invocations + time.
    #[test]
    fn retries_never_exceed_what_was_earned(
        acts in proptest::collection::vec((0_u8..3, 0_u64..2_000), 1..200),
    ) {
        let budget = RetryBudget::new(ALLOWANCE);
        let (mut now, mut spent, mut begun) = (Duration::ZERO, 0, 0);
        for (act, ms) in acts {
            match act {
                0 => { budget.earn(); begun += 1; }
                1 => spent += u64::from(budget.spend(now)),
                _ => now += Duration::from_millis(ms),
            }
        }
        let earned = 10.0 + 0.2 * f64::from(begun) + 2.0 * now.as_secs_f64();
        prop_assert!(f64::from(u32::try_from(spent).unwrap()) <= earned + 1e-6);
    }
}
