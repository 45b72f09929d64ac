//! A result as a table, for the terminal.

use super::{
    progress::{millis, rounded, thousands},
    result::{Latency, LoadResult, Totals},
};
use std::fmt::Write as _;

/// More would not be read: the page has them all.
const MAX_ROWS: usize = 10;

/// Writes what a run came to.
pub(super) fn table(result: &LoadResult) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write_head(&mut text, result);
    let _ = write_latencies(&mut text, result);
    let _ = write_shares(&mut text, result);
    let _ = write_errors(&mut text, result);
    let _ = write_driver(&mut text, result);
    text
}

fn write_head(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    let LoadResult { plan, totals, .. } = result;
    let ended = if result.is_interrupted { ", ended early" } else { "" };
    writeln!(
        text,
        "\n{} for {:.1} s{ended}; {} of {} models asked, {}; seed {}\n",
        plan.pace,
        result.seconds,
        result.models.n_asked,
        plan.n_targets,
        plan.popularity,
        plan.seed
    )?;
    writeln!(
        text,
        "  {:<12}{} due, {} ok: {} /s{}",
        "invocations",
        thousands(totals.n_due),
        thousands(totals.n_ok),
        thousands(rounded(result.rate)),
        late(totals),
    )?;
    let bad = bad(totals);
    if !bad.is_empty() {
        writeln!(text, "  {:<12}{bad}", "")?;
    }
    left_out(result).map_or(Ok(()), |left_out| writeln!(text, "  {:<12}{left_out}", "trace"))
}

/// What of the good answers is not in the rate, in words.
pub(super) fn late(totals: &Totals) -> String {
    match totals.n_late {
        0 => String::new(),
        n => format!("; {} came later", thousands(n)),
    }
}

/// What of a trace was not asked, in words.
pub(super) fn left_out(result: &LoadResult) -> Option<String> {
    let n = result.n_left_out;
    let words = || format!("{} of its entries were left out: the run ended before", thousands(n));
    (n > 0).then(words)
}

/// What was not answered well, in words.
pub(super) fn bad(totals: &Totals) -> String {
    let counts = [
        (totals.n_failed, "failed"),
        (totals.n_unavailable, "unavailable (503 with retry hint)"),
        (totals.n_not_sent, "not sent: too many in flight"),
        (totals.n_abandoned, "in flight at the end"),
        (totals.n_retried, "sent again to another router"),
    ];
    let counts = counts.into_iter().filter(|(n, _)| *n > 0);
    let words: Vec<String> = counts.map(|(n, what)| format!("{} {what}", thousands(n))).collect();
    words.join(", ")
}

fn write_latencies(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    write!(text, "\n  {:<12}{:>10}", "latency", "n")?;
    for head in heads {
        write!(text, "{head:>11}")?;
    }
    writeln!(text)?;
    let rows: [(&str, &Latency); 5] = [
        ("all", &result.latency),
        ("hits", &result.latency_hits),
        ("misses", &result.latency_misses),
        ("failures", &result.latency_failed),
        ("from sent", &result.service),
    ];
    for (name, latency) in rows {
        if latency.n == 0 {
            continue;
        }
        write!(text, "  {name:<12}{:>10}", thousands(latency.n))?;
        let Latency { p50_ms, p90_ms, p99_ms, p999_ms, p9999_ms, max_ms, .. } = latency;
        for value in [p50_ms, p90_ms, p99_ms, p999_ms, p9999_ms, max_ms] {
            write!(text, "{:>11}", millis(*value))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_shares(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    let totals = &result.totals;
    if totals.n_hits + totals.n_misses > 0 {
        let (hits, misses) = (thousands(totals.n_hits), thousands(totals.n_misses));
        write!(text, "\n  {:<12}{hits} hits, {misses} misses", "cache")?;
        if totals.n_cold > 0 {
            write!(text, "; {} asked a model for the first time", thousands(totals.n_cold))?;
        }
        writeln!(text)?;
    }
    let mut label = "instances";
    for row in result.instances.iter().take(MAX_ROWS) {
        let name = if row.instance.is_empty() { "(unnamed)" } else { &row.instance };
        writeln!(text, "  {label:<12}{name}  {:.1} %", row.share * 100.0)?;
        label = "";
    }
    let n_more = result.instances.len().saturating_sub(MAX_ROWS);
    if n_more > 0 { writeln!(text, "  {:<12}and {n_more} more", "") } else { Ok(()) }
}

fn write_errors(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    let mut label = "errors";
    for row in result.errors.iter().take(MAX_ROWS) {
        let (first, last) = (row.first_ms / 1e3, row.last_ms / 1e3);
        let n = thousands(row.n);
        writeln!(text, "  {label:<12}{n:>8}  {}  ({first:.1} s to {last:.1} s)", row.kind)?;
        let example: String = row.example.chars().filter(|it| !it.is_control()).take(160).collect();
        if !example.is_empty() {
            writeln!(text, "  {:<12}          {example}", "")?;
        }
        label = "";
    }
    Ok(())
}

fn write_driver(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    let driver = &result.driver;
    writeln!(
        text,
        "  {:<12}{:.2} of a core ({:.0} % of {} cores), {:.2} s per 100,000; sent {} after due \
         (p99)",
        "driver",
        driver.core_share,
        driver.machine_share * 100.0,
        driver.n_cores,
        driver.cpu_seconds_per_100k,
        millis(result.lag.p99_ms),
    )?;
    if let Some(warning) = warning(result) {
        writeln!(text, "  {:<12}{warning}", "")?;
    }
    Ok(())
}

/// Says when it was the driver that was measured.
pub(super) fn warning(result: &LoadResult) -> Option<&'static str> {
    /// Of the one core that sends.
    const BUSY: f64 = 0.9;
    let is_late = result.lag.p50_ms > 1.0 && result.lag.p50_ms > 0.2 * result.latency.p50_ms;
    if result.driver.core_share > BUSY {
        return Some("warning: the driver was at its limit; rate and latency are partly its own");
    }
    is_late.then_some(
        "warning: the machine was too busy to send in time; rate and latency are partly the driver's",
    )
}
