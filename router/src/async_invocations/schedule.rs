//! Decides which job is next: the oldest of a destination, the destinations in turn, each endpoint and
//! each of its variants within its limit. So one that is slow, or has no instances, holds no other up.
//!
//! A job may run for an hour. So an endpoint that has one running leaves a place for each other that
//! waits with none, and always one for who comes next.

use super::job::JobHead;
use shared::id::{EndpointName, VariantName};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
};

/// Where a job goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    pub endpoint: EndpointName,
    /// `None`: any of the endpoint's.
    pub variant: Option<VariantName>,
}

/// Jobs that wait and jobs that run.
#[derive(Debug)]
pub struct Schedule<J> {
    max_running: usize,
    n_running: usize,
    lanes: BTreeMap<Destination, Lane<J>>,
    /// Whose turn it was last.
    last: Option<Destination>,
}

#[derive(Debug)]
struct Lane<J> {
    waiting: VecDeque<J>,
    n_running: usize,
}

/// The jobs of an endpoint, over all its destinations.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    n_running: usize,
    is_waiting: bool,
}

impl Destination {
    pub fn of(head: &JobHead) -> Self {
        Self { endpoint: head.endpoint.clone(), variant: head.target_variant.clone() }
    }

    fn whole_endpoint(&self) -> Self {
        Self { endpoint: self.endpoint.clone(), variant: None }
    }
}

impl<J> Schedule<J> {
    pub fn new(max_running: usize) -> Self {
        Self { max_running, n_running: 0, lanes: BTreeMap::new(), last: None }
    }

    pub fn add(&mut self, destination: Destination, job: J) {
        let new = || Lane { waiting: VecDeque::new(), n_running: 0 };
        self.lanes.entry(destination).or_insert_with(new).waiting.push_back(job);
    }

    /// Returns the job that shall run now, if one may. Call [`Schedule::ended`] when it has.
    ///
    /// `limit` says how many may run at once: on a variant, or on all of an endpoint.
    pub fn next(&mut self, limit: impl Fn(&Destination) -> usize) -> Option<J> {
        if self.n_running >= self.max_running {
            return None;
        }
        let counts = self.counts();
        let may = |(destination, lane): &(&Destination, &Lane<J>)| {
            !lane.waiting.is_empty()
                && self.has_place(&destination.endpoint, &counts)
                && lane.n_running < limit(destination)
                && counts[&destination.endpoint].n_running < limit(&destination.whole_endpoint())
        };
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let mut turn = self.lanes.range((after, Unbounded)).chain(self.lanes.iter());
        let next = turn.find(may)?.0.clone();
        drop(counts);
        let lane = self.lanes.get_mut(&next)?;
        let job = lane.waiting.pop_front()?;
        lane.n_running += 1;
        self.n_running += 1;
        self.last = Some(next);
        Some(job)
    }

    pub fn ended(&mut self, destination: &Destination) {
        let Some(lane) = self.lanes.get_mut(destination) else { return };
        lane.n_running = lane.n_running.saturating_sub(1);
        self.n_running = self.n_running.saturating_sub(1);
        if lane.n_running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(destination);
        }
    }

    /// Whether an endpoint may take one of the places that are left.
    fn has_place(&self, endpoint: &EndpointName, counts: &BTreeMap<&EndpointName, Count>) -> bool {
        if counts[endpoint].n_running == 0 {
            return true;
        }
        let n_others = counts.values().filter(|it| it.is_waiting && it.n_running == 0).count();
        self.n_running + n_others.max(1) < self.max_running
    }

    fn counts(&self) -> BTreeMap<&EndpointName, Count> {
        let mut counts: BTreeMap<_, Count> = BTreeMap::new();
        for (destination, lane) in &self.lanes {
            let count = counts.entry(&destination.endpoint).or_default();
            count.n_running += lane.n_running;
            count.is_waiting |= !lane.waiting.is_empty();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(endpoint: &str) -> Destination {
        Destination { endpoint: endpoint.parse().unwrap(), variant: None }
    }

    fn to_variant(endpoint: &str, variant: &str) -> Destination {
        Destination { variant: Some(variant.parse().unwrap()), ..to(endpoint) }
    }

    fn schedule(max_running: usize, jobs: &[&str]) -> Schedule<String> {
        let mut schedule = Schedule::new(max_running);
        for job in jobs {
            schedule.add(to(&job[..1]), (*job).to_owned());
        }
        schedule
    }

    fn drain(schedule: &mut Schedule<String>, limit: usize) -> Vec<String> {
        std::iter::from_fn(|| schedule.next(|_| limit)).collect()
    }

    #[test]
    fn endpoints_take_turns() {
        let mut schedule = schedule(10, &["a1", "a2", "a3", "b1", "c1"]);
        assert_eq!(drain(&mut schedule, 10), ["a1", "b1", "c1", "a2", "a3"]);
    }

    #[test]
    fn an_endpoint_at_its_limit_holds_no_other_up() {
        let mut schedule = schedule(10, &["a1", "a2", "b1"]);
        assert_eq!(drain(&mut schedule, 1), ["a1", "b1"]);
        schedule.ended(&to("a"));
        assert_eq!(drain(&mut schedule, 1), ["a2"]);
    }

    #[test]
    fn all_together_stay_within_the_bound() {
        let mut schedule = schedule(2, &["a1", "b1", "c1"]);
        assert_eq!(drain(&mut schedule, 5), ["a1", "b1"]);
        schedule.ended(&to("b"));
        assert_eq!(drain(&mut schedule, 5), ["c1"]);
        schedule.ended(&to("a"));
        schedule.ended(&to("c"));
        assert!(schedule.lanes.is_empty(), "nothing is kept of what is done");
    }

    #[test]
    fn an_endpoint_with_many_instances_leaves_a_place_for_each_that_waits() {
        let mut schedule = schedule(4, &["a1", "a2", "a3", "a4", "a5"]);
        assert_eq!(drain(&mut schedule, 100), ["a1", "a2", "a3"], "one place for who comes next");
        schedule.add(to("b"), "b1".to_owned());
        assert_eq!(drain(&mut schedule, 100), ["b1"]);
        for endpoint in ["c", "d"] {
            schedule.add(to(endpoint), format!("{endpoint}1"));
        }
        schedule.ended(&to("a"));
        schedule.ended(&to("a"));
        assert_eq!(drain(&mut schedule, 100), ["c1", "d1"]);
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let mut schedule = schedule(1, &["a1", "a2"]);
        assert_eq!(drain(&mut schedule, 5), ["a1"]);
        schedule.ended(&to("a"));
        assert_eq!(drain(&mut schedule, 5), ["a2"]);
    }

    #[test]
    fn a_variant_and_its_endpoint_stay_within_their_own_limits() {
        let mut schedule = Schedule::new(100);
        for idx in 0..10 {
            schedule.add(to_variant("a", "small"), format!("small{idx}"));
            schedule.add(to("a"), format!("any{idx}"));
        }
        let limit = |to: &Destination| if to.variant.is_some() { 1 } else { 4 };
        let running: Vec<_> = std::iter::from_fn(|| schedule.next(limit)).collect();
        assert_eq!(running, ["any0", "small0", "any1", "any2"]);
    }
}
