//! What this machine, or the container around us, offers. The only file that names sysinfo.

use crate::share::Machine;
use std::{num::NonZero, thread::available_parallelism};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

#[derive(Debug, thiserror::Error)]
#[error("could not read how much memory this machine has")]
pub struct MeasureError(#[source] sysinfo::Error);

/// Measures the machine: its memory or the tighter limit of our cgroup, and the cores that we may
/// run on.
pub fn measure() -> Result<Machine, MeasureError> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory).map_err(MeasureError)?;
    let limit_bytes = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    Ok(Machine {
        memory_bytes: system.total_memory().min(limit_bytes),
        // It knows of affinity and of cgroup quotas.
        n_cores: available_parallelism().map_or(1, NonZero::get),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_cores() {
        let machine = measure().unwrap();
        assert!(machine.memory_bytes > 64 * 1024 * 1024, "{machine:?}");
        assert!(machine.n_cores >= 1);
    }
}
