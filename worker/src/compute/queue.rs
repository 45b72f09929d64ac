//! Which job takes the next slot: two bounded lanes, and the rule between them.

use super::{ComputeError, ComputeLimits};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// After this long a waiting load goes before invocations. Short against a load's own time, long
/// enough that bursts of invocations pass first.
pub const LOAD_PATIENCE: Duration = Duration::from_millis(250);

/// Slots that are all held for longer are probably held for good. What comes then is refused at once,
/// while there is still time to send it to another instance: half of the minute that it has.
pub const HELD_TOO_LONG: Duration = Duration::from_secs(30);

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
    /// By slot: what runs there, and since when.
    running: Vec<Option<(Lane, Instant)>>,
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
            running: vec![None; limits.n_slots],
            max_loading: limits.n_slots.saturating_sub(1).max(1),
            max_invocations: limits.n_queued_invocations,
            max_loads: limits.n_queued_loads,
            is_closed: false,
        }
    }

    pub(super) fn push(&mut self, lane: Lane, task: T, now: Instant) -> Result<(), ComputeError> {
        if self.is_closed {
            return Err(ComputeError::Closed);
        }
        if self.is_stuck(now) {
            return Err(ComputeError::Stuck);
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
                self.loads.push_back((now, task));
                Ok(())
            }
        }
    }

    /// Takes the next job for a free slot, if one may begin.
    pub(super) fn pop(&mut self, slot: usize, now: Instant) -> Option<T> {
        let is_load = |it: &&(Lane, Instant)| it.0 == Lane::Load;
        let n_loading = self.running.iter().flatten().filter(is_load).count();
        let waited = self.loads.front().map(|(since, _)| now.saturating_duration_since(*since));
        let load_is_due = waited.is_some_and(|it| it >= LOAD_PATIENCE);
        if n_loading < self.max_loading
            && (load_is_due || self.invocations.is_empty())
            && let Some((_, task)) = self.loads.pop_front()
        {
            self.running[slot] = Some((Lane::Load, now));
            return Some(task);
        }
        let task = self.invocations.pop_front()?;
        self.running[slot] = Some((Lane::Invocation, now));
        Some(task)
    }

    /// Notes that a slot's job has ended, and says whether a load that waited for it may begin.
    pub(super) fn finish(&mut self, slot: usize) -> bool {
        let ended = self.running[slot].take();
        matches!(ended, Some((Lane::Load, _))) && !self.loads.is_empty()
    }

    /// Since when the oldest job that runs has been running.
    pub(super) fn oldest_since(&self) -> Option<Instant> {
        self.running.iter().flatten().map(|(_, since)| *since).min()
    }

    /// Whether every slot has been held by one job for too long.
    fn is_stuck(&self, now: Instant) -> bool {
        let is_held = |since: Instant| now.saturating_duration_since(since) >= HELD_TOO_LONG;
        self.running.iter().all(|job| job.is_some_and(|(_, since)| is_held(since)))
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

    /// Fills the slots in order and returns what each got.
    fn fill(queue: &mut Queue<&'static str>, now: Instant) -> Vec<Option<&'static str>> {
        (0..queue.running.len()).map(|slot| queue.pop(slot, now)).collect()
    }

    #[test]
    fn invocations_go_before_loads() {
        let (mut queue, now) = (queue(3), Instant::now());
        for (lane, name) in [(Lane::Load, "load"), (Lane::Invocation, "a"), (Lane::Invocation, "b")]
        {
            queue.push(lane, name, now).unwrap();
        }
        assert_eq!(fill(&mut queue, now), [Some("a"), Some("b"), Some("load")]);
    }

    #[test]
    fn a_load_that_waited_long_goes_first() {
        let (mut queue, now) = (queue(2), Instant::now());
        queue.push(Lane::Load, "load", now).unwrap();
        queue.push(Lane::Invocation, "a", now).unwrap();
        assert_eq!(fill(&mut queue, now + LOAD_PATIENCE), [Some("load"), Some("a")]);
    }

    #[test]
    fn loads_leave_one_slot_free_where_there_are_two() {
        let now = Instant::now();
        let later = now + LOAD_PATIENCE;
        let expected: [&[_]; 3] =
            [&[Some("first")], &[Some("first"), None], &[Some("first"), Some("second"), None]];
        for begun in expected {
            let mut queue = queue(begun.len());
            queue.push(Lane::Load, "first", now).unwrap();
            queue.push(Lane::Load, "second", now).unwrap();
            assert_eq!(fill(&mut queue, later), begun);

            let is_second_waiting = !begun.contains(&Some("second"));
            assert_eq!(queue.finish(0), is_second_waiting);
            assert_eq!(queue.pop(0, later), is_second_waiting.then_some("second"));

            queue.push(Lane::Invocation, "a", now).unwrap();
            assert_eq!(queue.pop(begun.len() - 1, later), Some("a"));
        }
    }

    #[test]
    fn each_lane_is_bounded_by_itself() {
        let (mut queue, now) = (queue(1), Instant::now());
        for _ in 0..3 {
            queue.push(Lane::Invocation, "a", now).unwrap();
        }
        for _ in 0..2 {
            queue.push(Lane::Load, "load", now).unwrap();
        }
        assert_eq!(queue.push(Lane::Invocation, "a", now), Err(ComputeError::Full("invocations")));
        assert_eq!(queue.push(Lane::Load, "load", now), Err(ComputeError::Full("loads")));
        assert_eq!(queue.close().len(), 5);
        assert_eq!(queue.push(Lane::Load, "load", now), Err(ComputeError::Closed));
    }

    #[test]
    fn nothing_is_taken_on_while_every_slot_is_held_for_too_long() {
        let (mut queue, start) = (queue(2), Instant::now());
        let late = start + HELD_TOO_LONG;
        for (slot, begin) in [(0, start), (1, start + LOAD_PATIENCE)] {
            queue.push(Lane::Invocation, "a", start).unwrap();
            queue.pop(slot, begin).unwrap();
        }
        assert_eq!(queue.oldest_since(), Some(start));
        assert_eq!(queue.push(Lane::Invocation, "one is new", late), Ok(()));
        let later = late + LOAD_PATIENCE;
        assert_eq!(queue.push(Lane::Invocation, "b", later), Err(ComputeError::Stuck));
        assert_eq!(queue.push(Lane::Load, "load", later), Err(ComputeError::Stuck));
        queue.finish(0);
        assert_eq!(queue.push(Lane::Invocation, "one is free", later), Ok(()));
    }

    proptest! {
        #[test]
        fn whatever_comes_loads_never_take_every_slot(
            n_slots in 2_usize..6,
            steps in proptest::collection::vec((0_u8..4, 0_usize..6), 0..100),
        ) {
            let mut queue = queue(n_slots);
            let mut running = vec![None; n_slots];
            let mut now = Instant::now();
            for (step, slot) in steps {
                let slot = slot % n_slots;
                match step {
                    0 => drop(queue.push(Lane::Invocation, "a", now)),
                    1 => drop(queue.push(Lane::Load, "load", now)),
                    2 if running[slot].is_none() => {
                        now += LOAD_PATIENCE / 2;
                        running[slot] = queue.pop(slot, now);
                    }
                    _ => {
                        queue.finish(slot);
                        running[slot] = None;
                    }
                }
                let n_loading = running.iter().filter(|it| **it == Some("load")).count();
                prop_assert!(n_loading < n_slots);
            }
        }
    }
}
