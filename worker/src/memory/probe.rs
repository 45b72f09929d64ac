//! Reads memory: this process's, its control group's, the machine's.

use super::cgroup::{Cgroup, Reading};
use std::{fmt, path::Path};
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads memory. Implemented by the machine, and by tests.
pub trait MemoryProbe: fmt::Debug + Send + 'static {
    fn sample(&mut self) -> MemorySample;
}

/// Memory at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemorySample {
    /// What may be used at most: the tightest limit of the machine and its control groups.
    pub limit_bytes: u64,
    /// Which of them will be full first, by whatever counts against it.
    pub fullest: Reading,
    /// What this process holds.
    pub rss_bytes: u64,
    /// Share of the last 10 s spent waiting for memory, percent; 0 where unknown.
    pub pressure_percent: f64,
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct Machine {
    system: System,
    cgroup: Option<Cgroup>,
}

impl Machine {
    /// Fails where the platform does not tell its memory.
    pub fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self { system: System::new()?, cgroup: Cgroup::discover(Path::new("/")) })
    }

    fn rss_bytes(&mut self) -> u64 {
        let Ok(pid) = sysinfo::get_current_pid() else { return 0 };
        let what = ProcessRefreshKind::nothing().with_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        self.system.process(pid).map_or(0, sysinfo::Process::memory)
    }
}

impl MemoryProbe for Machine {
    fn sample(&mut self) -> MemorySample {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let limit_bytes = self.system.total_memory();
        let used_bytes = limit_bytes.saturating_sub(self.system.available_memory());
        let rss_bytes = self.rss_bytes();
        let group = self.cgroup.as_ref();
        MemorySample {
            rss_bytes,
            pressure_percent: group.and_then(Cgroup::pressure_percent).unwrap_or(0.0),
            ..combine(
                Reading { limit_bytes, used_bytes },
                group.and_then(Cgroup::limit_bytes),
                group.and_then(Cgroup::fullest),
            )
        }
    }
}

/// What the machine and its groups allow together. A group's limit may be above what the machine
/// has, and the group with the least limit need not be the one that fills first: others use it too.
fn combine(
    machine: Reading,
    group_limit_bytes: Option<u64>,
    group: Option<Reading>,
) -> MemorySample {
    let fullest = group.filter(|it| it.free_bytes() < machine.free_bytes()).unwrap_or(machine);
    let limit_bytes =
        group_limit_bytes.map_or(machine.limit_bytes, |it| it.min(machine.limit_bytes));
    MemorySample { limit_bytes, fullest, ..MemorySample::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_this_process_some_of_it() {
        let sample = Machine::new().unwrap().sample();
        assert!(sample.rss_bytes > 0, "{sample:?}");
        assert!(sample.rss_bytes < sample.limit_bytes, "{sample:?}");
        assert!(sample.fullest.used_bytes <= sample.fullest.limit_bytes, "{sample:?}");
    }

    #[test]
    fn a_busy_machine_does_not_hide_the_limit_of_a_small_group() {
        let machine = Reading { limit_bytes: 64, used_bytes: 54 };
        let group = Reading { limit_bytes: 16, used_bytes: 4 };
        let sample = combine(machine, Some(16), Some(group));
        assert_eq!((sample.limit_bytes, sample.fullest), (16, machine));

        let sample = combine(machine, Some(16), Some(Reading { used_bytes: 10, ..group }));
        assert_eq!(sample.fullest, Reading { limit_bytes: 16, used_bytes: 10 });
    }

    #[test]
    fn a_group_that_may_take_more_than_there_is_does_not_matter() {
        let machine = Reading { limit_bytes: 64, used_bytes: 4 };
        let group = Reading { limit_bytes: 100, used_bytes: 0 };
        let sample = combine(machine, Some(100), Some(group));
        assert_eq!((sample.limit_bytes, sample.fullest), (64, machine));
    }
}
