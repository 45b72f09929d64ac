//! Step 3 of an invocation: knows the endpoints and picks the variant.
//!
//! It owns the control plane's catalog, too: models, configurations, endpoints. A change is decided
//! by a plain function of [`crate::control`], written durably, published, and only then answered.
//!
//! # Invariants
//!
//! - What was answered is on disk, and what is on disk but was not answered is whole.
//! - Catalog and routes are one snapshot: once an endpoint is described as in service, invocations
//!   see its new variants.
//! - This actor alone may wait: it has a thread of its own, because durable writes wait for a disk.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

pub mod route;

use super::Unavailable;
use crate::{
    async_invocations::output::AsyncOutput,
    control::{
        Context, Outcome, Request,
        arn::ResourceKind,
        catalog::{self, Catalog, Change, Deployment, Endpoint, Timestamp},
        error::ControlError,
        seed,
    },
    metrics::EndpointMetrics,
    policy::{deployment::Step, weighted},
    records::{Records, RecordsError, catalog as recorded},
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use route::{Routes, Variant};
use serde_json::Value;
use shared::{
    api::endpoints as file,
    id::{EndpointName, FleetId, VariantName},
    telemetry::Chain,
};
use std::{sync::Arc, time::SystemTime};
use tokio::sync::watch;
use tracing::{error, info};

/// Knows the endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoints {
    addr: Addr<EndpointsActor>,
    published: Arc<ArcSwap<Published>>,
    changes: watch::Receiver<()>,
    config: Arc<Settings>,
}

#[derive(Debug, Default)]
struct Published {
    catalog: Arc<Catalog>,
    routes: Routes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    #[error("endpoint `{0}` not found")]
    UnknownEndpoint(EndpointName),
    #[error("variant `{1}` of endpoint `{0}` not found")]
    UnknownVariant(EndpointName, VariantName),
    #[error("endpoint `{0}` has no variant in service")]
    NoVariant(EndpointName),
}

/// What operations know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub account_id: String,
    /// Of ARNs for which no caller names one.
    pub region: String,
    pub max_instances: u32,
    pub max_records: usize,
}

/// A call of the control plane.
#[derive(Debug)]
pub struct Call {
    pub request: Request,
    /// The region that the caller means: that of new ARNs.
    pub region: String,
    /// Under which names the caller reaches us, and so our store.
    pub own_hosts: Vec<String>,
}

/// Why a call of the control plane was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperateError {
    #[error(transparent)]
    Refused(ControlError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Endpoints {
    /// Reads the records and starts the actor's thread.
    pub fn start(
        records: Arc<dyn Records>,
        config: Settings,
        metrics: EndpointMetrics,
    ) -> Result<Self, RecordsError> {
        let catalog = Arc::new(recorded::read(&*records)?);
        let routes = Routes::default().changed_to(&catalog, &metrics);
        let published = Published { catalog: Arc::clone(&catalog), routes };
        let published = Arc::new(ArcSwap::from_pointee(published));
        let (news, changes) = watch::channel(());
        let (parts, config) = (Arc::new((news, metrics, records)), Arc::new(config));
        let (swap, settings) = (Arc::clone(&published), Arc::clone(&config));
        let addr = SyncArbiter::start(1, move || EndpointsActor {
            published: Arc::clone(&swap),
            parts: Arc::clone(&parts),
            config: Arc::clone(&settings),
        });
        Ok(Self { addr, published, changes, config })
    }

    /// Does one operation of the control plane. A change is durable and visible when this returns.
    pub async fn operate(&self, call: Call) -> Result<Value, OperateError> {
        if call.request.is_read() {
            let outcome = call.decide(&self.catalog(), &self.config);
            return outcome.map(|outcome| outcome.output).map_err(OperateError::Refused);
        }
        let answer = self.addr.send(Operate { call }).await;
        answer.unwrap_or(Err(Unavailable("endpoints").into()))
    }

    /// Puts the endpoints of a file there that have no record yet, in service as they are.
    pub async fn seed(&self, endpoints: Vec<file::Endpoint>) -> Result<(), OperateError> {
        let answer = self.addr.send(Seed { endpoints }).await;
        answer.unwrap_or(Err(Unavailable("endpoints").into()))
    }

    /// Takes a step of an endpoint's deployment, unless its record has changed since it was decided.
    /// Returns whether it was taken.
    pub async fn settle(
        &self,
        decided_on: Arc<Endpoint>,
        step: Step,
    ) -> Result<bool, OperateError> {
        let answer = self.addr.send(Settle { decided_on, step }).await;
        answer.unwrap_or(Err(Unavailable("endpoints").into()))
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.published.load().catalog)
    }

    /// Returns what tells of every change of the catalog.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Returns the variant that serves an invocation: the one asked for, else one by weight.
    pub fn pick_variant(
        &self,
        endpoint: &EndpointName,
        target: Option<&VariantName>,
    ) -> Result<Arc<Variant>, PickError> {
        let published = self.published.load();
        let variants = published
            .routes
            .variants(endpoint)
            .ok_or_else(|| PickError::UnknownEndpoint(endpoint.clone()))?;
        let picked = match (target, variants) {
            (Some(target), variants) => variants
                .iter()
                .find(|variant| variant.name == *target)
                .ok_or_else(|| PickError::UnknownVariant(endpoint.clone(), target.clone()))?,
            (None, [only]) => only,
            (None, variants) => {
                let weights = variants.iter().map(|variant| variant.weight);
                let picked = weighted::pick(weights, rand::random());
                &variants[picked.ok_or_else(|| PickError::NoVariant(endpoint.clone()))?]
            }
        };
        Ok(Arc::clone(picked))
    }

    /// Returns where an endpoint leaves what comes of asynchronous invocations; `None` if it takes
    /// none.
    pub fn async_output(&self, endpoint: &EndpointName) -> Option<AsyncOutput> {
        let published = self.published.load();
        let endpoint = published.catalog.endpoint(endpoint.as_str())?;
        AsyncOutput::of_config(endpoint.active.as_ref()?.async_inference.as_ref()?)
    }

    pub fn is_alive(&self) -> bool {
        // An actor's thread that panicked is noticed by its address only when it is asked again. What
        // it tells the news with is gone at once.
        self.addr.connected() && self.changes.has_changed().is_ok()
    }
}

