//! Resident memory of a process, looked at all the time on a thread of its own.

use crate::processes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::Instant;

/// From the end of one look to the next. A late look is not made up for by two at once.
const PERIOD: Duration = Duration::from_millis(10);

/// Looks until it is told to end. A thread and no task: a busy runtime could starve a task just when
/// memory is highest.
#[derive(Debug)]
pub struct MemorySampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Samples>,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    pub highest_bytes: u64,
    pub n: u32,
    pub elapsed: Duration,
    pub longest_gap: Duration,
}

impl MemorySampler {
    /// Starts to look at a process, which must live until [`MemorySampler::end`].
    pub fn start(pid: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || sample(pid, &until));
        Self { is_over, thread }
    }

    pub fn end(self) -> Samples {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the process lives as long as it is looked at")
    }
}

fn sample(pid: u32, is_over: &AtomicBool) -> Samples {
    let started = Instant::now();
    let mut last = started;
    let zero = Duration::ZERO;
    let mut samples = Samples { highest_bytes: 0, n: 0, elapsed: zero, longest_gap: zero };
    while !is_over.load(Ordering::Relaxed) {
        let bytes = processes::rss_bytes(pid).expect("the process runs");
        let now = Instant::now();
        samples.highest_bytes = samples.highest_bytes.max(bytes);
        samples.n += 1;
        samples.longest_gap = samples.longest_gap.max(now - last);
        last = now;
        thread::sleep(PERIOD);
    }
    samples.elapsed = started.elapsed();
    samples
}
