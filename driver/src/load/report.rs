//! The page of a result: one file, plots and all, nothing from elsewhere, no scripts.

mod html;
mod svg;
mod plots;
mod comparison;

use super::{
    progress::{millis, rounded, thousands},
    result::{Latency, LoadResult, ModelRow},
    table,
};
pub use comparison::comparison_page;
use html::{escape, section};

const STYLE: &str = include_str!("report/style.css");

/// What a browser may do with the page: show it. Its own styles, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// More rows are for the JSON.
const MAX_MODELS: usize = 50;
const MAX_FAILURES: usize = 100;

/// Writes the page of a result.
pub fn page(result: &LoadResult) -> String {
    let plan = &result.plan;
    let subtitle = format!(
        "{} for {:.1} s · {} of {} models, {} · seed {}",
        plan.pace,
        result.seconds,
        thousands(result.models.n_asked as u64),
        thousands(plan.n_targets as u64),
        plan.popularity,
        plan.seed
    );
    let title = format!("Load on {}", plan.endpoint);
    let sections = [
        tiles(result),
        warnings(result),
        latencies(result),
        hits(result),
        instances(result),
        models(result),
        errors(result),
        driver(result),
        planned(result),
    ];
    document(&title, &subtitle, &sections.concat())
}

fn document(title: &str, subtitle: &str, body: &str) -> String {
    let (title, subtitle) = (escape(title), escape(subtitle));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>\
         <p class=\"sub\">{subtitle}</p>\n{body}<footer>Manifold {}, <code>manifold load</code></footer>\
         </main></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn tiles(result: &LoadResult) -> String {
    let totals = &result.totals;
    let share = |n: u64| percent(n, totals.n_hits + totals.n_misses);
    let rate = format!("good answers a second{}", table::late(totals));
    let tiles = [
        ("", thousands(rounded(result.rate)), rate),
        ("", millis(result.latency.p50_ms), "latency p50".to_owned()),
        ("", millis(result.latency.p99_ms), "latency p99".to_owned()),
        ("", millis(result.latency.max_ms), "latency max".to_owned()),
        ("", share(totals.n_hits), format!("hits; {} misses", thousands(totals.n_misses))),
        (
            if totals.n_bad() > 0 { " bad" } else { "" },
            thousands(totals.n_bad()),
            format!("of {} not answered well", thousands(totals.n_due)),
        ),
    ];
    let tiles = tiles.map(|(class, number, what)| {
        format!(
            "<div class=\"tile{class}\"><b>{}</b><span>{}</span></div>",
            escape(&number),
            escape(&what)
        )
    });
    format!("<div class=\"tiles\" id=\"summary\">{}</div>\n", tiles.concat())
}

fn warnings(result: &LoadResult) -> String {
    let ended = result.is_interrupted.then_some("The run was ended early.");
    let left_out = table::left_out(result).map(|text| format!("The trace: {text}."));
    let all = [ended.map(str::to_owned), left_out, table::warning(result).map(str::to_owned)];
    let all = all.into_iter().flatten();
    let all = all.map(|text| format!("<p class=\"warning\">{}</p>\n", escape(&text)));
    all.collect::<Vec<_>>().concat()
}

