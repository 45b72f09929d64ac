//! The page of a comparison: the table, and both plots of latency.

use super::{
    document,
    html::{escape, section},
    plots,
};
use crate::load::{
    compare::{Comparison, Difference, Row, Verdict, percent},
    result::LoadResult,
};

/// Writes the page of a comparison.
pub fn comparison_page(before: &LoadResult, after: &LoadResult, comparison: &Comparison) -> String {
    let notes = comparison.differences.iter().map(|Difference { what, before, after }| {
        let note = format!("Not the same {what}: {before} → {after}");
        format!("<p class=\"warning\">{}</p>\n", escape(&note))
    });
    let rows = comparison.rows.iter().map(|Row { what, before, after, change, verdict }| {
        let class = match verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Same => "",
        };
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td></tr>",
            escape(what),
            escape(before),
            escape(after),
            escape(&percent(*change))
        )
    });
    let table = format!(
        "<div class=\"wide\"><table><thead><tr><th></th><th>before</th><th>after</th><th>change</th>\
         </tr></thead><tbody>{}</tbody></table></div>",
        rows.collect::<String>()
    );
    let hint = "Changes below 5 % are what two runs of the same thing differ by.";
    let plot = |id, title, result: &LoadResult| {
        let over_time = plots::latency_over_time(&result.timeline);
        section(id, title, "Latency over time.", &over_time)
    };
    let body = [
        notes.collect(),
        section("comparison", "Comparison", hint, &table),
        plot("before", "Before", before),
        plot("after", "After", after),
    ];
    let subtitle = format!("{} → {}", before.plan.pace, after.plan.pace);
    document("Two loads compared", &subtitle, &body.concat())
}
