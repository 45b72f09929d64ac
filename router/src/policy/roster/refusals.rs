//! Which refused heartbeats are told: they come each second, and from whoever reaches this router.

use super::Refused;
use shared::id::InstanceId;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// How long what was told is no news.
const WINDOW: Duration = Duration::from_mins(1);

/// Refusals that are told in that time: enough to see what is wrong, too few to fill a disk.
const MAX_TOLD: usize = 16;

/// What was told of late. Nothing at first.
#[derive(Debug, Default)]
pub struct Refusals {
    told: BTreeSet<(InstanceId, Refused)>,
    /// When the first of it was.
    since: Option<Instant>,
}

impl Refusals {
    /// A heartbeat was refused. Returns whether that is to be told.
    pub fn is_news(&mut self, instance: &InstanceId, refused: Refused, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= WINDOW) {
            (self.told, self.since) = (BTreeSet::new(), Some(now));
        }
        self.told.len() < MAX_TOLD && self.told.insert((instance.clone(), refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(n: usize) -> InstanceId {
        format!("i-{n}").parse().unwrap()
    }

    #[test]
    fn an_instance_that_is_refused_each_second_is_told_of_once_a_minute() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let seconds = (0..120).map(|second| start + Duration::from_secs(second));
        let told = seconds.filter(|now| refusals.is_news(&instance(0), Refused::Full, *now));
        assert_eq!(told.count(), 2);
        assert!(refusals.is_news(&instance(0), Refused::Address, start + WINDOW * 2));
        assert!(refusals.is_news(&instance(0), Refused::Full, start + WINDOW * 2));
    }

    #[test]
    fn a_flood_of_refused_heartbeats_fills_no_log() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..26_000).filter(|n| refusals.is_news(&instance(*n), Refused::Figures, now));
        assert_eq!(told.count(), MAX_TOLD);
        assert!(refusals.is_news(&instance(0), Refused::Figures, now + WINDOW));
    }
}
