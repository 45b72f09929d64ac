//! How the machine is divided between the workers of a local cluster.

use std::cmp::max;

/// What of the machine's memory models may take, in percent. The rest is for what no budget counts:
/// LibTorch's own code and heap (about 300 MB a worker), decoded pictures and activations, request
/// bodies in the router, the page cache that archives are unpacked through, and everything else that
/// runs on a laptop.
const BUDGET_PERCENT: u64 = 70;

/// What there is to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub memory_bytes: u64,
    pub n_cores: usize,
    /// What models may take, if somebody said so.
    pub wanted_bytes: Option<u64>,
}

/// What one worker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub memory_budget_bytes: u64,
    pub compute_slots: usize,
}

impl Machine {
    /// Returns what models may take of the whole machine: never more than there is.
    pub fn budget_bytes(&self) -> u64 {
        let share_bytes = self.memory_bytes / 100 * BUDGET_PERCENT;
        self.wanted_bytes.unwrap_or(share_bytes).min(self.memory_bytes)
    }

    /// Whether there are more workers than cores, so that a slot is not a core of its own.
    pub fn is_crowded(&self, n_workers: usize) -> bool {
        n_workers > self.n_cores
    }
}

/// Divides `budget_bytes` and the cores between `n_workers`, as evenly as whole numbers allow.
///
/// The budgets never exceed what is divided. Every worker gets a slot, or it could not serve: with
/// more workers than cores, two on one core already, there are more slots than cores.
pub fn shares(budget_bytes: u64, n_cores: usize, n_workers: usize) -> Vec<Share> {
    let n_each = n_cores / max(n_workers, 1);
    let n_left = n_cores % max(n_workers, 1);
    (0..n_workers)
        .map(|worker_idx| Share {
            memory_budget_bytes: budget_bytes / n_workers as u64,
            compute_slots: max(n_each + usize::from(worker_idx < n_left), 1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(budget_bytes: u64, n_cores: usize, n_workers: usize, expected: &[(u64, usize)]) {
        let shares = shares(budget_bytes, n_cores, n_workers);
        let shares: Vec<_> =
            shares.iter().map(|it| (it.memory_budget_bytes, it.compute_slots)).collect();
        assert_eq!(shares, expected);
    }

    #[test]
    fn memory_and_cores_are_divided_evenly() {
        check(100, 4, 1, &[(100, 4)]);
        check(100, 4, 2, &[(50, 2), (50, 2)]);
        check(100, 5, 2, &[(50, 3), (50, 2)]);
        check(100, 8, 3, &[(33, 3), (33, 3), (33, 2)]);
        check(100, 8, 0, &[]);
    }

    #[test]
    fn every_worker_gets_a_slot_even_without_a_core_of_its_own() {
        check(100, 2, 3, &[(33, 1), (33, 1), (33, 1)]);
        assert!(Machine { memory_bytes: 1, n_cores: 2, wanted_bytes: None }.is_crowded(3));
        assert!(!Machine { memory_bytes: 1, n_cores: 2, wanted_bytes: None }.is_crowded(2));
    }

    proptest! {
        #[test]
        fn the_sum_never_exceeds_the_machine(
            memory_bytes in 0..u64::MAX,
            wanted_bytes in proptest::option::of(0..u64::MAX),
            n_cores in 1..512_usize,
            n_workers in 0..64_usize,
        ) {
            let machine = Machine { memory_bytes, n_cores, wanted_bytes };
            let shares = shares(machine.budget_bytes(), n_cores, n_workers);
            let sum: u64 = shares.iter().map(|it| it.memory_budget_bytes).sum();
            prop_assert!(sum <= memory_bytes);
            let n_slots: usize = shares.iter().map(|it| it.compute_slots).sum();
            prop_assert!(n_slots <= n_cores.max(n_workers));
            prop_assert!(n_workers == 0 || n_slots >= n_cores);
        }
    }
}
