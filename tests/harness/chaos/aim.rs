//! What a fault may cost in time.

use std::{fmt, time::Duration};

/// What a router takes to notice silence.
const LEASE: Duration = Duration::from_secs(3);

/// How long a fault must last that shows only when leases end, so that it can be seen whether it is
/// over: twice the lease, and the time to look at what comes then.
pub(super) const BEYOND_LEASES: Duration = Duration::from_secs(9);

/// What a machine that is busy with compilers may take more than the aim, in the tests.
const SLACK: Duration = Duration::from_secs(3);

/// Undisturbed at the end of what lasts, in the tests: who has not recovered shows in it.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// What comes of a fault, at the latest when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A process ends and its connections with it: everyone can know at once.
    ProcessDeath,
    /// Nobody answers, and nothing says so but silence.
    SilentCut,
    /// No figure; but all is as before long before the next thing happens.
    Settles,
    /// It slows whom it meets for as long as it lasts.
    WhileItLasts,
}

impl Aim {
    /// What is aimed at on a machine that does nothing else.
    pub fn figure(self) -> Option<Duration> {
        match self {
            Self::ProcessDeath => Some(Duration::from_millis(300)),
            Self::SilentCut => Some(LEASE + Duration::from_millis(200)),
            Self::Settles | Self::WhileItLasts => None,
        }
    }

    /// What must hold on any machine, if what was done had `window` to show: some of it must be
    /// undisturbed, or nothing was seen of a recovery.
    pub(super) fn bound(self, window: Duration) -> Option<Duration> {
        let rest = window.saturating_sub(UNDISTURBED);
        match self {
            Self::WhileItLasts => None,
            Self::Settles => Some(rest),
            Self::ProcessDeath | Self::SilentCut => {
                self.figure().map(|figure| rest.min(figure + SLACK))
            }
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.figure() {
            Some(figure) => write!(f, "≤ {} ms", figure.as_millis()),
            None => f.write_str("–"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_recovers_misses_every_bound_that_there_is() {
        for window in [4, 5, 9, 60].map(Duration::from_secs) {
            for aim in [Aim::ProcessDeath, Aim::SilentCut, Aim::Settles] {
                assert!(aim.bound(window).unwrap() < window, "{aim:?} in {window:?}");
            }
        }
        let window = BEYOND_LEASES;
        assert!(Aim::SilentCut.bound(window).unwrap() > Aim::SilentCut.figure().unwrap());
        assert_eq!(Aim::WhileItLasts.bound(window), None);
    }
}
