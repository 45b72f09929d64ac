//! How an endpoint gets from one state to the next, as plain functions.
//!
//! ```text
//! Creating ─► InService | Failed          pending ─► active
//! Updating ─► InService                   pending ─► active, active ─► retired; or pending ─► retired
//! Deleting ─► gone
//! ```
//!
//! A deployment that is retired keeps its fleets for [`RETIRE_GRACE`], then they are drained; once
//! nothing of them runs, it is forgotten.
//!
//! Source: SageMaker developer guide, "Update models in production" (new fleet first, traffic
//! shifted at once, old fleet drained; a failure keeps the old fleet).

use crate::control::catalog::{
    Catalog, DeployedVariant, Deployment, Endpoint, EndpointStatus, Timestamp,
};
use shared::{
    api::fleets::{ContainerDefinition, DesiredFleet},
    id::FleetId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    time::Duration,
};

/// How long instances go on after the traffic has left them: an invocation that picked its variant
/// just before is on its way to them, and may take as long as a connection may (a second).
pub const RETIRE_GRACE: Duration = Duration::from_secs(2);

/// SageMaker's bound for `FailureReason` (API model of 2017-07-24).
const MAX_REASON_CHARS: usize = 1024;

/// What is known of a fleet's instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub n_in_service: u32,
    /// Whether nothing of it runs any more.
    pub is_gone: bool,
    /// Why its instances do not come up.
    pub failure: Option<String>,
}

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// A launcher starts and stops them for one fleet.
    Launched,
    /// Workers register by themselves and serve every variant.
    Pooled,
}

impl FromStr for Provision {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "launcher" => Ok(Self::Launched),
            "pool" => Ok(Self::Pooled),
            _ => Err("expected `pool` or `launcher`"),
        }
    }
}

/// How long a pending deployment is waited for, by a clock that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub waited: Duration,
    pub longest: Duration,
}

/// What is to be done with an endpoint's record.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pending deployment has what it needs: traffic goes there.
    Serve,
    /// The pending deployment does not come up.
    Fail(String),
    /// Nothing runs any more of the retired deployment that started then.
    Forget(Timestamp),
    /// Nothing of the endpoint runs any more.
    Remove,
}

/// Decides what comes next for an endpoint; `None`: wait.
pub fn next_step(
    endpoint: &Endpoint,
    seen: impl Fn(&FleetId) -> Seen,
    provision: Provision,
    patience: Patience,
    now: Timestamp,
) -> Option<Step> {
    if endpoint.status == EndpointStatus::Deleting {
        let mut variants = endpoint.deployments().flat_map(|it| &it.variants);
        return variants.all(|it| seen(&it.fleet).is_gone).then_some(Step::Remove);
    }
    if let Some(pending) = &endpoint.pending {
        let step = pending_step(pending, &seen, provision, patience);
        if step.is_some() {
            return step;
        }
    }
    let kept = fleets(endpoint.active.iter().chain(&endpoint.pending));
    let is_gone = |it: &&Deployment| {
        let mut variants = it.variants.iter().filter(|it| !kept.contains(&it.fleet));
        is_past(it, now) && variants.all(|it| seen(&it.fleet).is_gone)
    };
    endpoint.retired.iter().find(is_gone).map(|it| Step::Forget(it.started))
}

fn pending_step(
    pending: &Deployment,
    seen: impl Fn(&FleetId) -> Seen,
    provision: Provision,
    Patience { waited, longest }: Patience,
) -> Option<Step> {
    let is_ready = |variant: &DeployedVariant| {
        let n_in_service = seen(&variant.fleet).n_in_service;
        match provision {
            // Exactly, so that an endpoint that shrank is settled once the others have gone.
            Provision::Launched => n_in_service == variant.n_instances,
            Provision::Pooled => n_in_service >= variant.n_instances,
        }
    };
    let Some(variant) = pending.variants.iter().find(|it| !is_ready(it)) else {
        return Some(Step::Serve);
    };
    let seen = seen(&variant.fleet);
    if let Some(failure) = &seen.failure {
        return Some(Step::Fail(unhealthy(variant, failure)));
    }
    if waited < longest {
        return None;
    }
    Some(Step::Fail(match provision {
        Provision::Pooled => no_capacity(variant, seen.n_in_service),
        Provision::Launched => {
            let failure = format!(
                "{} of {} instances are in service after {} s",
                seen.n_in_service,
                variant.n_instances,
                waited.as_secs()
            );
            unhealthy(variant, &failure)
        }
    }))
}

/// As SageMaker words it; what follows is ours.
fn unhealthy(variant: &DeployedVariant, failure: &str) -> String {
    format!(
        "The primary container for production variant {} did not pass the ping health check. \
         Please check the worker's log. {failure}",
        variant.name
    )
}

