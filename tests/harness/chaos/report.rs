//! What a scenario shows: what it cost, whether that was allowed, and how long it took to recover.

use super::{
    Aim,
    load::{Kind, Outcome, Record},
    recovery::{Judge, Verdict, Window},
};
use std::{fmt, time::Duration};
use tokio::time::Instant;

/// Failed invocations that are shown in words.
const MAX_SHOWN: usize = 5;

/// Above the rows that reports are.
pub const REPORT_HEAD: &str = "\
| fault | invocations | failed | retried | hinted | disturbed | time to recover | longest latency | \
aim | met |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) what: String,
    pub(super) at: Instant,
    pub(super) aim: Aim,
    pub(super) cost: Cost,
}

/// What it must cost invocations besides time. None may fail, whatever was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Nothing,
    /// Who is connected to the router that is lost asks the other one.
    Retries,
    /// Models that are on no instance are answered 503 with a hint, because the store is out.
    Hints,
    /// They wait for a store that stalls, and are told so, too, once that takes too long.
    WaitsOrHints,
}

impl Cost {
    /// Whether the store is out, so that models on no instance suffer.
    fn is_stores(self) -> bool {
        matches!(self, Self::Hints | Self::WaitsOrHints)
    }
}

/// What came of one mark.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    aim: Aim,
    /// From the mark to the end of the last stretch of invocations that it disturbed.
    recovery: Duration,
    /// How much later something else was done, or nothing asked any more.
    window: Duration,
}

/// What a scenario shows.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    n_all: usize,
    n_cold: usize,
    failed: Vec<String>,
    /// 503 with a hint when to ask again, for a model on no instance while the store was out.
    n_hinted: usize,
    n_retried: usize,
    n_disturbed: usize,
    /// As slow, because the machine ran nobody.
    n_held_up: usize,
    rows: Vec<Row>,
    /// Of those that were served.
    longest: Duration,
    /// What was not as it must be, failures aside.
    surprises: Vec<String>,
}

impl Report {
    pub(super) fn new(name: &str, records: &[Record], marks: &[Mark], judge: &Judge) -> Self {
        let ends = marks.iter().skip(1).map(|it| Some(it.at)).chain([None]);
        let windows = marks.iter().zip(ends).map(|(mark, end)| {
            let counts_cold = !mark.cost.is_stores();
            (mark, Window { start: mark.at, end, counts_cold })
        });
        let windows: Vec<_> = windows.collect();
        let may = |costs: fn(Cost) -> bool, record: &Record| {
            windows.iter().any(|(mark, window)| costs(mark.cost) && window.holds(record))
        };
        let is_hint = |it: &Record| {
            it.outcome == Outcome::Hinted && it.kind == Kind::Cold && may(Cost::is_stores, it)
        };
        let n_of = |verdict: Verdict| {
            let is_so = |it: &&Record| judge.verdict(it) == verdict;
            let counts = |it: &&Record| windows.iter().any(|(_, window)| window.counts(it));
            records.iter().filter(counts).filter(is_so).count()
        };
        let failed = records.iter().filter(|it| !is_hint(it)).filter_map(|it| match &it.outcome {
            Outcome::Failed(text) => Some(text.clone()),
            Outcome::Hinted => Some(format!("{:?} model: 503 with a hint", it.kind)),
            Outcome::Served => None,
        });
        let is_served = |it: &&Record| it.outcome == Outcome::Served;
        let retried = || records.iter().filter(|it| it.retried);
        let mut report = Self {
            name: name.to_owned(),
            n_all: records.len(),
            n_cold: records.iter().filter(|it| it.kind == Kind::Cold).count(),
            failed: failed.collect(),
            n_hinted: records.iter().filter(|it| is_hint(it)).count(),
            n_retried: retried().count(),
            n_disturbed: n_of(Verdict::Disturbed),
            n_held_up: n_of(Verdict::HeldUpByMachine),
            rows: windows.iter().map(|it| row(it.0, it.1, records, judge)).collect(),
            longest: records
                .iter()
                .filter(is_served)
                .map(Record::latency)
                .max()
                .unwrap_or_default(),
            surprises: Vec::new(),
        };
        let n_needless = retried().filter(|it| !may(|cost| cost == Cost::Retries, it)).count();
        report.surprises = report.look_for_surprises(n_needless, marks);
        report
    }

