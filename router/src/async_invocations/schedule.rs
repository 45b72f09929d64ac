//! Decides which job is next: the oldest of an endpoint, the endpoints in turn, each within its
//! limit. So one that is slow, or has no instances, holds no other up.

use shared::id::EndpointName;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
};

/// Jobs that wait and jobs that run.
#[derive(Debug)]
pub struct Schedule<J> {
    max_running: usize,
    n_running: usize,
    endpoints: BTreeMap<EndpointName, Lane<J>>,
    /// Whose turn it was last.
    last: Option<EndpointName>,
}

#[derive(Debug)]
struct Lane<J> {
    waiting: VecDeque<J>,
    n_running: usize,
}

impl<J> Schedule<J> {
    pub fn new(max_running: usize) -> Self {
        Self { max_running, n_running: 0, endpoints: BTreeMap::new(), last: None }
    }

    pub fn add(&mut self, endpoint: &EndpointName, job: J) {
        let new = || Lane { waiting: VecDeque::new(), n_running: 0 };
        self.endpoints.entry(endpoint.clone()).or_insert_with(new).waiting.push_back(job);
    }

    /// Returns the job that shall run now, if one may. Call [`Schedule::ended`] when it has.
    pub fn next(&mut self, limit: impl Fn(&EndpointName) -> usize) -> Option<J> {
        if self.n_running >= self.max_running {
            return None;
        }
        let may = |(name, lane): &(&EndpointName, &Lane<J>)| {
            !lane.waiting.is_empty() && lane.n_running < limit(name)
        };
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let mut turn = self.endpoints.range((after, Unbounded)).chain(self.endpoints.iter());
        let name = turn.find(may)?.0.clone();
        let lane = self.endpoints.get_mut(&name)?;
        let job = lane.waiting.pop_front()?;
        lane.n_running += 1;
        self.n_running += 1;
        self.last = Some(name);
        Some(job)
    }

    pub fn ended(&mut self, endpoint: &EndpointName) {
        let Some(lane) = self.endpoints.get_mut(endpoint) else { return };
        lane.n_running = lane.n_running.saturating_sub(1);
        self.n_running = self.n_running.saturating_sub(1);
        if lane.n_running == 0 && lane.waiting.is_empty() {
            self.endpoints.remove(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> EndpointName {
        name.parse().unwrap()
    }

    fn schedule(max_running: usize, jobs: &[&str]) -> Schedule<String> {
        let mut schedule = Schedule::new(max_running);
        for job in jobs {
            schedule.add(&name(&job[..1]), (*job).to_owned());
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
        schedule.ended(&name("a"));
        assert_eq!(drain(&mut schedule, 1), ["a2"]);
    }

    #[test]
    fn all_together_stay_within_the_bound() {
        let mut schedule = schedule(2, &["a1", "b1", "c1"]);
        assert_eq!(drain(&mut schedule, 5), ["a1", "b1"]);
        schedule.ended(&name("b"));
        assert_eq!(drain(&mut schedule, 5), ["c1"]);
        schedule.ended(&name("a"));
        schedule.ended(&name("c"));
        assert!(schedule.endpoints.is_empty(), "nothing is kept of what is done");
    }
}
