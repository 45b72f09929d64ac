//! How much an instance does for what comes after it or was before it: how long it hands models over,
//! and which of its share it loads before it serves.

use shared::api::residents::Resident;
use std::time::Duration;

/// Of the time that an instance has to leave, the part for handing over models: the rest is for the
/// invocations that it has accepted.
const PARTS: u32 = 3;

/// Of its budget, how much a joining instance fills: the rest is for what its first invocations need,
/// so that they do not begin with evictions.
const FILL_PERCENT: u64 = 80;

/// Returns how long models may be handed over by an instance that has this long to leave.
pub fn time_of(drain_timeout: Duration) -> Duration {
    drain_timeout / PARTS
}

/// Returns what a joining instance loads of its share, in its order: what fits beside what is there.
pub fn affordable(share: Vec<Resident>, used_bytes: u64, budget_bytes: u64) -> Vec<Resident> {
    let mut free_bytes = fill_bytes(budget_bytes).saturating_sub(used_bytes);
    let fits = |model: &Resident| {
        let fits = model.resident_bytes <= free_bytes;
        if fits {
            free_bytes -= model.resident_bytes;
        }
        fits
    };
    share.into_iter().filter(fits).collect()
}

/// Returns up to where a joining instance fills its budget.
pub fn fill_bytes(budget_bytes: u64) -> u64 {
    budget_bytes / 100 * FILL_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(artifact: &str, resident_bytes: u64) -> Resident {
        Resident {
            artifact: artifact.to_owned(),
            resident_bytes,
            fast_millicores: 0,
            slow_millicores: 0,
            idle_ms: 0,
            serves_stale: false,
            is_bound: false,
        }
    }

    #[test]
    fn a_joining_instance_fills_most_of_its_budget_hottest_first() {
        let share = [("a", 300), ("b", 400), ("too large", 200), ("c", 50)];
        let share: Vec<_> = share.map(|(name, bytes)| model(name, bytes)).into();
        let names = |used, budget| {
            let chosen = affordable(share.clone(), used, budget);
            chosen.into_iter().map(|it| it.artifact).collect::<Vec<_>>()
        };
        assert_eq!(names(0, 1000), ["a", "b", "c"]);
        assert_eq!(names(0, 10_000), ["a", "b", "too large", "c"]);
        assert_eq!(names(500, 1000), ["a"]);
        assert_eq!(names(900, 1000), [""; 0]);
    }

    #[test]
    fn most_of_the_time_to_leave_is_for_what_was_accepted() {
        assert_eq!(time_of(Duration::from_secs(24)), Duration::from_secs(8));
        assert_eq!(time_of(Duration::ZERO), Duration::ZERO);
    }
}
