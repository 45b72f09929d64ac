//! Decides whether and where a failed invocation is sent again, and keeps retries from becoming a
//! storm.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What is known about an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// There was no connection, so the invocation surely did not begin.
    NotBegun,
    /// The instance lives, and did not begin with it.
    Refused,
    /// The instance is leaving, and its model with it: no failure, but a hint where to go.
    Left,
    /// The connection closed before the head of the answer came: it may have run.
    Died,
    /// The instance was lost before the head of the answer came: it may have run, and there is
    /// nobody to try again.
    Lost,
    /// The same, but nobody has seen it die: it may be frozen, or cut off from us.
    Silent,
}

/// Where the invocation goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same instance, over another connection: it may only have closed one that was idle. If
    /// it is dead, this fails at once.
    Same,
    /// The next instance in the order of preference.
    Other,
    GiveUp,
}

/// An invocation under which two instances died is likely the cause of it, and gets no third.
const MAX_DEATHS: usize = 2;

/// What one invocation has been through.
#[derive(Clone, Debug)]
pub struct History {
    max_instances: usize,
    may_repeat: bool,
    n_instances: usize,
    n_deaths: usize,
    /// Whether the current attempt is the second at its instance after a death.
    is_second: bool,
}

impl History {
    /// `may_repeat`: whether the variant allows that an invocation runs twice.
    pub fn new(max_instances: usize, may_repeat: bool) -> Self {
        Self { max_instances, may_repeat, n_instances: 1, n_deaths: 0, is_second: false }
    }

    /// Records a failed attempt, and that what is returned is done.
    pub fn next(&mut self, failed: Failed) -> Next {
        let may_have_begun = matches!(failed, Failed::Died | Failed::Lost | Failed::Silent);
        if may_have_begun && !self.may_repeat {
            return Next::GiveUp;
        }
        // A refusal shows that only the connection of the first attempt had died.
        let died = matches!(failed, Failed::Died | Failed::Lost)
            || (self.is_second && matches!(failed, Failed::NotBegun | Failed::Silent));
        if failed == Failed::Died && !self.is_second {
            self.is_second = true;
            return Next::Same;
        }
        self.is_second = false;
        if failed == Failed::Left {
            // Each of them says so once, and at once: that is bound enough.
            return Next::Other;
        }
        self.n_deaths += usize::from(died);
        self.n_instances += 1;
        if self.n_instances > self.max_instances || self.is_deadly() {
            return Next::GiveUp;
        }
        Next::Other
    }

    /// Whether it took as many instances with it as one invocation may.
    pub fn is_deadly(&self) -> bool {
        self.n_deaths >= MAX_DEATHS
    }
}

/// How many retries all invocations together may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAllowance {
    /// Retries that every hundred invocations earn: the lasting extra load of an outage.
    pub percent: u64,
    /// The most that can be saved up: what the death of a busy instance needs at once.
    pub burst: u64,
    /// Earned per second without any invocation, so that quiet times recover too.
    pub per_second: u64,
}

/// A token bucket without a lock. Counted in hundredths of a retry.
#[derive(Debug)]
pub struct RetryBudget {
    allowance: RetryAllowance,
    saved: AtomicU64,
    /// When time last earned something, milliseconds.
    earned_at_ms: AtomicU64,
}

const ONE_RETRY: u64 = 100;

impl RetryBudget {
    /// Starts full.
    pub fn new(allowance: RetryAllowance) -> Self {
        let saved = AtomicU64::new(allowance.burst * ONE_RETRY);
        Self { allowance, saved, earned_at_ms: AtomicU64::new(0) }
    }

    /// An invocation began.
    pub fn earn(&self) {
        // Full nearly always: then this is one read, and no cache line moves between cores.
        if self.saved.load(Relaxed) < self.allowance.burst * ONE_RETRY {
            self.add(self.allowance.percent);
        }
    }

    /// Takes one retry, if there is one. `now` counts from any fixed moment.
    #[must_use]
    pub fn spend(&self, now: Duration) -> bool {
        self.earn_by_time(now);
        let taken = self.saved.try_update(Relaxed, Relaxed, |saved| saved.checked_sub(ONE_RETRY));
        taken.is_ok()
    }

    fn earn_by_time(&self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let since_ms = now_ms.saturating_sub(self.earned_at_ms.load(Relaxed));
        let earned = since_ms.saturating_mul(self.allowance.per_second) * ONE_RETRY / 1000;
        // Too early to earn a whole hundredth: wait, or rounding would lose it.
        if 0 < earned && self.earned_at_ms.fetch_max(now_ms, Relaxed) < now_ms {
            self.add(earned);
        }
    }

    fn add(&self, hundredths: u64) {
        let full = self.allowance.burst * ONE_RETRY;
        // Always `Ok`: the closure always gives a value.
        let _ = self
            .saved
            .try_update(Relaxed, Relaxed, |saved| Some(saved.saturating_add(hundredths).min(full)));
    }
}

#[cfg(test)]
mod tests;
