//! How hot models are: the work that they cause, as averages.
//!
//! Work is time on compute slots, so that few slow invocations count as much as many fast ones. Two
//! averages, because replicas are to come soon and to go late: routers take the larger one.

use shared::api::membership::MAX_HOT;
use std::{cmp::Reverse, time::Duration};
use tokio::time::Instant;

/// Soon enough for a model that becomes hot, with ten reports in it.
const FAST_HALF_LIFE: Duration = Duration::from_secs(10);

/// Long enough to keep replicas over a lull of minutes.
const SLOW_HALF_LIFE: Duration = Duration::from_mins(5);

/// A twentieth of a slot. Less never needs a second replica, and would fill reports.
const FLOOR: u32 = 50;

/// Averages of the compute slots that a model has held, in thousandths of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millicores {
    pub fast: u32,
    pub slow: u32,
}

/// The averages of one model, and as of when.
#[derive(Clone, Copy, Debug)]
pub struct Heat {
    at: Instant,
    /// Time on slots until then.
    busy: Duration,
    /// Slots.
    fast: f64,
    slow: f64,
}

impl Heat {
    pub fn new(now: Instant) -> Self {
        Self { at: now, busy: Duration::ZERO, fast: 0.0, slow: 0.0 }
    }

    /// Takes in the time on slots since it was made, and returns the averages as of `now`.
    pub fn observe(&mut self, busy: Duration, now: Instant) -> Millicores {
        let elapsed = now.saturating_duration_since(self.at);
        if !elapsed.is_zero() {
            let slots = busy.saturating_sub(self.busy).as_secs_f64() / elapsed.as_secs_f64();
            let average = |before: f64, half_life: Duration| {
                let kept = 0.5_f64.powf(elapsed.as_secs_f64() / half_life.as_secs_f64());
                before.mul_add(kept, slots * (1.0 - kept))
            };
            *self = Self {
                at: now,
                busy: busy.max(self.busy),
                fast: average(self.fast, FAST_HALF_LIFE),
                slow: average(self.slow, SLOW_HALF_LIFE),
            };
        }
        Millicores { fast: millis(self.fast), slow: millis(self.slow) }
    }

    /// What follows the model, and counts its own time: as hot, until it shows otherwise.
    #[must_use]
    pub fn of_successor(self, now: Instant) -> Self {
        Self { at: now, busy: Duration::ZERO, ..self }
    }
}

impl Millicores {
    /// What counts.
    pub fn most(self) -> u32 {
        self.fast.max(self.slow)
    }
}

/// Returns the models that are hot enough to tell routers of, hottest first.
pub fn hottest<T>(models: impl Iterator<Item = (T, Millicores)>) -> Vec<(T, Millicores)> {
    let mut hot: Vec<_> = models.filter(|(_, heat)| heat.most() > FLOOR).collect();
    hot.sort_by_key(|(_, heat)| Reverse(heat.most()));
    hot.truncate(MAX_HOT);
    hot
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates, and no average is negative"
)]
fn millis(slots: f64) -> u32 {
    (slots * 1000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows a model that holds `slots` for `seconds`, second by second.
    fn run(heat: &mut Heat, slots: f64, seconds: u32) -> Millicores {
        let second = Duration::from_secs(1);
        (0..seconds).fold(Millicores::default(), |_, _| {
            heat.observe(heat.busy + second.mul_f64(slots), heat.at + second)
        })
    }

    #[test]
    fn work_of_one_half_life_is_half_seen() {
        let mut heat = Heat::new(Instant::now());
        assert_eq!(run(&mut heat, 1.0, 10).fast, 500);
        assert_eq!(run(&mut heat, 1.0, 10).fast, 750);
        assert_eq!(run(&mut heat, 0.0, 10).fast, 375);
        let mut heat = Heat::new(Instant::now());
        assert_eq!(run(&mut heat, 2.0, 300).slow, 1000);
    }

    #[test]
    fn steady_work_is_seen_as_it_is_however_often_it_is_looked_at() {
        let (mut often, now) = (Heat::new(Instant::now()), Instant::now());
        let mut seldom = Heat::new(now);
        let often = run(&mut often, 0.25, 3600);
        let hour = Duration::from_hours(1);
        assert_eq!(often, Millicores { fast: 250, slow: 250 });
        assert_eq!(seldom.observe(hour / 4, now + hour), often);
    }

    #[test]
    fn a_look_that_comes_at_once_or_late_changes_nothing() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut heat = Heat::new(now);
        let before = heat.observe(second, now + 10 * second);
        assert_eq!(heat.observe(second, now + 10 * second), before);
        assert_eq!(heat.observe(Duration::ZERO, now + 5 * second), before);
    }

    #[test]
    fn a_new_version_is_as_hot_as_the_one_before() {
        let now = Instant::now();
        let mut heat = Heat::new(now);
        let before = run(&mut heat, 1.0, 60);
        let mut next = heat.of_successor(heat.at);
        assert_eq!(next.observe(Duration::ZERO, heat.at), before);
        assert_eq!(run(&mut next, 1.0, 3600).fast, 1000);
    }

    #[test]
    fn reports_name_the_hottest_above_a_floor() {
        let heat = |fast, slow| Millicores { fast, slow };
        let models = [("cold", heat(50, 50)), ("was hot", heat(0, 51)), ("hot", heat(900, 100))];
        let names: Vec<_> = hottest(models.into_iter()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["hot", "was hot"]);
        let many = (0..2000).map(|model| (model, heat(model, 0)));
        let hot = hottest(many);
        assert_eq!((hot.len(), hot[0].0, hot[63].0), (64, 1999, 1936));
    }
}
