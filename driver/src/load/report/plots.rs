//! The plots of a report: latency over time, percentiles, answers over time, shares, heat.

use super::{
    html::{escape, legend},
    svg::{Axis, Plot},
};
use crate::load::{
    progress::{millis, rounded, thousands},
    result::{Heat, InstanceRow, Latency, LoadResult, SlotRow, Timeline},
};
use std::fmt::Write as _;

/// A colour, a name, and what it is of a slot.
type Series<T> = (&'static str, &'static str, fn(&SlotRow) -> T);

/// Colours of the percentiles over time.
const PERCENTILES: [Series<f64>; 4] = [
    ("p50", "p50", |slot| slot.p50_ms),
    ("p90", "p90", |slot| slot.p90_ms),
    ("p99", "p99", |slot| slot.p99_ms),
    ("max", "max", |slot| slot.max_ms),
];

/// What becomes of invocations, from the bottom of a bar to its top.
const PARTS: [Series<u64>; 6] = [
    ("hits", "hits", |slot| slot.n_hits),
    ("misses", "misses", |slot| slot.n_misses),
    ("unsaid", "ok, not said whether hit", |slot| slot.n_ok - slot.n_hits - slot.n_misses),
    ("unavailable", "unavailable (503)", |slot| slot.n_unavailable),
    ("failed", "failed", |slot| slot.n_failed),
    ("notsent", "not sent", |slot| slot.n_not_sent),
];