fn latencies(result: &LoadResult) -> String {
    let over_time = section(
        "latency",
        "Latency over time",
        "From when an invocation was due until it was answered well, in the slot of time in which it was due.",
        &plots::latency_over_time(&result.timeline),
    );
    let heads = ["", "n", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let rows: [(&str, &Latency); 6] = [
        ("all", &result.latency),
        ("hits", &result.latency_hits),
        ("misses", &result.latency_misses),
        ("failures", &result.latency_failed),
        ("from when sent", &result.service),
        ("the driver's own delay", &result.lag),
    ];
    let rows = rows.into_iter().filter(|(_, latency)| latency.n > 0).map(|(name, latency)| {
        let Latency { n, mean_ms, p50_ms, p90_ms, p99_ms, p999_ms, p9999_ms, max_ms, .. } =
            *latency;
        let values = [mean_ms, p50_ms, p90_ms, p99_ms, p999_ms, p9999_ms, max_ms].map(millis);
        [name.to_owned(), thousands(n)].into_iter().chain(values).collect::<Vec<_>>()
    });
    let rows: Vec<_> = rows.collect();
    let body = plots::percentiles(result) + &html::table(&heads, &rows);
    let hint = "How many answers came within which latency.";
    over_time + &section("percentiles", "Percentiles", hint, &body)
}

fn hits(result: &LoadResult) -> String {
    let totals = &result.totals;
    let n_said = totals.n_hits + totals.n_misses;
    let row = |name: &str, n: u64, class| {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
        let share = n as f64 / n_said.max(1) as f64;
        (name.to_owned(), share, format!("{}  ·  {}", percent(n, n_said), thousands(n)), class)
    };
    let rows = [row("hits", totals.n_hits, "hits"), row("misses", totals.n_misses, "misses")];
    let body = plots::answers_over_time(&result.timeline) + &plots::shares(&rows);
    let hint =
        "What became of the invocations that were due; and, as a line, when good answers came.";
    section("hits", "Hits and misses", hint, &body)
}

fn instances(result: &LoadResult) -> String {
    let hint = "Which instance answered, of all good answers.";
    section("instances", "Instances", hint, &plots::instances(&result.instances))
}

fn models(result: &LoadResult) -> String {
    let models = &result.models;
    let row = |row: &ModelRow| {
        let answered = row.n_hits + row.n_misses;
        let cells = [
            thousands(row.n_due),
            percent(row.n_due, result.totals.n_due),
            thousands(row.n_misses),
            thousands(row.n_failed),
            if answered > 0 { millis(row.mean_ms) } else { "–".to_owned() },
            if answered > 0 { millis(row.max_ms) } else { "–".to_owned() },
        ];
        [row.model.clone()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let heads = ["model", "asked", "share", "misses", "failed", "mean", "max"];
    let rows: Vec<_> = models.listed.iter().take(MAX_MODELS).map(row).collect();
    let n_more = models.n_asked - rows.len().min(models.n_asked);
    let more = if n_more == 0 {
        String::new()
    } else {
        format!("<p class=\"hint\">and {} more</p>", thousands(n_more as u64))
    };
    let body = plots::heat(&result.heat) + &html::table(&heads, &rows) + &more;
    let hint = "How often the most asked models were asked, over the time of the run.";
    section("models", "Heat by model", hint, &body)
}

fn errors(result: &LoadResult) -> String {
    let seconds = |ms: f64| format!("{:.2} s", ms / 1e3);
    let rows = result.errors.iter().map(|row| {
        let example: String = row.example.chars().take(200).collect();
        let name =
            if example.is_empty() { row.kind.clone() } else { format!("{}: {example}", row.kind) };
        [name, thousands(row.n), seconds(row.first_ms), seconds(row.last_ms)]
    });
    let rows: Vec<_> = rows.collect();
    let body = if rows.is_empty() {
        "<p>None.</p>".to_owned()
    } else {
        let failures = result.failures.iter().take(MAX_FAILURES).map(|row| {
            let (due, ended) = (seconds(row.due_ms), seconds(row.ended_ms));
            [row.model.clone(), due, ended, row.router.clone(), row.kind.clone()]
        });
        let failures: Vec<_> = failures.collect();
        let first = html::table(&["model", "due", "ended", "router", "failure"], &failures);
        html::table(&["kind", "n", "first due", "last due"], &rows)
            + "<details><summary>The first of them, one by one</summary>"
            + &first
            + "</details>"
    };
    section("errors", "Errors", "By kind, each with what the first one said.", &body)
}

fn driver(result: &LoadResult) -> String {
    let driver = &result.driver;
    let rows = [
        ["of one core".to_owned(), format!("{:.1} %", driver.core_share * 100.0)],
        [
            format!("of the machine's {} cores", driver.n_cores),
            format!("{:.1} %", driver.machine_share * 100.0),
        ],
        ["CPU seconds".to_owned(), format!("{:.2}", driver.cpu_seconds)],
        ["CPU seconds per 100,000".to_owned(), format!("{:.2}", driver.cpu_seconds_per_100k)],
        ["sent after due, p99".to_owned(), millis(result.lag.p99_ms)],
    ];
    let routers = result.routers.iter().map(|row| {
        let cells = [row.n_sent, row.n_unanswered, row.n_connections].map(thousands);
        [row.router.clone()].into_iter().chain(cells).collect::<Vec<_>>()
    });
    let routers: Vec<_> = routers.collect();
    let body = html::table(&["the driver itself", ""], &rows)
        + &html::table(&["router", "sent", "unanswered", "connections"], &routers);
    let hint = "What sending took. Near a whole core, it was the driver that was measured.";
    section("driver", "Driver and routers", hint, &body)
}

fn planned(result: &LoadResult) -> String {
    let more = [
        ("sent again", thousands(result.totals.n_retried)),
        ("started (ms since 1970)", result.started_at_ms.to_string()),
    ];
    let rows = result.plan.texts().into_iter().chain(more);
    let rows: Vec<_> = rows.map(|(what, text)| [what.to_owned(), text]).collect();
    let hint = "The same plan asks for the same models at the same times.";
    section("plan", "Plan", hint, &html::table(&["what", ""], &rows))
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    let share = part as f64 / whole.max(1) as f64;
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
pub(super) mod tests;
