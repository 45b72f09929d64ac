//! What this machine, or the container around us, offers. The only file that names sysinfo.

use crate::share::Machine;
use std::{num::NonZero, thread::available_parallelism, time::Duration};
use sysinfo::{
    MemoryRefreshKind, Pid, Process, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

#[derive(Debug, thiserror::Error)]
#[error("could not read how much memory this machine has")]
pub struct MeasureError(#[source] sysinfo::Error);

/// Measures the machine: its memory or the tighter limit of our cgroup, and the cores that we may
/// run on. `wanted_bytes` is what models shall take, if somebody said so.
pub fn measure(wanted_bytes: Option<u64>) -> Result<Machine, MeasureError> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let mut system = System::new_with_specifics(memory).map_err(MeasureError)?;
    // Of our own group and those above it: `System::cgroup_limits` knows the root's alone.
    let us = Pid::from_u32(std::process::id());
    let only_us = ProcessesToUpdate::Some(&[us]);
    system.refresh_processes_specifics(only_us, false, ProcessRefreshKind::nothing());
    let limits = system.process(us).and_then(Process::cgroup_limits);
    let limit_bytes = limits.map_or(u64::MAX, |limits| limits.total_memory);
    Ok(Machine {
        memory_bytes: system.total_memory().min(limit_bytes),
        // It knows of affinity and of cgroup quotas.
        n_cores: n_cores(),
        wanted_bytes,
    })
}

/// The cores that we may run on.
pub fn n_cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// The processor time that this process has taken, to some 10 ms; nothing where the system does not
/// tell.
pub fn cpu_time() -> Duration {
    let us = Pid::from_u32(std::process::id());
    let only_cpu = ProcessRefreshKind::nothing().with_cpu();
    let Ok(mut system) = System::new() else { return Duration::ZERO };
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[us]), false, only_cpu);
    let millis = system.process(us).map_or(0, Process::accumulated_cpu_time);
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The tightest limit of the control groups that this process is in, where they are mounted at
    /// their usual places.
    fn limit_of_our_groups() -> u64 {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limit = |line: &str| {
            let (_, group) = line.split_once(':')?;
            let (controllers, group) = group.split_once(':')?;
            let (mount, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                _ => return None,
            };
            let group = Path::new(mount).join(group.trim_start_matches('/'));
            let texts = group.ancestors().take_while(|level| level.starts_with(mount));
            let texts = texts.filter_map(|level| std::fs::read_to_string(level.join(file)).ok());
            texts.filter_map(|text| text.trim().parse::<u64>().ok()).min()
        };
        groups.lines().filter_map(limit).min().unwrap_or(u64::MAX)
    }

    #[test]
    fn launcher_in_a_limited_control_group_divides_no_more_than_its_limit() {
        assert!(measure(None).unwrap().memory_bytes <= limit_of_our_groups());
    }

    #[test]
    fn this_machine_has_memory_and_cores() {
        let machine = measure(None).unwrap();
        assert!(machine.memory_bytes > 64 * 1024 * 1024, "{machine:?}");
        assert!(machine.n_cores >= 1);
    }
}
