//! Step 3 of an invocation: knows the endpoints and picks the variant.
//!
//! It owns the control plane's catalog, too: models, configurations, endpoints. A change is decided
//! by a plain function of [`crate::control`] on records that are current, written durably, published,
//! and only then answered. If another router was faster, it is decided again.
//!
//! # Invariants
//!
//! - What was answered is in the records, and what is there but was not answered is whole.
//! - Catalog and routes are one snapshot: once an endpoint is described as in service, invocations
//!   see its new variants.
//! - This actor alone may wait: it has a thread of its own, because durable writes wait for a disk or
//!   for etcd.
//! - A record that cannot be read stops nothing but changes of itself, and is never overwritten.
//! - What others wrote is read before anything is decided or told; where etcd cannot be asked, the last
//!   copy is told.
//!
//! The handle is here, the actor itself in `endpoints/actor.rs`.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then invocations go on with the last snapshot.

mod actor;
pub mod route;

use super::Unavailable;
use crate::{
    async_invocations::output::AsyncOutput,
    control::{
        Context, Outcome, Request,
        catalog::{Catalog, Endpoint, Timestamp},
        error::ControlError,
    },
    metrics::EndpointMetrics,
    policy::{deployment::Step, weighted},
    records::{
        Ledger, RecordsError,
        catalog::{self as recorded, Unreadable},
    },
};
use actix::prelude::*;
use actor::{EndpointsActor, Operate, Parts, Refresh, Seed, Settle};
use arc_swap::ArcSwap;
use route::{Routes, Variant};
use serde_json::Value;
use shared::{
    api::endpoints as file,
    id::{EndpointName, FleetId, VariantName},
    task::Task,
};
use std::{sync::Arc, time::SystemTime};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};

/// Endpoints of a file in one commit: three records each, and etcd takes 128 operations.
const MAX_SEEDS: usize = 32;

/// Knows the endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoints {
    addr: Addr<EndpointsActor>,
    published: Arc<ArcSwap<Published>>,
    changes: watch::Receiver<()>,
    config: Arc<Settings>,
    /// Follows what other routers write; `None`: nobody else does.
    following: Option<Arc<Task>>,
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
    pub launches_images: bool,
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
    pub async fn start(
        ledger: Arc<dyn Ledger>,
        config: Settings,
        metrics: EndpointMetrics,
    ) -> Result<Self, RecordsError> {
        let reading = Arc::clone(&ledger);
        let copy = spawn_blocking(move || reading.copy()).await;
        let copy = copy.unwrap_or_else(|panic| Err(RecordsError::Storage(Arc::new(panic))))?;
        let mut unreadable = Unreadable::default();
        let catalog = recorded::written(&Catalog::default(), copy, &mut unreadable);
        let catalog = Arc::new(catalog);
        let routes = Routes::default().changed_to(&catalog, &metrics);
        let published = Published { catalog: Arc::clone(&catalog), routes };
        let published = Arc::new(ArcSwap::from_pointee(published));
        let (news, changes) = watch::channel(());
        let writes_of_others = ledger.news();
        let (parts, config) = (Arc::new(Parts { news, metrics, ledger }), Arc::new(config));
        let (swap, settings) = (Arc::clone(&published), Arc::clone(&config));
        let addr = SyncArbiter::start(1, move || EndpointsActor {
            published: Arc::clone(&swap),
            parts: Arc::clone(&parts),
            config: Arc::clone(&settings),
            refreshed_at: None,
            unreadable: unreadable.clone(),
        });
        let follow = |news| Task::of(actix::spawn(actor::follow(addr.clone(), news)));
        let following = writes_of_others.map(follow).map(Arc::new);
        Ok(Self { addr, published, changes, config, following })
    }

    /// Does one operation of the control plane. A change is durable and visible when this returns.
    pub async fn operate(&self, call: Call) -> Result<Value, OperateError> {
        if call.request.is_read() {
            if self.following.is_some() {
                // If etcd cannot be asked, what is known is told.
                let _ = self.addr.send(Refresh { asked_at: Instant::now() }).await;
            }
            let outcome = call.decide(&self.catalog(), &self.config);
            return outcome.map(|outcome| outcome.output).map_err(OperateError::Refused);
        }
        let answer = self.addr.send(Operate { call }).await;
        answer.unwrap_or(Err(Unavailable("endpoints").into()))
    }

    /// Puts the endpoints of a file there that have no record yet, in service as they are.
    pub async fn seed(&self, endpoints: Vec<file::Endpoint>) -> Result<(), OperateError> {
        for endpoints in endpoints.chunks(MAX_SEEDS) {
            let answer = self.addr.send(Seed { endpoints: endpoints.to_vec() }).await;
            answer.unwrap_or(Err(Unavailable("endpoints").into()))?;
        }
        Ok(())
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

    /// Whether a variant is still one of an endpoint's, and as it was.
    pub fn has(&self, endpoint: &EndpointName, variant: &Arc<Variant>) -> bool {
        let published = self.published.load();
        let variants = published.routes.variants(endpoint).unwrap_or_default();
        variants.iter().any(|it| Arc::ptr_eq(it, variant))
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
        let is_actor_alive = self.addr.connected() && self.changes.has_changed().is_ok();
        // It ends with whoever tells of other routers' writes, too.
        is_actor_alive && self.following.as_ref().is_none_or(|it| it.is_alive())
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
            launches_images: config.launches_images,
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

#[cfg(test)]
mod tests;
