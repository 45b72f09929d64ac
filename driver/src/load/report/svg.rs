//! Plots as SVG: axes that end at round numbers, lines, stacked bars. No scripts; colours are the
//! page's classes.

use super::html::escape;
use std::fmt::Write as _;

pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 250.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Enough to read a value by, few enough to leave room.
const N_TICKS: f64 = 5.0;

/// An axis from its lowest to its highest value.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
    label: &'static str,
}

impl Axis {
    /// From 0 to a round number.
    pub(super) fn linear(high: f64, label: &'static str, text: fn(f64) -> String) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let step = round_step(high / N_TICKS);
        let mut ticks = Vec::new();
        let mut value = 0.0;
        // A step is at least a tenth of the range.
        while value < high + step * 0.999 && ticks.len() < 32 {
            ticks.push((value, text(value)));
            value += step;
        }
        let high = ticks.last().map_or(high, |(value, _)| *value);
        Self { low: 0.0, high, is_log: false, ticks, label }
    }

    /// From 0 to exactly `high`, for times.
    pub(super) fn exact(high: f64, label: &'static str, text: fn(f64) -> String) -> Self {
        let axis = Self::linear(high, label, text);
        let high = if high > 0.0 { high } else { axis.high };
        let ticks = axis.ticks.into_iter().filter(|(value, _)| *value <= high).collect();
        Self { high, ticks, ..axis }
    }

    /// Powers of ten around some values.
    pub(super) fn log(values: &[f64], label: &'static str, text: fn(f64) -> String) -> Self {
        let values = || values.iter().copied().filter(|it| it.is_finite() && *it > 0.0);
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(0.0, f64::max);
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let low = low.log10().floor().clamp(-9.0, 12.0);
        let high = high.log10().ceil().clamp(low + 1.0, 13.0);
        let between: &[f64] = if high - low <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut decade = low;
        while decade <= high {
            let values = between.iter().map(|it| it * 10_f64.powf(decade));
            let values = values.filter(|it| it.log10() <= high + 1e-9);
            ticks.extend(values.map(|value| (value, text(value))));
            decade += 1.0;
        }
        Self { low: 10_f64.powf(low), high: 10_f64.powf(high), is_log: true, ticks, label }
    }

    /// With marks of its own.
    pub(super) fn with_ticks(high: f64, label: &'static str, ticks: Vec<(f64, String)>) -> Self {
        Self { low: 0.0, high: high.max(1e-9), is_log: false, ticks, label }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let (value, low, high) = if self.is_log {
            (value.max(self.low).log10(), self.low.log10(), self.high.log10())
        } else {
            (value, self.low, self.high)
        };
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// A plot in the making.
#[derive(Debug)]
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    body: String,
}

impl Plot {
    pub(super) fn new(x: Axis, y: Axis) -> Self {
        Self { x, y, body: String::new() }
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// A line through points. It breaks where there is none.
    pub(super) fn line(
        &mut self,
        class: &str,
        points: impl IntoIterator<Item = Option<(f64, f64)>>,
    ) {
        let mut path = String::new();
        let mut command = 'M';
        for point in points {
            let Some((x, y)) = point else {
                command = 'M';
                continue;
            };
            // Writing into a string cannot fail.
            let _ = write!(path, "{command}{:.1} {:.1}", self.x_at(x), self.y_at(y));
            command = 'L';
        }
        let _ = write!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// A bar between two values of y, with a text for whoever points at it.
    pub(super) fn bar(&mut self, class: &str, x: (f64, f64), y: (f64, f64), title: &str) {
        if y.1 <= y.0 {
            return;
        }
        let (left, right) = (self.x_at(x.0), self.x_at(x.1));
        let (bottom, top) = (self.y_at(y.0), self.y_at(y.1));
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.2}\" \
             height=\"{:.2}\"><title>{}</title></rect>",
            (right - left - 0.4).max(0.4),
            (bottom - top).max(0.3),
            escape(title)
        );
    }

    pub(super) fn finish(self, name: &str) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(name)
        );
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in &self.y.ticks {
            let y = self.y_at(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(text)
            );
        }
        for (value, text) in &self.x.ticks {
            let x = self.x_at(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                escape(text)
            );
        }
        let _ = write!(
            svg,
            "<text class=\"label end\" x=\"{right}\" y=\"{:.1}\">{}</text>\
             <text class=\"label\" x=\"4\" y=\"{TOP}\">{}</text>{}</svg>",
            HEIGHT - 6.0,
            escape(self.x.label),
            escape(self.y.label),
            self.body
        );
        svg
    }
}

/// The next of 1, 2, 5, 10, … times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        format!("{value}")
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let check = |high: f64, end: f64, step: f64| {
            let axis = Axis::linear(high, "", text);
            assert!((axis.high - end).abs() < 1e-9, "{high}: {}", axis.high);
            assert!((axis.ticks[1].0 - step).abs() < 1e-9, "{high}: {:?}", axis.ticks);
        };
        check(10.0, 10.0, 2.0);
        check(11.0, 15.0, 5.0);
        check(0.73, 0.8, 0.2);
        check(0.0, 1.0, 0.2);
        check(f64::NAN, 1.0, 0.2);
    }

    #[test]
    fn log_axes_have_powers_of_ten() {
        let axis = Axis::log(&[0.3, 4_000.0, 0.0], "", text);
        assert!((axis.low - 0.1).abs() < 1e-9 && (axis.high - 10_000.0).abs() < 1e-6);
        assert_eq!(axis.ticks.len(), 6);
        assert!((axis.place(0.1)).abs() < 1e-9 && (axis.place(10_000.0) - 1.0).abs() < 1e-9);
        assert!((axis.place(0.0)).abs() < 1e-9);
        let axis = Axis::log(&[], "", text);
        assert!(axis.high > axis.low);
    }

    proptest! {
        #[test]
        fn every_value_has_its_place_within(values in proptest::collection::vec(any::<f64>(), 0..20)) {
            for axis in [Axis::linear(values.first().copied().unwrap_or(0.0), "", text), Axis::log(&values, "", text)] {
                prop_assert!(axis.high > axis.low && axis.ticks.len() < 64, "{axis:?}");
                for value in values.iter().filter(|it| it.is_finite()) {
                    prop_assert!((0.0..=1.0).contains(&axis.place(*value)), "{value} {axis:?}");
                }
            }
        }
    }
}
