//! Reads memory: this process's, its control group's, the machine's.

use super::cgroup::Cgroup;
use std::{fmt, path::Path};
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads memory. Implemented by the machine, and by tests.
pub trait MemoryProbe: fmt::Debug + Send + 'static {
    fn sample(&mut self) -> MemorySample;
}

/// Memory at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemorySample {
    /// What may be used at most: the tightest of the machine and its control groups.
    pub limit_bytes: u64,
    /// What counts against that limit now, by whomever.
    pub used_bytes: u64,
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
        let total = self.system.total_memory();
        let machine = (total, total.saturating_sub(self.system.available_memory()));
        let group = self.cgroup.as_ref().and_then(Cgroup::tightest);
        let group = group.map(|it| (it.limit_bytes, it.used_bytes));
        // A group's limit may be above what the machine has.
        let (limit_bytes, used_bytes) = match group {
            Some((limit, used)) if limit.saturating_sub(used) < machine.0 - machine.1 => {
                (limit.min(total), used)
            }
            _ => machine,
        };
        let pressure = self.cgroup.as_ref().and_then(Cgroup::pressure_percent);
        MemorySample {
            limit_bytes,
            used_bytes,
            rss_bytes: self.rss_bytes(),
            pressure_percent: pressure.unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_this_process_some_of_it() {
        let sample = Machine::new().unwrap().sample();
        assert!(sample.rss_bytes > 0, "{sample:?}");
        assert!(sample.rss_bytes < sample.limit_bytes, "{sample:?}");
        assert!(sample.used_bytes <= sample.limit_bytes, "{sample:?}");
    }
}
