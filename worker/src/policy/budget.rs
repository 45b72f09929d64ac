//! How many bytes models may take, and when some must go before anyone asks.

use crate::{
    memory::{cgroup::Reading, probe::MemorySample},
    runtime::Footprint,
};

/// Of what a machine or group offers, the share that models may take by default. The rest is for
/// the process itself, request bodies, the page cache of the next load, and neighbors.
const DEFAULT_SHARE_PERCENT: u64 = 70;

/// Above this share of the limit the kernel may soon kill: shed.
const HIGH_WATERMARK_PERCENT: u64 = 95;

/// Shedding goes down to here, so that it does not begin again at once.
const LOW_WATERMARK_PERCENT: u64 = 85;

/// Waiting for memory a tenth of the time hurts every invocation (kernel documentation, "PSI").
const HIGH_PRESSURE_PERCENT: f64 = 10.0;

/// Returns how many bytes models may take in all: what is configured, but never more than the
/// limit leaves beside what the process needs for itself (`idle_bytes`, its size without models).
pub fn model_budget(configured_bytes: Option<u64>, limit_bytes: u64, idle_bytes: u64) -> u64 {
    let available = limit_bytes.saturating_sub(idle_bytes);
    match configured_bytes {
        Some(bytes) => bytes.min(available),
        None => percent(available, DEFAULT_SHARE_PERCENT),
    }
}

/// Returns what resident models cost: all that they hold, and workspace for as many of the
/// hungriest as may run at once. One model may run on every slot.
pub fn used_bytes(footprints: impl Iterator<Item = Footprint>, n_slots: usize) -> u64 {
    let (resident, workspace) = footprints.fold((0_u64, 0_u64), |(resident, workspace), it| {
        (resident.saturating_add(it.resident_bytes), workspace.max(it.workspace_bytes))
    });
    resident.saturating_add(workspace.saturating_mul(n_slots as u64))
}

/// Returns how many bytes to shed because of what the system says, whatever the budget says.
pub fn shed_bytes(sample: &MemorySample) -> u64 {
    let Reading { limit_bytes, used_bytes } = sample.fullest;
    let high = percent(limit_bytes, HIGH_WATERMARK_PERCENT);
    let low = percent(limit_bytes, LOW_WATERMARK_PERCENT);
    let is_waiting = sample.pressure_percent >= HIGH_PRESSURE_PERCENT && used_bytes > low;
    if used_bytes > high || is_waiting { used_bytes - low } else { 0 }
}

fn percent(bytes: u64, percent: u64) -> u64 {
    bytes / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_budget_never_exceeds_what_the_limit_leaves() {
        assert_eq!(model_budget(Some(GIB), 4 * GIB, GIB), GIB);
        assert_eq!(model_budget(Some(8 * GIB), 4 * GIB, GIB), 3 * GIB);
        assert_eq!(model_budget(None, 4 * GIB, GIB), 3 * GIB / 100 * 70);
        assert_eq!(model_budget(None, GIB, 2 * GIB), 0);
    }

    #[test]
    fn every_slot_may_run_the_hungriest_model() {
        let footprint =
            |resident_bytes, workspace_bytes| Footprint { resident_bytes, workspace_bytes };
        let models = [footprint(100, 7), footprint(50, 20)];
        assert_eq!(used_bytes(models.into_iter(), 2), 190);
        assert_eq!(used_bytes([].into_iter(), 2), 0);
    }

    #[test]
    fn shedding_begins_high_and_ends_low() {
        let sample = |used_bytes, pressure_percent| MemorySample {
            fullest: Reading { limit_bytes: 1000, used_bytes },
            pressure_percent,
            ..MemorySample::default()
        };
        assert_eq!(shed_bytes(&sample(940, 0.0)), 0);
        assert_eq!(shed_bytes(&sample(960, 0.0)), 110);
        assert_eq!(shed_bytes(&sample(900, 50.0)), 50);
        assert_eq!(shed_bytes(&sample(800, 50.0)), 0);
    }
}
