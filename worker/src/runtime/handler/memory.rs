//! What a model's handler processes hold, and whether the kernel killed one of them for it.

use super::process::Ended;
use crate::runtime::WorkerDescription;
use parking_lot::Mutex;
use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_blocking, time::Instant};

/// `SIGKILL`, which the kernel sends when memory runs out.
const SIGKILL: i32 = 9;

/// The memory of one model's processes.
#[derive(Debug)]
pub(super) struct Memory {
    /// By process; `None` before the first.
    held: Mutex<Vec<Option<WorkerDescription>>>,
    watch: Arc<KillWatch>,
}

/// Counts what the kernel has killed because memory ran out, on the whole machine: of a single process it
/// tells nobody but its log.
#[derive(Debug)]
pub(super) struct KillWatch {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// How many it were when it was last looked.
    n_killed: u64,
    /// When they were last seen to become more.
    at: Option<Instant>,
}

/// How long after a kill a death is put down to it. Every working process has it looked at each second.
const RECENT: Duration = Duration::from_secs(2);

impl Memory {
    pub(super) fn new(n_processes: usize, watch: Arc<KillWatch>) -> Self {
        Self { held: Mutex::new(vec![None; n_processes]), watch }
    }

    /// Bytes of all processes.
    pub(super) fn bytes(&self) -> u64 {
        self.held.lock().iter().flatten().map(|it| it.memory_bytes).sum()
    }

    /// Every process, as it was measured last.
    pub(super) fn workers(&self) -> Vec<WorkerDescription> {
        self.held.lock().iter().flatten().copied().collect()
    }

    /// Makes room for more processes, or forgets the last ones.
    pub(super) fn set_processes(&self, n_processes: usize) {
        self.held.lock().resize(n_processes, None);
    }

    /// Looks at what a process holds.
    pub(super) async fn measure(&self, idx: usize, id: u32) {
        self.watch.look();
        // A large process has many pages to count.
        let held = spawn_blocking(move || proportional_bytes(id)).await;
        // One that has just ended holds what it held last; another takes its place.
        if let Ok(Some(held)) = held
            && let Some(known) = self.held.lock().get_mut(idx)
        {
            let since = known.filter(|it| it.id == id).map_or_else(SystemTime::now, |it| it.since);
            *known = Some(WorkerDescription { id, since, memory_bytes: held });
        }
    }

    /// Says whether it was memory that a process was killed for.
    pub(super) fn blame(&self, ended: Ended) -> Ended {
        match ended {
            Ended::Killed(SIGKILL) if self.watch.look() => Ended::OutOfMemory,
            ended => ended,
        }
    }
}

impl KillWatch {
    pub(super) fn new() -> Self {
        Self { seen: Mutex::new(Seen { n_killed: n_killed().unwrap_or(0), at: None }) }
    }

    /// Whether something was killed a moment ago.
    fn look(&self) -> bool {
        let (n_killed, now) = (n_killed().unwrap_or(0), Instant::now());
        let mut seen = self.seen.lock();
        if n_killed > seen.n_killed {
            *seen = Seen { n_killed, at: Some(now) };
        }
        seen.at.is_some_and(|at| now - at < RECENT)
    }
}

/// Reads how much was killed since the machine started (`proc_vmstat(5)`); `None` where it is not told.
fn n_killed() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    field(&text, "oom_kill")
}

/// Reads what a process holds: its own pages, and its share of those it has together with others
/// (`proc_pid_smaps_rollup(5)`).
fn proportional_bytes(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    Some(field(&text, "Pss:")? * 1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nPss_Dirty: 7 kB\nPss:   1234 kB\n";
        assert_eq!(field(text, "Pss:"), Some(1234));
        assert_eq!(field("oom_kill_x 3\noom_kill 5\n", "oom_kill"), Some(5));
        assert_eq!(field("", "oom_kill"), None);
    }

    #[test]
    fn this_process_holds_memory() {
        assert!(proportional_bytes(std::process::id()).unwrap() > 1 << 16);
    }
}
