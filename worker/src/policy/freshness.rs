//! When a store is asked again whether a resident model is still what its address stands for.

use std::time::Duration;

/// How old the store's last word about a resident model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Fresh,
    /// Its store is to be asked; whoever notices is served meanwhile.
    Due,
    /// As old as it may become: its store is to be asked before anyone is served.
    Overdue,
}

/// Returns what a check that began `since` means when none may be older than `max_age`.
///
/// Half of it is for asking in time: the store of a model that is invoked often is asked beside its
/// invocations, and nobody waits. Without any age everyone waits.
pub fn age(since: Duration, max_age: Duration) -> Age {
    if since >= max_age {
        Age::Overdue
    } else if since >= max_age / 2 {
        Age::Due
    } else {
        Age::Fresh
    }
}

/// Returns whether a version that did not load `since` is worth another try. What is wrong with its
/// bytes stays wrong; anything else may have changed.
pub fn is_worth_a_try(since: Duration, max_age: Duration, is_its_bytes_fault: bool) -> bool {
    !is_its_bytes_fault && since >= max_age
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(30);

    #[test]
    fn a_store_is_asked_from_half_the_age_on_and_waited_for_from_all_of_it() {
        let at = |seconds| age(Duration::from_secs(seconds), MAX_AGE);
        assert_eq!((at(0), at(14)), (Age::Fresh, Age::Fresh));
        assert_eq!((at(15), at(29)), (Age::Due, Age::Due));
        assert_eq!((at(30), at(9000)), (Age::Overdue, Age::Overdue));
        assert_eq!(age(Duration::ZERO, Duration::ZERO), Age::Overdue);
    }

    #[test]
    fn a_failed_version_is_tried_again_once_an_age_unless_it_is_broken() {
        let at =
            |seconds, is_broken| is_worth_a_try(Duration::from_secs(seconds), MAX_AGE, is_broken);
        assert!(!at(29, false) && at(30, false));
        assert!(!at(9000, true));
    }
}