    fn look_for_surprises(&self, n_needless_retries: usize, marks: &[Mark]) -> Vec<String> {
        let costs = |cost: Cost| marks.iter().any(|it| it.cost == cost);
        let cases = [
            (self.n_all == 0 || self.n_cold == 0, "nothing was asked".to_owned()),
            (
                n_needless_retries > 0,
                format!("{n_needless_retries} got no answer from a router that nobody took away"),
            ),
            (costs(Cost::Retries) && self.n_retried == 0, "nobody missed the router".to_owned()),
            (costs(Cost::Hints) && self.n_hinted == 0, "nobody missed the store".to_owned()),
        ];
        cases.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| what).collect()
    }

    /// Whether every invocation was served, or was refused as it may be, and nothing else surprised.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.surprises.is_empty()
    }

    /// Fails the test unless every invocation was served, or was refused as it may be, and the
    /// cluster recovered from everything that was done to it, with time to spare.
    #[track_caller]
    pub fn expect_survival(&self) {
        assert!(self.is_clean(), "{}", self.complaints());
        for Row { what, aim, recovery, window } in &self.rows {
            let is_within = aim.bound(*window).is_none_or(|bound| *recovery <= bound);
            assert!(is_within, "{what}: {recovery:?} of {window:?} until it settled: {self}");
        }
    }

    /// What went wrong, in words; empty if nothing did.
    pub fn complaints(&self) -> String {
        let failed = self.failed.iter().take(MAX_SHOWN).map(|it| format!("failed: {it}"));
        let lines = failed.chain(self.surprises.iter().cloned());
        let lines: Vec<String> = lines.map(|line| format!("    {}: {line}", self.name)).collect();
        lines.join("\n")
    }

    fn recoveries(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            // Things that are done again and again have one entry each.
            if !names.contains(&&*row.what) {
                names.push(&row.what);
            }
        }
        let entries = names.into_iter().map(|name| {
            let those = self.rows.iter().filter(|it| it.what == name);
            let mut times: Vec<_> = those.map(|it| it.recovery.as_millis()).collect();
            times.sort_unstable();
            match &*times {
                [.., longest] if times.len() > 1 => {
                    let (n, median) = (times.len(), times[times.len() / 2]);
                    format!("{name}: {longest} ms (longest of {n}; median {median} ms)")
                }
                [only] => format!("{name}: {only} ms"),
                _ => String::new(),
            }
        });
        entries.collect::<Vec<_>>().join("; ")
    }

    fn met(&self) -> &'static str {
        let mut aims = self.rows.iter().filter_map(|it| Some((it.aim.figure()?, it.recovery)));
        if !self.is_clean() {
            "**no**"
        } else if aims.clone().any(|(figure, recovery)| recovery > figure) {
            "missed"
        } else if aims.next().is_some() {
            "met"
        } else {
            "–"
        }
    }
}

fn row(mark: &Mark, window: Window, records: &[Record], judge: &Judge) -> Row {
    let last = records.iter().map(|it| it.due).max().unwrap_or(mark.at);
    let end = window.end.unwrap_or(last);
    Row {
        what: mark.what.clone(),
        aim: mark.aim,
        recovery: judge.recovery(records.iter().filter(|it| window.counts(it)), mark.at),
        window: end.saturating_duration_since(mark.at),
    }
}

/// As a row of the table in docs/reliability.md.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, n_all, n_cold, failed, n_hinted, n_retried, n_disturbed, .. } = self;
        let held_up = match self.n_held_up {
            0 => String::new(),
            n => format!(" (and {n} by the machine)"),
        };
        let aims = self.rows.iter().map(|it| it.aim);
        let aim = aims.clone().find(|it| it.figure().is_some()).unwrap_or(Aim::Settles);
        write!(
            f,
            "| {name} | {n_all} ({n_cold} cold) | {} | {n_retried} | {n_hinted} | \
             {n_disturbed}{held_up} | {} | {} ms | {aim} | {} |",
            failed.len(),
            self.recoveries(),
            self.longest.as_millis(),
            self.met()
        )
    }
}
