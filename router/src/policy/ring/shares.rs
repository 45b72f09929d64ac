//! Decides how large a part of the ring each instance has.

use super::Node;
use shared::id::InstanceId;
use std::collections::BTreeMap;

/// Virtual nodes of an instance of average memory: its share of the keys then deviates by about
/// 1/√1024 = 3 %, so that the largest of 64 is within 15 % of the mean whatever their names are. A constant, not a flag: routers that differ would disagree on every model.
const VIRTUAL_NODES: u64 = 1024;

/// The share of [`VIRTUAL_NODES`] by which weights step. Fine steps: as the average moves with
/// whoever joins or leaves, the shares of the others may step, and each step moves models.
const STEPS: u64 = 32;

/// At most four times the average, so that one giant cannot take nearly all models, nor fill the
/// ring. Together with [`MIN_STEPS`] it bounds the ring to 1.25 × 1024 virtual nodes per instance;
/// the number of instances has its own limit (`--max-instances`).
const MAX_STEPS: u64 = 4 * STEPS;

/// At least a quarter of the average: a virtual node or more in every shard of the ring.
const MIN_STEPS: u64 = STEPS / 4;

/// Steps are computed in fractions of this.
const ONE: u128 = 1 << 16;

/// How many virtual nodes each instance has.
pub type Shares = BTreeMap<InstanceId, usize>;

/// Returns each instance's virtual nodes by its memory budget, relative to the average budget.
///
/// The average moves a little with every instance that comes or goes. Were all shares rounded at
/// the same point, then all instances of one kind would step together, each time that the average
/// passes it. So each instance has a point of its own, between a quarter and three quarters of a
/// step: few step at a time, and budgets that are nearly equal give shares that are equal.
pub fn shares(budgets: &BTreeMap<InstanceId, u64>) -> Shares {
    let total: u128 = budgets.values().copied().map(u128::from).sum();
    let n_instances = budgets.len() as u128;
    let share = |instance: &InstanceId, budget: u64| {
        let point = ONE / 4 + (u128::from(Node::of(instance).number()) & (ONE / 2 - 1));
        // An average of zero says nothing, so all are equal.
        let steps = (u128::from(budget) * u128::from(STEPS) * n_instances * ONE)
            .checked_div(total)
            .map_or(STEPS, |steps| u64::try_from((steps + point) / ONE).unwrap_or(MAX_STEPS));
        let virtual_nodes = steps.clamp(MIN_STEPS, MAX_STEPS) * VIRTUAL_NODES / STEPS;
        usize::try_from(virtual_nodes).expect("at most 4096")
    };
    budgets.iter().map(|(id, budget)| (id.clone(), share(id, *budget))).collect()
}
