//! Which invocations a fault disturbed, and when the cluster had recovered from it. The definition is
//! in docs/reliability.md ("How it is measured").

use super::{
    load::{Kind, Outcome, Record},
    witness::Stalls,
};
use std::time::Duration;
use tokio::time::Instant;

/// Disturbed invocations that are due sooner after the end of those before them are one stretch.
const QUIET: Duration = Duration::from_secs(1);

/// As many slow invocations, apart from the fault in time, are the cluster's doing; fewer are strays:
/// a thread that was not run, a page that was fetched.
const MIN_STRETCH: usize = 3;

/// What an invocation went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Undisturbed,
    /// It took longer, but not longer than the machine ran nobody.
    HeldUpByMachine,
    Disturbed,
}

/// Tells who was disturbed.
#[derive(Debug)]
pub(super) struct Judge {
    /// Who takes longer is disturbed.
    pub(super) patience: Duration,
    pub(super) stalls: Stalls,
}

impl Judge {
    pub(super) fn verdict(&self, record: &Record) -> Verdict {
        let latency = record.latency();
        if record.outcome != Outcome::Served {
            Verdict::Disturbed
        } else if latency <= self.patience {
            Verdict::Undisturbed
        } else if latency.saturating_sub(self.stalls.within(record.due, record.end))
            <= self.patience
        {
            Verdict::HeldUpByMachine
        } else {
            Verdict::Disturbed
        }
    }

    /// Returns how long after `at` the last stretch ended in which invocations were disturbed.
    pub(super) fn recovery<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        at: Instant,
    ) -> Duration {
        let mut disturbed: Vec<_> =
            records.filter(|it| self.verdict(it) == Verdict::Disturbed).collect();
        disturbed.sort_by_key(|it| it.due);
        let (mut recovered, mut stretch) = (at, Stretch::that_begins_with_the_fault(at));
        for record in disturbed {
            if record.due > stretch.end + QUIET {
                stretch = Stretch { end: record.end, n: 0 };
            }
            stretch.take(record);
            if stretch.n >= MIN_STRETCH {
                recovered = recovered.max(stretch.end);
            }
        }
        recovered - at
    }
}

/// Disturbed invocations without a pause between them.
#[derive(Debug)]
struct Stretch {
    end: Instant,
    n: usize,
}

impl Stretch {
    /// Whoever is disturbed right after a fault is disturbed by it, be it one alone.
    fn that_begins_with_the_fault(at: Instant) -> Self {
        Self { end: at, n: MIN_STRETCH }
    }

    fn take(&mut self, record: &Record) {
        self.end = self.end.max(record.end);
        // One that was not served is nobody's noise.
        self.n += if record.outcome == Outcome::Served { 1 } else { MIN_STRETCH };
    }
}

/// Part of a run: from something that was done to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start: Instant,
    /// `None`: until the end.
    pub(super) end: Option<Instant>,
    /// Whether models that are on no instance count, too.
    pub(super) counts_cold: bool,
}

impl Window {
    /// Whether what was done may have met this invocation: it was under way then, or is due later.
    pub(super) fn holds(&self, record: &Record) -> bool {
        record.end > self.start && self.end.is_none_or(|end| record.due < end)
    }

    pub(super) fn counts(&self, record: &Record) -> bool {
        self.holds(record) && (self.counts_cold || record.kind != Kind::Cold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failed, Served};

    const FAULT_MS: u64 = 1000;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[track_caller]
    fn check(records: &[(u64, u64, Outcome)], stalls_ms: &[(u64, u64)], expected_ms: u64) {
        let start = Instant::now();
        let records: Vec<_> = records
            .iter()
            .map(|(due, took, outcome)| Record {
                kind: Kind::Warm,
                due: at(start, *due),
                end: at(start, due + took),
                outcome: outcome.clone(),
                retried: false,
            })
            .collect();
        let stalls: Vec<_> =
            stalls_ms.iter().map(|it| (at(start, it.0), at(start, it.1))).collect();
        let judge = Judge { patience: Duration::from_millis(100), stalls: Stalls::of(&stalls) };
        let fault = at(start, FAULT_MS);
        let window = Window { start: fault, end: None, counts_cold: true };
        let recovery = judge.recovery(records.iter().filter(|it| window.counts(it)), fault);
        assert_eq!(recovery, Duration::from_millis(expected_ms));
    }

    #[test]
    fn recovery_lasts_until_the_last_disturbed_invocation_ends() {
        check(&[(900, 50, Served), (1100, 50, Served)], &[], 0);
        check(&[(990, 200, Served), (1100, 50, Served)], &[], 190);
        check(&[(1100, 700, Served), (1900, 300, Served)], &[], 1200);
        check(&[(1100, 1, Failed(String::new()))], &[], 101);
    }

    #[test]
    fn what_bites_only_when_a_lease_ends_is_seen() {
        let slow = [(4000, 500, Served), (4010, 490, Served), (4020, 480, Served)];
        check(&slow, &[], 3500);
        check(&[(4000, 20, Failed(String::new()))], &[], 3020);
    }

    #[test]
    fn what_never_ends_is_seen_to_the_last() {
        let slow: Vec<_> = (0..100).map(|nth| (1000 + nth * 100, 1000, Served)).collect();
        check(&slow, &[], 99 * 100 + 1000);
    }

    #[test]
    fn a_stray_is_not_the_faults_doing() {
        check(&[(1100, 200, Served), (4000, 150, Served), (4010, 140, Served)], &[], 300);
    }

    #[test]
    fn what_the_machine_held_up_is_not_the_faults_doing() {
        let slow = [(4000, 500, Served), (4010, 490, Served), (4020, 480, Served)];
        check(&slow, &[(3990, 4450)], 0);
        // It stood still, but not that long.
        check(&slow, &[(3990, 4200)], 3500);
    }
}
