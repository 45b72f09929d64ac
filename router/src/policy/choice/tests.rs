use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn load(n_in_flight: usize) -> Load {
    Load { n_in_flight, n_slots: 2, is_new: false }
}

#[track_caller]
fn check_chosen(loads: &[Load], start: usize, expected: Option<usize>) {
    assert_eq!(least_loaded(loads, start, |it| Some(*it)), expected, "{loads:?} from {start}");
}

#[test]
fn the_replica_with_least_in_flight_takes_an_invocation() {
    check_chosen(&[], 0, None);
    check_chosen(&[load(3), load(1), load(2)], 0, Some(1));
    check_chosen(&[load(3), load(1), load(2)], 2, Some(1));
}

#[test]
fn replicas_with_equally_much_take_turns() {
    for start in 0..6 {
        check_chosen(&[load(1), load(1), load(1)], start, Some(start % 3));
    }
    check_chosen(&[load(0), load(1), load(0)], 1, Some(2));
}

#[test]
fn one_with_more_slots_takes_more() {
    let large = Load { n_slots: 8, ..load(3) };
    check_chosen(&[load(1), large], 0, Some(1));
    check_chosen(&[load(0), Load { n_in_flight: 4, ..large }], 0, Some(0));
    // Whatever a heartbeat says.
    check_chosen(&[Load { n_slots: 0, ..load(5) }, load(1)], 0, Some(1));
}

#[test]
fn a_new_replica_gets_its_first_invocations_late() {
    let new = Load { is_new: true, ..load(0) };
    check_chosen(&[load(1), new], 0, Some(0));
    check_chosen(&[load(3), new], 0, Some(1));
}

#[test]
fn who_is_out_of_the_question_is_never_chosen() {
    let some = |it: &usize| (*it > 1).then(|| load(10 - it));
    assert_eq!(least_loaded(&[1, 2, 3, 0], 0, some), Some(2));
    assert_eq!(least_loaded(&[1, 0], 0, some), None);
    // Also where only one beyond the window is left.
    let mut many = vec![0; 100];
    many[77] = 5;
    assert_eq!(least_loaded(&many, 0, some), Some(77));
}

#[test]
fn waiting_grows_with_what_is_before_one() {
    let wait = |n_in_flight| load(n_in_flight).wait(10 * MS);
    assert_eq!(
        [wait(0), wait(1), wait(2), wait(3), wait(9)].map(|it| it.as_millis()),
        [0, 0, 5, 10, 40]
    );
    assert!(load(usize::MAX - 1).wait(Duration::MAX) > Duration::from_secs(1 << 40));
}

#[test]
fn a_model_is_loaded_once_more_only_if_that_is_cheaper_than_to_wait() {
    let figures = |n_in_flight| Figures {
        load: load(n_in_flight),
        service: Some(100 * MS),
        load_time: Some(500 * MS),
    };
    // 900 ms here, 100 ms there.
    let (here, there) = (figures(19), figures(3));
    assert!(is_worth_a_load(here, there));
    assert!(!is_worth_a_load(figures(13), there), "600 ms here are no more than 100 and a load");
    assert!(!is_worth_a_load(here, figures(9)), "400 ms there");
}

#[test]
fn an_instance_that_has_answered_nothing_yet_is_taken_for_as_fast_as_the_other() {
    let here = Figures { load: load(19), service: Some(100 * MS), load_time: Some(500 * MS) };
    let there = Figures { load: load(3), service: None, load_time: None };
    assert!(is_worth_a_load(here, there));
    assert!(!is_worth_a_load(here, Figures { load: load(9), ..there }));
    assert!(!is_worth_a_load(here, Figures { load_time: Some(800 * MS), ..there }));
    let nobody_knows = Figures { load_time: None, ..here };
    assert!(!is_worth_a_load(nobody_knows, there), "what a load costs");
    let nobody_knows = Figures { service: None, ..here };
    assert!(!is_worth_a_load(nobody_knows, there), "how long one waits here");
}

#[test]
fn nobody_has_to_wait_where_a_slot_is_free_or_nothing_was_measured() {
    let figures =
        |n_in_flight, service| Figures { load: load(n_in_flight), service, load_time: None };
    assert!(figures(2, Some(MS)).has_to_wait());
    assert!(!figures(1, Some(MS)).has_to_wait());
    assert!(!figures(2, None).has_to_wait());
}

#[test]
fn a_suspect_is_chosen_only_if_there_is_no_other() {
    let chosen = |candidates: &[u32]| most_trusted(candidates.iter().copied(), |it| *it < 10);
    assert_eq!(chosen(&[10, 11]), Some(10));
    assert_eq!(chosen(&[1, 2, 12, 13]), Some(12));
    assert_eq!(chosen(&[1, 2]), Some(1));
    assert_eq!(chosen(&[]), None);
}

proptest! {
    /// The bound that makes hot models even: see the module's documentation.
    #[test]
    fn nobody_gets_more_than_five_quarters_of_the_mean_if_another_can_take_it(
        in_flight in proptest::collection::vec(0_usize..1000, 1..MAX_COMPARED),
        start in any::<usize>(),
    ) {
        let chosen = least_loaded(&in_flight, start, |it| Some(load(*it))).unwrap();
        let n_all: usize = in_flight.iter().sum::<usize>() + 1;
        let bound = (5 * n_all).div_ceil(4 * in_flight.len());
        prop_assert!(in_flight[chosen] < bound, "{} of {in_flight:?}", in_flight[chosen]);
    }

    /// The same where invocations come and go.
    #[test]
    fn a_sequence_of_invocations_stays_even(
        ends in proptest::collection::vec(any::<prop::sample::Index>(), 1..400),
        n_replicas in 2_usize..9,
    ) {
        let mut in_flight = vec![0_usize; n_replicas];
        for (turn, end) in ends.into_iter().enumerate() {
            let chosen = least_loaded(&in_flight, turn, |it| Some(load(*it))).unwrap();
            let least = *in_flight.iter().min().unwrap();
            prop_assert_eq!(in_flight[chosen], least);
            in_flight[chosen] += 1;
            // Half of the time one ends.
            let idx = end.index(2 * n_replicas);
            if idx < n_replicas {
                in_flight[idx] = in_flight[idx].saturating_sub(1);
            }
        }
    }
}
