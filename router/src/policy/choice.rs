//! Decides which instance takes an invocation, and when waiting costs more than another load.
//!
//! # Why least in flight keeps the bound
//!
//! Among the replicas of a model nobody shall have more than 1.25 × the mean in flight if another
//! can take it. The one with the least has at most the mean, and with the invocation that it gets
//! not more than the mean rounded up.
//!
//! # Why outside of the replicas hardly ever
//!
//! Every instance beside a model's replicas has to load it. Bounded loads over all instances
//! multiply the copies of models 2.4 times for the same balance. So one more copy is made only if
//! to wait for the replicas costs more than to load, by what was measured of both.

use std::time::Duration;

/// As many replicas are compared: of hundreds, the best of a window is nearly the best of all, and
/// each costs a look at memory that other threads write.
pub const MAX_COMPARED: usize = 32;

/// A replica that has just become warm counts as having this many more invocations in flight per
/// slot: its first ones find caches and allocators cold, so it shall not get all of a burst.
const NEWNESS: usize = 1;

/// How busy an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Invocations that it has, of all routers as far as is known.
    pub n_in_flight: usize,
    /// Invocations that it runs at the same time.
    pub n_slots: usize,
    /// Whether its replica of the model has just become warm.
    pub is_new: bool,
}

impl Load {
    fn n_slots(self) -> usize {
        self.n_slots.max(1)
    }

    /// Whether one more invocation fills this instance less than it would `other`.
    fn is_less_than(self, other: Self) -> bool {
        let with_one_more = |load: Self| {
            load.n_in_flight + 1 + if load.is_new { NEWNESS * load.n_slots() } else { 0 }
        };
        with_one_more(self) * other.n_slots() < with_one_more(other) * self.n_slots()
    }

    /// Returns how long one more invocation would wait for a slot, if each takes `service`.
    pub fn wait(self, service: Duration) -> Duration {
        let n_before_it = (self.n_in_flight + 1).saturating_sub(self.n_slots());
        let n_before_it = u32::try_from(n_before_it).unwrap_or(u32::MAX);
        let n_slots = u32::try_from(self.n_slots()).unwrap_or(u32::MAX);
        service.saturating_mul(n_before_it) / n_slots
    }
}

/// Returns the place of the replica that has the least to do for its size, the first such one from
/// `start` on. Where all are idle, a `start` by chance gives each its part, so that each stays
/// worth its memory.
pub fn least_loaded<T>(
    replicas: &[T],
    start: usize,
    load: impl Fn(&T) -> Option<Load>,
) -> Option<usize> {
    let n = replicas.len();
    let window = (0..n.min(MAX_COMPARED)).map(|offset| (start % n + offset) % n);
    let loads = window.filter_map(|idx| Some((idx, load(&replicas[idx])?)));
    let least = loads.reduce(|best, next| if next.1.is_less_than(best.1) { next } else { best });
    // Hundreds of them, and all in the window are out of the question: then any.
    least.map(|(idx, _)| idx).or_else(|| replicas.iter().position(|it| load(it).is_some()))
}

/// Returns the first who is above suspicion; one under suspicion only if there is no other.
pub fn most_trusted<T>(
    candidates: impl IntoIterator<Item = T>,
    is_suspect: impl Fn(&T) -> bool,
) -> Option<T> {
    let mut suspect = None;
    for candidate in candidates {
        if !is_suspect(&candidate) {
            return Some(candidate);
        }
        suspect.get_or_insert(candidate);
    }
    suspect
}

/// What an instance is measured by. `None`: not measured yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub load: Load,
    /// How long an invocation keeps a slot.
    pub service: Option<Duration>,
    /// How long a load of a model takes, the longest of late.
    pub load_time: Option<Duration>,
}

impl Figures {
    /// Returns how long one more invocation would wait for a slot.
    pub fn wait(self) -> Option<Duration> {
        self.service.map(|service| self.load.wait(service))
    }

    /// Whether it would wait at all, as far as is known.
    pub fn has_to_wait(self) -> bool {
        self.wait().is_some_and(|wait| !wait.is_zero())
    }
}

/// Decides whether an invocation shall have its model loaded once more, `there`, rather than wait `here`, at
/// the best of its replicas. What is not known of one instance is as at the other; what is known of
/// neither speaks for waiting.
pub fn is_worth_a_load(here: Figures, there: Figures) -> bool {
    let there = Figures {
        load: there.load,
        service: there.service.or(here.service),
        load_time: there.load_time.or(here.load_time),
    };
    match (here.wait(), there.wait(), there.load_time) {
        (Some(wait), Some(wait_there), Some(load)) => wait > wait_there.saturating_add(load),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
