//! What one result changed against another.

use super::{
    progress::{millis, rounded, thousands},
    result::{Latency, LoadResult, PlanSummary},
};
use std::fmt::Write as _;

/// Smaller changes are what two runs of the same thing differ by.
const NOISE: f64 = 0.05;

/// Two results side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was planned differently: then the figures are not of the same load.
    pub differences: Vec<Difference>,
    pub rows: Vec<Row>,
}

/// Something that was planned differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: &'static str,
    pub before: String,
    pub after: String,
}

/// A figure of both results.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub what: &'static str,
    pub before: String,
    pub after: String,
    /// Relative; `None` where there was nothing before.
    pub change: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// Hardly changed, or neither is better.
    Same,
}

/// Which way is better.
#[derive(Clone, Copy)]
enum Wanted {
    More,
    Less,
}

impl Comparison {
    pub fn new(before: &LoadResult, after: &LoadResult) -> Self {
        let pairs = figures(before).into_iter().zip(figures(after));
        let rows = pairs.map(|(before, after)| row(&before, &after));
        Self { differences: differences(&before.plan, &after.plan), rows: rows.collect() }
    }

    /// Writes it for the terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        for Difference { what, before, after } in &self.differences {
            let _ = writeln!(text, "  note: not the same {what}: {before} → {after}");
        }
        let _ = writeln!(text, "\n  {:<28}{:>14}{:>14}{:>10}", "", "before", "after", "change");
        for Row { what, before, after, change, verdict } in &self.rows {
            let change = percent(*change);
            let verdict = match verdict {
                Verdict::Better => "  better",
                Verdict::Worse => "  worse",
                Verdict::Same => "",
            };
            let _ = writeln!(text, "  {what:<28}{before:>14}{after:>14}{change:>10}{verdict}");
        }
        text
    }
}

/// A change for people: `+12.3 %`.
pub(super) fn percent(change: Option<f64>) -> String {
    change.map_or_else(|| "–".to_owned(), |change| format!("{:+.1} %", change * 100.0))
}

struct Figure {
    what: &'static str,
    /// Not a number: there is none.
    value: f64,
    text: String,
    wanted: Wanted,
}

fn figures(result: &LoadResult) -> Vec<Figure> {
    let totals = &result.totals;
    let count = |what, n: u64, wanted| Figure { what, value: float(n), text: thousands(n), wanted };
    let number = |what, value: f64, text, wanted| Figure { what, value, text, wanted };
    let mut figures = vec![
        number("good answers a second", result.rate, thousands(rounded(result.rate)), Wanted::More),
        count("due", totals.n_due, Wanted::More),
        count("answered late", totals.n_late, Wanted::Less),
        count("failed", totals.n_failed, Wanted::Less),
        count("unavailable (503)", totals.n_unavailable, Wanted::Less),
        count("not sent", totals.n_not_sent, Wanted::Less),
        count("sent again", totals.n_retried, Wanted::Less),
    ];
    // A file says any number.
    let n_with_cache = totals.n_hits.saturating_add(totals.n_misses).max(1);
    let hit_share = float(totals.n_hits) / float(n_with_cache);
    let text = format!("{:.2} %", hit_share * 100.0);
    figures.push(number("share of hits", hit_share, text, Wanted::More));
    let mut latencies = |names: [&'static str; 4], latency: &Latency| {
        let Latency { n, p50_ms, p99_ms, p999_ms, max_ms, .. } = *latency;
        for (what, ms) in names.into_iter().zip([p50_ms, p99_ms, p999_ms, max_ms]) {
            let (value, text) = if n > 0 { (ms, millis(ms)) } else { (f64::NAN, "–".to_owned()) };
            figures.push(number(what, value, text, Wanted::Less));
        }
    };
    latencies(["latency p50", "latency p99", "latency p99.9", "latency max"], &result.latency);
    latencies(["hits p50", "hits p99", "hits p99.9", "hits max"], &result.latency_hits);
    latencies(["misses p50", "misses p99", "misses p99.9", "misses max"], &result.latency_misses);
    let largest = result.instances.iter().map(|row| row.share).fold(0.0, f64::max);
    let text = format!("{:.1} %", largest * 100.0);
    figures.push(number("share of the busiest instance", largest, text, Wanted::Less));
    let cpu = result.driver.cpu_seconds_per_100k;
    figures.push(number("driver's CPU per 100,000", cpu, format!("{cpu:.2} s"), Wanted::Less));
    figures
}

