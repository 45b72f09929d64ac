//! The compute slots: a bounded pool of threads on which models load and run.
//!
//! As many threads as slots, each with one intra-op thread, so that work never competes with itself
//! for a core. Invocations go first; loads take the slots that are left, and at most all but one, so
//! that a load never stalls the invocations of another model. Under constant load a load that has
//! waited for [`LOAD_PATIENCE`] takes the next slot, or a cold start would never end.
//!
//! # Invariants
//!
//! A job runs at most once. Its caller learns the outcome exactly once, also of a panic, and a job
//! whose caller is gone or whose deadline has passed does not begin. A job that has begun runs to its
//! end: nothing can stop it.

mod queue;

use parking_lot::{Condvar, Mutex};
use queue::{Lane, Queue};
use shared::api::error::ErrorKind;
use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

pub use queue::LOAD_PATIENCE;

/// How much the pool takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeLimits {
    /// Threads. As many as cores is right: two threads on one core make both slower.
    pub n_slots: usize,
    /// Invocations that wait for a slot. What waits longer than its deadline is wasted memory.
    pub n_queued_invocations: usize,
    /// Loads that wait for a slot.
    pub n_queued_loads: usize,
}

/// The pool. Dropping it lets jobs that have begun end, and fails those that have not.
pub struct Compute {
    shared: Arc<Shared>,
    limits: ComputeLimits,
}

/// Why a job gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    #[error("too many {0} wait for a compute slot")]
    Full(&'static str),
    #[error("no compute slot was free before the deadline")]
    Expired,
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("the instance is stopping")]
    Closed,
}

impl ComputeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full(_) => ErrorKind::Overloaded,
            Self::Expired => ErrorKind::TimedOut,
            Self::Panicked(_) => ErrorKind::ModelFailed,
            Self::Closed => ErrorKind::Draining,
        }
    }
}

impl Compute {
    /// Starts the slots' threads. `prepare_thread` runs first on each.
    pub fn new(limits: ComputeLimits, prepare_thread: fn()) -> io::Result<Self> {
        let queue = Mutex::new(Queue::new(&limits));
        let busy_since = Mutex::new(vec![None; limits.n_slots]);
        let shared = Arc::new(Shared { queue, work: Condvar::new(), busy_since });
        let compute = Self { shared, limits };
        for slot in 0..limits.n_slots {
            let shared = compute.shared.clone();
            // Dropping `compute` on an error ends the threads that have started.
            thread::Builder::new().name(format!("compute-{slot}")).spawn(move || {
                prepare_thread();
                shared.work(slot);
            })?;
        }
        Ok(compute)
    }

    pub fn limits(&self) -> ComputeLimits {
        self.limits
    }

    /// How long the oldest job that runs now has been running.
    pub fn longest_running(&self) -> Duration {
        let oldest = self.shared.busy_since.lock().iter().flatten().min().copied();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Runs an invocation on a slot, before anything else that waits.
    pub async fn invoke<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        self.run(Lane::Invocation, Some(deadline), job).await
    }

    /// Runs a load on a slot that no invocation needs.
    pub async fn load<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        self.run(Lane::Load, None, job).await
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        deadline: Option<Instant>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let (tx, rx) = oneshot::channel();
        let task = Box::new(move || run_task(tx, deadline, job));
        self.shared.queue.lock().push(lane, task)?;
        // After the lock is free, or the woken thread would wait for it at once.
        self.shared.work.notify_one();
        rx.await.unwrap_or(Err(ComputeError::Closed))
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        let waiting = self.shared.queue.lock().close();
        self.shared.work.notify_all();
        drop(waiting);
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a thread runs: a closure that answers its own caller.
type Task = Box<dyn FnOnce() + Send>;

struct Shared {
    queue: Mutex<Queue<Task>>,
    work: Condvar,
    /// By slot, if it runs a job.
    busy_since: Mutex<Vec<Option<Instant>>>,
}

impl Shared {
    /// One slot's life.
    fn work(&self, slot: usize) {
        let mut queue = self.queue.lock();
        loop {
            if let Some((lane, task)) = queue.pop(Instant::now()) {
                drop(queue);
                self.busy_since.lock()[slot] = Some(Instant::now());
                task();
                self.busy_since.lock()[slot] = None;
                queue = self.queue.lock();
                queue.finish(lane);
                // A load that may begin only now has no notification of its own left.
                if lane == Lane::Load && queue.has_loads() {
                    self.work.notify_one();
                }
            } else if queue.is_closed() {
                return;
            } else {
                self.work.wait(&mut queue);
            }
        }
    }
}

fn run_task<T>(
    tx: oneshot::Sender<Result<T, ComputeError>>,
    deadline: Option<Instant>,
    job: impl FnOnce() -> T,
) {
    if tx.is_closed() {
        return;
    }
    let outcome = if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        Err(ComputeError::Expired)
    } else {
        // What the job shares with others (a model) must bear a panic: models have no state that an
        // invocation changes but counters.
        catch_unwind(AssertUnwindSafe(job))
            .map_err(|payload| ComputeError::Panicked(panic_text(payload.as_ref())))
    };
    // A caller that has gone meanwhile needs no answer.
    let _gone = tx.send(outcome);
}

/// What a panic said.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no text").to_owned()
}

#[cfg(test)]
mod tests;
