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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

pub use queue::{HELD_TOO_LONG, LOAD_PATIENCE};

/// A slot's stack. `LibTorch`'s parser, unpickler and destructors recurse as deep as an archive nests;
/// 2 MiB, which threads have by default, a few kilobytes of parentheses overflow. Pages that are
/// never touched cost nothing.
const STACK_BYTES: usize = 256 << 20;

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
    #[error("every compute slot has been held by one job for {HELD_TOO_LONG:?} and more")]
    Stuck,
    #[error("it did not end before the deadline")]
    Overrun,
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("the instance is stopping")]
    Closed,
}

impl ComputeError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            // What did not begin may be sent elsewhere.
            Self::Full(_) | Self::Expired | Self::Stuck => ErrorKind::Overloaded,
            Self::Overrun => ErrorKind::TimedOut,
            Self::Panicked(_) => ErrorKind::ModelFailed,
            Self::Closed => ErrorKind::Draining,
        }
    }
}

impl Compute {
    /// Starts the slots' threads. `prepare_thread` runs first on each.
    pub fn new(limits: ComputeLimits, prepare_thread: fn()) -> io::Result<Self> {
        let queue = Mutex::new(Queue::new(&limits));
        let shared = Arc::new(Shared { queue, work: Condvar::new() });
        let compute = Self { shared, limits };
        for slot in 0..limits.n_slots {
            let shared = compute.shared.clone();
            // Dropping `compute` on an error ends the threads that have started.
            let thread = thread::Builder::new().name(format!("compute-{slot}"));
            thread.stack_size(STACK_BYTES).spawn(move || {
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
        let oldest = self.shared.queue.lock().oldest_since();
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
        let claim = Arc::new(AtomicBool::new(false));
        let task = {
            let claim = Arc::clone(&claim);
            Box::new(move || run_task(tx, &claim, job))
        };
        self.shared.queue.lock().push(lane, task, Instant::now())?;
        // After the lock is free, or the woken thread would wait for it at once.
        self.shared.work.notify_one();
        let answer = match deadline {
            Some(deadline) => timeout_at(deadline, rx).await,
            None => Ok(rx.await),
        };
        match answer {
            Ok(answer) => answer.unwrap_or(Err(ComputeError::Closed)),
            // Whoever claims first decides: the job has begun, or never will.
            Err(_) if claim.swap(true, Ordering::AcqRel) => Err(ComputeError::Overrun),
            Err(_) => Err(ComputeError::Expired),
        }
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
}

impl Shared {
    /// One slot's life.
    fn work(&self, slot: usize) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(task) = queue.pop(slot, Instant::now()) {
                drop(queue);
                task();
                queue = self.queue.lock();
                // A load that may begin only now has no notification of its own left.
                if queue.finish(slot) {
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
    claim: &AtomicBool,
    job: impl FnOnce() -> T,
) {
    if tx.is_closed() || claim.swap(true, Ordering::AcqRel) {
        return;
    }
    // What the job shares with others (a model) must bear a panic: models have no state that an
    // invocation changes but counters.
    let outcome = catch_unwind(AssertUnwindSafe(job))
        .map_err(|payload| ComputeError::Panicked(panic_text(payload.as_ref())));
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
