//! How the demo's results look.

use super::{
    classes::{Class, is_real},
    tally::Tally,
};
use crate::client::Answer;
use std::fmt::Write as _;

/// One model, asked twice.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) model: String,
    pub(super) cold: Answer,
    pub(super) warm: Answer,
    pub(super) classes: Vec<Class>,
}

/// A line per model: latencies, where, what. Of the real models, all five classes.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.model.len()).max().unwrap_or_default();
    let mut text = format!(
        "\n  {:width$}  {:>9}  {:>9}  {:10}  {}\n",
        "model", "cold ms", "warm ms", "instance", "top class"
    );
    for Row { model, cold, warm, classes } in rows {
        let (cold_ms, warm_ms) = (millis(cold), millis(warm));
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "  {model:width$}  {cold_ms:>9.1}  {warm_ms:>9.1}  {:10}  {}",
            warm.instance(),
            one(&classes[0])
        );
        let others = if is_real(model) { &classes[1..] } else { &[] };
        for class in others {
            let _ = writeln!(text, "  {:width$}  {:33}  {}", "", "", one(class));
        }
    }
    text
}

pub(super) fn tally(tally: &Tally) -> String {
    let mut text = String::from("\n  top class\n");
    for (class, n) in tally.classes() {
        let _ = writeln!(text, "  {n:>5}  {class}");
    }
    text.push_str("  instance\n");
    for (instance, n) in tally.instances() {
        let _ = writeln!(text, "  {n:>5}  {instance}");
    }
    text
}

pub(super) fn homes(tally: &Tally) -> String {
    let mut text = String::from("\n");
    for (instance, models) in tally.models_by_home() {
        let _ = writeln!(text, "  {instance}: {}", models.join(", "));
    }
    text
}

fn one(class: &Class) -> String {
    format!("{:.4} {}", class.probability, class.name)
}

fn millis(answer: &Answer) -> f64 {
    answer.elapsed.as_secs_f64() * 1e3
}