/// The SDK looks for `CapacityError` (sagemaker 2, `wait_for_endpoint`).
fn no_capacity(variant: &DeployedVariant, n_in_service: u32) -> String {
    format!(
        "CapacityError: Unable to provision requested compute capacity: production variant {} wants \
         {} instances and {n_in_service} workers are registered. Start more workers or ask for fewer \
         instances.",
        variant.name, variant.n_instances
    )
}

impl Step {
    /// Returns the endpoint after this step; `None` if it is gone.
    pub fn applied_to(&self, endpoint: &Endpoint, now: Timestamp) -> Option<Endpoint> {
        let mut next = endpoint.clone();
        match self {
            Self::Serve => serve(&mut next, now),
            Self::Fail(reason) => fail(&mut next, reason, now),
            Self::Forget(started) => next.retired.retain(|it| it.started != *started),
            Self::Remove => return None,
        }
        Some(next)
    }
}

fn serve(endpoint: &mut Endpoint, now: Timestamp) {
    let Some(mut pending) = endpoint.pending.take() else { return };
    for variant in &mut pending.variants {
        variant.current_instances = variant.n_instances;
    }
    let old = endpoint.active.replace(pending);
    retire(endpoint, old, now);
    endpoint.status = EndpointStatus::InService;
    endpoint.failure_reason = None;
    endpoint.modified = now;
    if let Some(active) = &endpoint.active {
        endpoint.config_name.clone_from(&active.config_name);
    }
}

fn fail(endpoint: &mut Endpoint, reason: &str, now: Timestamp) {
    let pending = endpoint.pending.take();
    retire(endpoint, pending, now);
    endpoint.status = match endpoint.active {
        // An update that fails leaves what served before.
        Some(_) => EndpointStatus::InService,
        None => EndpointStatus::Failed,
    };
    endpoint.failure_reason = Some(reason.chars().take(MAX_REASON_CHARS).collect());
    endpoint.modified = now;
}

/// Retires what no other deployment goes on with.
fn retire(endpoint: &mut Endpoint, deployment: Option<Deployment>, now: Timestamp) {
    let kept = fleets(endpoint.active.iter().chain(&endpoint.pending));
    let Some(mut deployment) = deployment else { return };
    deployment.variants.retain(|it| !kept.contains(&it.fleet));
    if deployment.variants.is_empty() {
        return;
    }
    // The name of a retired deployment is when it was retired.
    let taken = |at: &Timestamp| endpoint.retired.iter().any(|it| it.started == *at);
    deployment.started = now;
    while taken(&deployment.started) {
        deployment.started.0 += 1;
    }
    endpoint.retired.push(deployment);
}

fn fleets<'a>(deployments: impl Iterator<Item = &'a Deployment>) -> BTreeSet<FleetId> {
    deployments.flat_map(|it| &it.variants).map(|it| it.fleet.clone()).collect()
}

fn is_past(retired: &Deployment, now: Timestamp) -> bool {
    // The clock of records may be set: back or forth, a grace must end.
    u128::from(now.0.abs_diff(retired.started.0)) >= RETIRE_GRACE.as_millis()
}

/// Returns every fleet that shall run now.
pub fn desired(catalog: &Catalog, now: Timestamp) -> Vec<DesiredFleet> {
    let mut desired = BTreeMap::new();
    for endpoint in catalog.endpoints.values() {
        if endpoint.status == EndpointStatus::Deleting {
            continue;
        }
        let retired = endpoint.retired.iter().filter(|it| !is_past(it, now));
        // The pending deployment last: of a fleet that goes on it says how many there shall be.
        for deployment in retired.chain(&endpoint.active).chain(&endpoint.pending) {
            for variant in &deployment.variants {
                desired.insert(
                    variant.fleet.clone(),
                    DesiredFleet {
                        fleet: variant.fleet.clone(),
                        endpoint: endpoint.name.clone(),
                        variant: variant.name.clone(),
                        n_instances: variant.n_instances,
                        environment: super::environment::allowed(&variant.environment),
                        container: Some(ContainerDefinition {
                            image: variant.image.clone(),
                            environment: variant.environment.clone(),
                            startup_timeout_s: variant.startup_timeout_s,
                        }),
                    },
                );
            }
        }
    }
    desired.into_values().collect()
}

/// Returns the prefixes of a deployment that no endpoint serves any more: their models may go.
pub fn unserved<'a>(deployment: &'a Deployment, catalog: &Catalog) -> Vec<&'a str> {
    let served: Vec<&str> = catalog
        .endpoints
        .values()
        .filter(|it| it.status != EndpointStatus::Deleting)
        .flat_map(|it| it.active.iter().chain(&it.pending))
        .flat_map(|it| &it.variants)
        .map(|it| &*it.model_data_url)
        .collect();
    let is_unserved =
        |url: &&str| !served.iter().any(|it| it.starts_with(url) || url.starts_with(it));
    deployment.variants.iter().map(|it| &*it.model_data_url).filter(is_unserved).collect()
}

#[cfg(test)]
mod tests;
