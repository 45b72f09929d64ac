//! Which job takes the next slot: two bounded lanes, and the rule between them.

use super::{ComputeError, ComputeLimits};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// After this long a waiting load goes before invocations. Short against a load's own time, long
/// enough that bursts of invocations pass first.
pub const LOAD_PATIENCE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Invocation,
    Load,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    invocations: VecDeque<T>,
    /// With the time since which each waits.
    loads: VecDeque<(Instant, T)>,
    n_loading: usize,
    /// All slots but one; with one slot, that one.
    max_loading: usize,
    max_invocations: usize,
    max_loads: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(limits: &ComputeLimits) -> Self {
        Self {
            invocations: VecDeque::new(),
            loads: VecDeque::new(),
            n_loading: 0,
            max_loading: limits.n_slots.saturating_sub(1).max(1),
            max_invocations: limits.n_queued_invocations,
            max_loads: limits.n_queued_loads,
            is_closed: false,
        }
    }

    pub(super) fn push(&mut self, lane: Lane, task: T) -> Result<(), ComputeError> {
        if self.is_closed {
            return Err(ComputeError::Closed);
        }
        match lane {
            Lane::Invocation if self.invocations.len() >= self.max_invocations => {
                Err(ComputeError::Full("invocations"))
            }
            Lane::Load if self.loads.len() >= self.max_loads => Err(ComputeError::Full("loads")),
            Lane::Invocation => {
                self.invocations.push_back(task);
                Ok(())
            }
            Lane::Load => {
                self.loads.push_back((Instant::now(), task));
                Ok(())
            }
        }
    }

    /// Takes the next job for a free slot, if one may begin.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Lane, T)> {
        let may_load = self.n_loading < self.max_loading;
        let waited = self.loads.front().map(|(since, _)| now.saturating_duration_since(*since));
        let load_is_due = waited.is_some_and(|it| it >= LOAD_PATIENCE);
        if may_load
            && (load_is_due || self.invocations.is_empty())
            && let Some((_, task)) = self.loads.pop_front()
        {
            self.n_loading += 1;
            return Some((Lane::Load, task));
        }
        self.invocations.pop_front().map(|task| (Lane::Invocation, task))
    }

    /// Notes that a job that was popped has ended.
    pub(super) fn finish(&mut self, lane: Lane) {
        if lane == Lane::Load {
            self.n_loading -= 1;
        }
    }

    pub(super) fn has_loads(&self) -> bool {
        !self.loads.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes no more jobs, and gives those back that wait.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.is_closed = true;
        let loads = self.loads.drain(..).map(|(_, task)| task);
        self.invocations.drain(..).chain(loads).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(n_slots: usize) -> Queue<&'static str> {
        Queue::new(&ComputeLimits { n_slots, n_queued_invocations: 3, n_queued_loads: 2 })
    }

    fn names(queue: &mut Queue<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(now)).map(|(_, name)| name).collect()
    }

    #[test]
    fn invocations_go_before_loads() {
        let mut queue = queue(3);
        for (lane, name) in [(Lane::Load, "load"), (Lane::Invocation, "a"), (Lane::Invocation, "b")]
        {
            queue.push(lane, name).unwrap();
        }
        assert_eq!(names(&mut queue, Instant::now()), ["a", "b", "load"]);
    }

    #[test]
    fn a_load_that_waited_long_goes_first() {
        let mut queue = queue(2);
        queue.push(Lane::Load, "load").unwrap();
        queue.push(Lane::Invocation, "a").unwrap();
        assert_eq!(names(&mut queue, Instant::now() + LOAD_PATIENCE), ["load", "a"]);
    }

    #[test]
    fn loads_leave_one_slot_free_where_there_are_two() {
        for (n_slots, max_loading) in [(1, 1), (2, 1), (3, 2)] {
            let mut queue = queue(n_slots);
            queue.push(Lane::Load, "first").unwrap();
            queue.push(Lane::Load, "second").unwrap();
            let now = Instant::now() + LOAD_PATIENCE;
            assert_eq!(names(&mut queue, now).len(), max_loading, "{n_slots} slots");
            queue.push(Lane::Invocation, "a").unwrap();
            assert_eq!(names(&mut queue, now), ["a"]);
            queue.finish(Lane::Load);
            assert_eq!(names(&mut queue, now).len(), 2 - max_loading);
        }
    }

    #[test]
    fn each_lane_is_bounded_by_itself() {
        let mut queue = queue(1);
        for _ in 0..3 {
            queue.push(Lane::Invocation, "a").unwrap();
        }
        for _ in 0..2 {
            queue.push(Lane::Load, "load").unwrap();
        }
        assert_eq!(queue.push(Lane::Invocation, "a"), Err(ComputeError::Full("invocations")));
        assert_eq!(queue.push(Lane::Load, "load"), Err(ComputeError::Full("loads")));
        assert_eq!(queue.close().len(), 5);
        assert_eq!(queue.push(Lane::Load, "load"), Err(ComputeError::Closed));
    }

    proptest! {
        #[test]
        fn whatever_comes_loads_never_take_every_slot(
            n_slots in 2_usize..6,
            steps in proptest::collection::vec(0_u8..4, 0..100),
        ) {
            let mut queue = queue(n_slots);
            let mut running = Vec::new();
            let mut now = Instant::now();
            for step in steps {
                match step {
                    0 => drop(queue.push(Lane::Invocation, "a")),
                    1 => drop(queue.push(Lane::Load, "load")),
                    2 if running.len() < n_slots => {
                        now += LOAD_PATIENCE / 2;
                        running.extend(queue.pop(now).map(|(lane, _)| lane));
                    }
                    _ => running.pop().into_iter().for_each(|lane| queue.finish(lane)),
                }
                let n_loading = running.iter().filter(|it| **it == Lane::Load).count();
                prop_assert!(n_loading < n_slots);
            }
        }
    }
}