fn seconds(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn whole(value: f64) -> String {
    if value.fract().abs() < 1e-9 { thousands(rounded(value)) } else { format!("{value:.1}") }
}

/// Powers of ten: no more digits than they have.
fn short_millis(value: f64) -> String {
    if value >= 1_000.0 {
        format!("{} s", value / 1e3)
    } else {
        format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned() + " ms"
    }
}

fn span_s(timeline: &Timeline) -> f64 {
    let n = u32::try_from(timeline.slots.len()).unwrap_or(u32::MAX);
    timeline.slot_ms * f64::from(n) / 1e3
}

pub(super) fn latency_over_time(timeline: &Timeline) -> String {
    let values: Vec<f64> =
        timeline.slots.iter().flat_map(|slot| PERCENTILES.map(|(_, _, of)| of(slot))).collect();
    let x = Axis::exact(span_s(timeline), "seconds since the start, when due", seconds);
    let mut plot = Plot::new(x, Axis::log(&values, "latency", short_millis));
    for (class, _, of) in PERCENTILES.into_iter().rev() {
        let points = timeline.slots.iter().map(|slot| {
            let middle = (slot.at_ms + timeline.slot_ms / 2.0) / 1e3;
            (slot.n_ok > 0).then_some((middle, of(slot)))
        });
        plot.line(class, points);
    }
    let names = PERCENTILES.map(|(class, name, _)| (class, name));
    legend(&names) + &plot.finish("latency over time")
}

pub(super) fn percentiles(result: &LoadResult) -> String {
    let curves: [(&str, &str, &Latency); 4] = [
        ("p99", "all, from when due", &result.latency),
        ("hits", "hits", &result.latency_hits),
        ("misses", "misses", &result.latency_misses),
        ("max", "all, from when sent", &result.service),
    ];
    let curves: Vec<_> = curves.into_iter().filter(|(_, _, latency)| latency.n > 0).collect();
    let points = |latency: &Latency| latency.curve.clone();
    let values: Vec<f64> =
        curves.iter().flat_map(|(_, _, latency)| points(latency)).map(|point| point.1).collect();
    let n_nines = curves.iter().map(|(_, _, latency)| nines(latency)).fold(1.0, f64::max);
    let ticks = [(0.0, "0"), (0.301, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %")];
    let more = [(4.0, "99.99 %"), (5.0, "99.999 %"), (6.0, "99.9999 %")];
    let ticks = ticks.into_iter().chain(more).filter(|(at, _)| *at <= n_nines);
    let ticks = ticks.map(|(at, text)| (at, text.to_owned())).collect();
    let x = Axis::with_ticks(n_nines, "share of answers that came within the latency", ticks);
    let mut plot = Plot::new(x, Axis::log(&values, "latency", short_millis));
    for (class, _, latency) in curves.iter().rev() {
        let end = nines(latency);
        let points = points(latency).into_iter();
        plot.line(
            class,
            points.map(|(quantile, ms)| Some((-(1.0 - quantile).log10().max(-end), ms))),
        );
    }
    let names: Vec<_> = curves.iter().map(|(class, name, _)| (*class, *name)).collect();
    legend(&names) + &plot.finish("percentiles of latency")
}

/// So many nines can be told by so many answers.
fn nines(latency: &Latency) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is about the order of magnitude")]
    let n = latency.n.max(2) as f64;
    n.log10()
}

pub(super) fn answers_over_time(timeline: &Timeline) -> String {
    let per_second = 1e3 / timeline.slot_ms.max(1e-9);
    #[expect(clippy::cast_precision_loss, reason = "a plot needs no more than 53 bits")]
    let rate = |n: u64| n as f64 * per_second;
    let highest = timeline.slots.iter().map(|slot| slot.n_due).max().unwrap_or_default();
    let x = Axis::exact(span_s(timeline), "seconds since the start, when due", seconds);
    let mut plot = Plot::new(x, Axis::linear(rate(highest), "invocations a second", whole));
    for slot in &timeline.slots {
        let x = (slot.at_ms / 1e3, (slot.at_ms + timeline.slot_ms) / 1e3);
        let mut n_below = 0;
        for (class, name, of) in PARTS {
            let n = of(slot);
            let title = format!("{:.1} s: {n} {name}", x.0);
            plot.bar(class, x, (rate(n_below), rate(n_below + n)), &title);
            n_below += n;
        }
    }
    plot.line(
        "answered",
        timeline
            .slots
            .iter()
            .map(|slot| Some(((slot.at_ms + timeline.slot_ms / 2.0) / 1e3, rate(slot.n_answered)))),
    );
    let used = PARTS.into_iter().filter(|(_, _, of)| timeline.slots.iter().any(|it| of(it) > 0));
    let mut names: Vec<_> = used.map(|(class, name, _)| (class, name)).collect();
    names.push(("answered", "good answers, when they came"));
    legend(&names) + &plot.finish("answers over time")
}

/// A bar for each part of a whole, with its name and number.
pub(super) fn shares(rows: &[(String, f64, String, &str)]) -> String {
    let rows = rows.iter().map(|(name, share, text, class)| {
        let percent = (share * 100.0).clamp(0.0, 100.0);
        format!(
            "<div class=\"share\"><span class=\"name\">{}</span><span class=\"track\">\
             <span class=\"fill {class}\" style=\"width:{percent:.2}%\"></span></span>\
             <span class=\"number\">{}</span></div>",
            escape(name),
            escape(text)
        )
    });
    rows.collect()
}

pub(super) fn instances(rows: &[InstanceRow]) -> String {
    let share = |row: &InstanceRow| {
        let name = if row.instance.is_empty() { "(not named)" } else { &row.instance };
        let (percent, n) = (row.share * 100.0, thousands(row.n_ok));
        let text = format!("{percent:.1} %  ·  {n}  ·  mean {}", millis(row.mean_ms));
        (name.to_owned(), row.share, text, "p99")
    };
    shares(&rows.iter().map(share).collect::<Vec<_>>())
}

/// A row for each model, a column for each stretch of time, the darker the more it was asked.
pub(super) fn heat(heat: &Heat) -> String {
    const CELL: (f64, f64) = (11.0, 15.0);
    const NAME: f64 = 280.0;
    const MAX_CHARS: usize = 40;
    let highest = heat.rows.iter().flat_map(|row| &row.counts).max().copied().unwrap_or(0).max(1);
    let n_columns = heat.rows.first().map_or(0, |row| row.counts.len());
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let (width, height) = (NAME + count(n_columns) * CELL.0, count(heat.rows.len()) * CELL.1 + 4.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"heat by model\">"
    );
    for (row_idx, row) in heat.rows.iter().enumerate() {
        let y = count(row_idx) * CELL.1;
        let n_chars = row.model.chars().count();
        // The end of a name tells more than the folders before it.
        let end: String = row.model.chars().skip(n_chars.saturating_sub(MAX_CHARS)).collect();
        let name = if n_chars > MAX_CHARS { format!("…{end}") } else { end };
        // Writing into a string cannot fail.
        let _ = write!(
            svg,
            "<text class=\"tick end\" x=\"{:.0}\" y=\"{:.1}\">{}<title>{}</title></text>",
            NAME - 8.0,
            y + 11.0,
            escape(&name),
            escape(&row.model)
        );
        for (column, n) in row.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            // By the root, so that what is asked a tenth as often can still be seen.
            let opacity = (f64::from(*n) / f64::from(highest)).sqrt().max(0.06);
            let at = heat.column_ms * count(column) / 1e3;
            let _ = write!(
                svg,
                "<rect class=\"heat\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill-opacity=\"{opacity:.2}\"><title>{}: {n} from {at:.1} s</title></rect>",
                NAME + count(column) * CELL.0,
                y + 1.0,
                CELL.0 - 1.0,
                CELL.1 - 2.0,
                escape(&row.model)
            );
        }
    }
    svg + "</svg>"
}
