//! How many instances all endpoints have together, and the refusal of more.

use super::Context;
use crate::control::{
    catalog::{Catalog, DeployedVariant, Deployment},
    error::{ControlError, Limit},
};
use shared::id::FleetId;
use std::collections::BTreeMap;

/// Refuses a deployment that would take more instances than there may be.
///
/// What already runs counts until it is drained, as it does with SageMaker: a new fleet stands beside
/// the old one for a while. A fleet that a deployment keeps counts once, with its larger size.
pub(super) fn check_limit(
    catalog: &Catalog,
    ctx: &Context<'_>,
    deployment: &Deployment,
) -> Result<(), ControlError> {
    let in_use = fleets(catalog);
    let utilization: u64 = in_use.values().copied().map(u64::from).sum();
    let limit = u64::from(ctx.max_instances);
    let mut delta = 0;
    for variant in &deployment.variants {
        delta += u64::from(variant.n_instances.saturating_sub(size_of(&in_use, variant)));
        if delta > 0 && utilization + delta > limit {
            let instance_type = variant.instance_type.as_deref().unwrap_or("ml.local");
            let name = format!("{instance_type} for endpoint usage");
            let unit = "Instances";
            let limit = Limit { name: &name, unit, limit, utilization, delta };
            return Err(ControlError::limit_exceeded(limit));
        }
    }
    Ok(())
}

fn size_of(in_use: &BTreeMap<&FleetId, u32>, variant: &DeployedVariant) -> u32 {
    in_use.get(&variant.fleet).copied().unwrap_or_default()
}

/// The size of every fleet.
fn fleets(catalog: &Catalog) -> BTreeMap<&FleetId, u32> {
    let mut fleets = BTreeMap::new();
    let endpoints = catalog.endpoints.values();
    for variant in endpoints.flat_map(|it| it.deployments()).flat_map(|it| &it.variants) {
        let size = fleets.entry(&variant.fleet).or_insert(0);
        *size = (*size).max(variant.n_instances);
    }
    fleets
}