impl Call {
    fn decide(&self, catalog: &Catalog, config: &Settings) -> Result<Outcome, ControlError> {
        let context = Context {
            region: &self.region,
            account_id: &config.account_id,
            now: now(),
            max_instances: config.max_instances,
            max_records: config.max_records,
            own_hosts: &self.own_hosts,
            new_fleet: &new_fleet,
        };
        self.request.operate(catalog, &context)
    }
}

/// Records carry the time of day, because they outlive every clock of a process.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A name that no fleet ever had.
fn new_fleet() -> FleetId {
    let id = format!("f-{}", uuid::Uuid::new_v4().simple());
    id.parse().expect("hexadecimal digits are a name")
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "Result<Value, OperateError>")]
struct Operate {
    call: Call,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<(), OperateError>")]
struct Seed {
    endpoints: Vec<file::Endpoint>,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<bool, OperateError>")]
struct Settle {
    decided_on: Arc<Endpoint>,
    step: Step,
}

// === Actor ===

#[derive(Debug)]
struct EndpointsActor {
    published: Arc<ArcSwap<Published>>,
    parts: Arc<(watch::Sender<()>, EndpointMetrics, Arc<dyn Records>)>,
    config: Arc<Settings>,
}

impl Actor for EndpointsActor {
    type Context = SyncContext<Self>;
}

// === Handlers, in the order of the messages ===

impl Handler<Operate> for EndpointsActor {
    type Result = Result<Value, OperateError>;

    fn handle(&mut self, Operate { call }: Operate, _: &mut Self::Context) -> Self::Result {
        let catalog = Arc::clone(&self.published.load().catalog);
        let outcome = call.decide(&catalog, &self.config).map_err(OperateError::Refused)?;
        let known =
            |it: &Deployment| catalog.endpoints.values().any(|e| e.pending.as_ref() == Some(it));
        let pending = outcome.changes.iter().find_map(Change::pending).filter(|it| !known(it));
        let pending = pending.cloned();
        self.commit(&catalog, outcome.changes)?;
        info!(operation = call.request.operation(), "control plane changed");
        for variant in pending.into_iter().flat_map(|it| it.variants) {
            let note = variant.note.unwrap_or_default();
            info!(variant = %variant.name, fleet = %variant.fleet, note, "variant wanted");
        }
        Ok(outcome.output)
    }
}

impl Handler<Seed> for EndpointsActor {
    type Result = Result<(), OperateError>;

    fn handle(&mut self, Seed { endpoints }: Seed, _: &mut Self::Context) -> Self::Result {
        let catalog = Arc::clone(&self.published.load().catalog);
        let Settings { region, account_id, .. } = &*self.config;
        let home = seed::Home { region, account_id, now: now() };
        let is_new = |it: &&file::Endpoint| !catalog.has(ResourceKind::Endpoint, it.name.as_str());
        let new = endpoints.iter().filter(is_new);
        let changes = new.flat_map(|it| seed::changes(it, &home, new_fleet));
        // Whatever has a name already is a client's, and stays.
        let changes = changes.filter(|it| !recorded::has(&catalog, it)).collect();
        Ok(self.commit(&catalog, changes)?)
    }
}

impl Handler<Settle> for EndpointsActor {
    type Result = Result<bool, OperateError>;

    fn handle(&mut self, message: Settle, _: &mut Self::Context) -> Self::Result {
        let Settle { decided_on, step } = message;
        let catalog = Arc::clone(&self.published.load().catalog);
        let key = catalog::key(decided_on.name.as_str());
        let Some(current) = catalog.endpoints.get(&key) else {
            return Ok(false);
        };
        // Somebody has changed it meanwhile: the step was for another state.
        if !Arc::ptr_eq(current, &decided_on) {
            return Ok(false);
        }
        info!(endpoint = %current.name, ?step, "deployment goes on");
        let change = match step.applied_to(current, now()) {
            Some(endpoint) => Change::PutEndpoint(endpoint),
            None => Change::DeleteEndpoint(key),
        };
        self.commit(&catalog, vec![change])?;
        Ok(true)
    }
}

impl EndpointsActor {
    /// Makes changes durable, then visible.
    fn commit(&self, catalog: &Catalog, changes: Vec<Change>) -> Result<(), RecordsError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (news, metrics, records) = &*self.parts;
        let writes: Vec<_> = changes.iter().map(recorded::write).collect();
        records.commit(&writes).inspect_err(|error| {
            error!(error = %Chain(error), "records not written; nothing was changed");
        })?;
        let mut catalog = catalog.clone();
        for change in changes {
            catalog.apply(change);
        }
        let catalog = Arc::new(catalog);
        let routes = self.published.load().routes.changed_to(&catalog, metrics);
        self.published.store(Arc::new(Published { catalog, routes }));
        news.send_replace(());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
