//! What a scenario shows: how many invocations failed, and how long the cluster took to recover.

use super::load::{Kind, Outcome, Record};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// The cluster has recovered when for as long nobody was disturbed.
const QUIET: Duration = Duration::from_secs(1);

/// Failed invocations that are shown in words.
const MAX_SHOWN: usize = 5;

/// Above the rows that reports are.
pub const REPORT_HEAD: &str = "\
| scenario | invocations (cold) | failed | 503 with a hint (on no instance) | sent again by the client | \
time to recover | longest | p99 before |
| --- | --- | --- | --- | --- | --- | --- | --- |";

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub struct Mark {
    pub what: String,
    pub at: Instant,
    /// Whether models that are on no instance count, too.
    pub counts_cold: bool,
}

/// What came of one mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub what: String,
    /// From the mark to the end of the last invocation that it disturbed.
    pub recovery: Duration,
}

/// What a scenario shows.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: String,
    pub n_all: usize,
    pub n_cold: usize,
    pub failed: Vec<String>,
    /// 503 with a hint when to ask again, for a model that is on no instance.
    pub n_hinted: usize,
    /// 503 with a hint, for a model that is on one.
    pub n_hinted_held: usize,
    pub n_retried: usize,
    pub rows: Vec<Row>,
    /// Of those that were served.
    pub longest: Duration,
    /// Of those that were served before the first mark.
    pub calm_p99: Duration,
}

impl Report {
    pub fn new(name: &str, records: &[Record], marks: &[Mark], disturbed: Duration) -> Self {
        let hinted = |is_cold: bool| {
            let mut hinted: Vec<_> =
                records.iter().filter(|it| it.outcome == Outcome::Hinted).collect();
            hinted.retain(|it| (it.kind == Kind::Cold) == is_cold);
            hinted.len()
        };
        let failed = records.iter().filter_map(|it| match &it.outcome {
            Outcome::Failed(text) => Some(text.clone()),
            Outcome::Served | Outcome::Hinted => None,
        });
        let served = || records.iter().filter(|it| it.outcome == Outcome::Served);
        let first = marks.first().map(|it| it.at);
        let calm = served().filter(|it| first.is_none_or(|first| it.end < first));
        let ends = marks.iter().skip(1).map(|it| Some(it.at)).chain([None]);
        let rows = marks.iter().zip(ends).map(|(mark, end)| Row {
            what: mark.what.clone(),
            recovery: recovery(records, mark, end, disturbed),
        });
        Self {
            name: name.to_owned(),
            n_all: records.len(),
            n_cold: records.iter().filter(|it| it.kind == Kind::Cold).count(),
            failed: failed.collect(),
            n_hinted: hinted(true),
            n_hinted_held: hinted(false),
            n_retried: records.iter().filter(|it| it.retried).count(),
            rows: rows.collect(),
            longest: served().map(Record::latency).max().unwrap_or_default(),
            calm_p99: p99(calm.map(Record::latency).collect()),
        }
    }

    /// The longest of all recoveries.
    pub fn recovery(&self) -> Duration {
        self.rows.iter().map(|it| it.recovery).max().unwrap_or_default()
    }

    /// Fails the test unless every invocation was served.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        self.expect_held_models_served();
        assert_eq!(self.n_hinted, 0, "{self}");
    }

    /// Fails the test unless every invocation was served of a model that was on an instance; one on
    /// none may have been told when to ask again.
    #[track_caller]
    pub fn expect_held_models_served(&self) {
        assert!(self.n_all > 0 && self.n_cold > 0, "nothing was asked: {self}");
        assert!(self.failed.is_empty() && self.n_hinted_held == 0, "{self}");
    }

    /// Fails the test if the cluster took longer to recover. Generous: no figure, but a bound on what
    /// is right.
    #[track_caller]
    pub fn expect_recovery_within(&self, bound: Duration) {
        assert!(self.recovery() <= bound, "{self}");
    }
}

/// Returns how long after a mark the last invocation ended that it disturbed.
fn recovery(
    records: &[Record],
    mark: &Mark,
    end: Option<Instant>,
    disturbed: Duration,
) -> Duration {
    let is_disturbed = |it: &&Record| {
        let counts = mark.counts_cold || it.kind != Kind::Cold;
        counts && (it.outcome != Outcome::Served || it.latency() > disturbed)
    };
    let is_after = |it: &&Record| it.end > mark.at && end.is_none_or(|end| it.due < end);
    let mut after: Vec<_> = records.iter().filter(is_after).filter(is_disturbed).collect();
    after.sort_by_key(|it| it.due);
    let mut over = mark.at;
    for record in after {
        if record.due > over + QUIET {
            break;
        }
        over = over.max(record.end);
    }
    over - mark.at
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    let nth = latencies.len().saturating_sub(1) * 99 / 100;
    latencies.get(nth).copied().unwrap_or_default()
}

/// As a row of the table in docs/reliability.md, and the first failures below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, n_all, n_cold, failed, n_hinted, n_hinted_held, n_retried, .. } = self;
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|Row { what, recovery }| format!("{what}: {} ms", recovery.as_millis()))
            .collect();
        let n_failed = failed.len() + n_hinted_held;
        write!(
            f,
            "| {name} | {n_all} ({n_cold}) | {n_failed} | {n_hinted} | {n_retried} | {} | {} ms | {} ms |",
            rows.join("; "),
            self.longest.as_millis(),
            self.calm_p99.as_millis()
        )?;
        for text in failed.iter().take(MAX_SHOWN) {
            write!(f, "\n    failed: {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: Instant, due_ms: u64, took_ms: u64, outcome: Outcome) -> Record {
        let due = start + Duration::from_millis(due_ms);
        let end = due + Duration::from_millis(took_ms);
        Record { kind: Kind::Warm, due, end, outcome, retried: false }
    }

    #[track_caller]
    fn check(records: &[(u64, u64, Outcome)], expected_ms: u64) {
        let start = Instant::now();
        let records: Vec<_> =
            records.iter().map(|it| record(start, it.0, it.1, it.2.clone())).collect();
        let at = start + Duration::from_secs(1);
        let mark = Mark { what: "it".to_owned(), at, counts_cold: true };
        let recovery = recovery(&records, &mark, None, Duration::from_millis(100));
        assert_eq!(recovery, Duration::from_millis(expected_ms));
    }

    #[test]
    fn recovery_lasts_until_the_last_disturbed_invocation_ends() {
        use Outcome::Served;
        check(&[(900, 50, Served), (1100, 50, Served)], 0);
        check(&[(990, 200, Served), (1100, 50, Served)], 190);
        check(&[(1100, 700, Served), (1900, 300, Served)], 1200);
        check(&[(1100, 1, Outcome::Failed(String::new()))], 101);
    }

    #[test]
    fn what_comes_after_a_quiet_second_is_another_matter() {
        check(&[(1100, 200, Outcome::Served), (2400, 500, Outcome::Served)], 300);
    }
}