fn row(before: &Figure, after: &Figure) -> Row {
    let (old, new) = (before.value, after.value);
    let change = if old > 0.0 { Some(new / old - 1.0) } else { (new <= 0.0).then_some(0.0) };
    let change = change.filter(|change| !change.is_nan());
    let is_noise = change.is_some_and(|change| change.abs() < NOISE);
    let verdict = match after.wanted {
        _ if is_noise || old.is_nan() || new.is_nan() => Verdict::Same,
        Wanted::More if new > old => Verdict::Better,
        Wanted::Less if new < old => Verdict::Better,
        Wanted::More | Wanted::Less => Verdict::Worse,
    };
    let (before_text, after_text) = (before.text.clone(), after.text.clone());
    Row { what: before.what, before: before_text, after: after_text, change, verdict }
}

fn differences(before: &PlanSummary, after: &PlanSummary) -> Vec<Difference> {
    let pairs = before.texts().into_iter().zip(after.texts());
    let pairs = pairs.filter(|((_, before), (_, after))| before != after);
    pairs.map(|((what, before), (_, after))| Difference { what, before, after }).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a comparison needs no more than 53 bits")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::result;

    fn find<'a>(comparison: &'a Comparison, what: &str) -> &'a Row {
        comparison.rows.iter().find(|row| row.what == what).unwrap()
    }

    #[test]
    fn same_result_is_the_same() {
        let comparison = Comparison::new(&result(), &result());
        assert_eq!(comparison.differences, []);
        assert!(comparison.rows.iter().all(|row| row.verdict == Verdict::Same), "{comparison:?}");
    }

    #[test]
    fn more_is_better_for_rates_and_less_for_latencies() {
        let mut after = result();
        after.rate *= 1.5;
        after.latency.p99_ms *= 2.0;
        after.latency.p50_ms *= 1.01;
        after.totals.n_not_sent = 7;
        let comparison = Comparison::new(&result(), &after);
        let rate = find(&comparison, "good answers a second");
        assert_eq!((rate.verdict, percent(rate.change)), (Verdict::Better, "+50.0 %".to_owned()));
        assert_eq!(find(&comparison, "latency p99").verdict, Verdict::Worse);
        assert_eq!(find(&comparison, "latency p50").verdict, Verdict::Same);
        // There was none before.
        let not_sent = find(&comparison, "not sent");
        assert_eq!((not_sent.verdict, not_sent.change), (Verdict::Worse, None));
    }

    #[test]
    fn where_one_run_has_no_figure_nothing_is_better() {
        let mut after = result();
        after.latency_misses = Latency::default();
        for (before, after) in [(result(), after.clone()), (after, result())] {
            let comparison = Comparison::new(&before, &after);
            let row = find(&comparison, "misses p99");
            assert_eq!((row.verdict, row.change), (Verdict::Same, None), "{row:?}");
            assert!(row.before == "–" || row.after == "–", "{row:?}");
        }
    }

    #[test]
    fn a_file_that_says_absurd_numbers_is_compared() {
        let mut absurd = result();
        (absurd.totals.n_hits, absurd.totals.n_misses) = (u64::MAX, u64::MAX);
        assert!(!Comparison::new(&absurd, &result()).table().is_empty());
    }

    #[test]
    fn different_loads_are_told() {
        let mut after = result();
        after.plan.seed += 1;
        after.plan.pace = "open loop, 5 /s".to_owned();
        after.plan.is_signed = true;
        after.plan.n_routers += 1;
        after.plan.max_in_flight += 1;
        after.plan.answer_timeout_s += 1.0;
        after.plan.bodies[0].content_type = Some("image/png".to_owned());
        let comparison = Comparison::new(&result(), &after);
        let what: Vec<_> = comparison.differences.iter().map(|it| it.what).collect();
        assert_eq!(
            what,
            [
                "number of routers",
                "pace",
                "bodies",
                "at most in flight",
                "time-out",
                "signed",
                "seed"
            ]
        );
        assert!(comparison.table().contains("note: not the same seed"));
    }
}
