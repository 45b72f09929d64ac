//! The actor behind [`Endpoints`](super::Endpoints), on a thread of its own.

use super::{Call, OperateError, Published, Settings, now};
use crate::{
    control::{
        arn::ResourceKind,
        catalog::{self, Catalog, Change, Deployment, Endpoint},
        seed,
    },
    metrics::EndpointMetrics,
    policy::deployment::Step,
    records::{
        Ledger, RecordsError, Write,
        catalog::{self as recorded, Unreadable},
    },
};
use actix::prelude::*;
use arc_swap::ArcSwap;
use serde_json::Value;
use shared::{api::endpoints as file, backoff::Backoff, telemetry::Chain};
use std::{sync::Arc, thread, time::Duration};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, info};

/// How often a change is decided anew because another router was faster. Each time one of them got on,
/// so that many fail only where dozens change something at once.
const MAX_DECISIONS: u32 = 20;

/// Between them, so that routers do not run into each other again: a commit takes milliseconds.
const DECIDE_AGAIN: Backoff =
    Backoff { base: Duration::from_millis(4), max: Duration::from_millis(100) };

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Refresh {
    pub(super) asked_at: Instant,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<Value, OperateError>")]
pub(super) struct Operate {
    pub(super) call: Call,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<(), OperateError>")]
pub(super) struct Seed {
    pub(super) endpoints: Vec<file::Endpoint>,
}

#[derive(Debug, Message)]
#[rtype(result = "Result<bool, OperateError>")]
pub(super) struct Settle {
    pub(super) decided_on: Arc<Endpoint>,
    pub(super) step: Step,
}

// === Actor ===

#[derive(Debug)]
pub(super) struct EndpointsActor {
    pub(super) published: Arc<ArcSwap<Published>>,
    pub(super) parts: Arc<Parts>,
    pub(super) config: Arc<Settings>,
    /// When the last refresh began that went well: who asked before need not wait for another.
    pub(super) refreshed_at: Option<Instant>,
    pub(super) unreadable: Unreadable,
}

/// What the actor talks to.
#[derive(Debug)]
pub(super) struct Parts {
    /// Tells of every change of the catalog.
    pub(super) news: watch::Sender<()>,
    pub(super) metrics: EndpointMetrics,
    pub(super) ledger: Arc<dyn Ledger>,
}

/// How changes are made durable: as what somebody asked for, or as seeds.
type Commit = fn(&dyn Ledger, &[Write]) -> Result<(), RecordsError>;

fn as_change(ledger: &dyn Ledger, writes: &[Write]) -> Result<(), RecordsError> {
    ledger.commit(writes)
}

fn as_seed(ledger: &dyn Ledger, writes: &[Write]) -> Result<(), RecordsError> {
    ledger.seed(writes)
}

impl Actor for EndpointsActor {
    type Context = SyncContext<Self>;
}

// === Handlers, in the order of the messages ===

impl Handler<Refresh> for EndpointsActor {
    type Result = ();

    fn handle(&mut self, Refresh { asked_at }: Refresh, _: &mut Self::Context) {
        if self.refreshed_at.is_some_and(|at| at >= asked_at) {
            return;
        }
        if let Err(error) = self.current() {
            debug!(error = %Chain(&error), "records not read; the last copy is told");
        }
    }
}

impl Handler<Operate> for EndpointsActor {
    type Result = Result<Value, OperateError>;

    fn handle(&mut self, Operate { call }: Operate, _: &mut Self::Context) -> Self::Result {
        let (pending, output) = self.decide(as_change, |it, catalog| {
            let outcome = call.decide(catalog, &it.config).map_err(OperateError::Refused)?;
            let known = |it: &Deployment| {
                catalog.endpoints.values().any(|e| e.pending.as_ref() == Some(it))
            };
            let pending = outcome.changes.iter().find_map(Change::pending).filter(|it| !known(it));
            Ok(((pending.cloned(), outcome.output), outcome.changes))
        })?;
        info!(operation = call.request.operation(), "control plane changed");
        for variant in pending.into_iter().flat_map(|it| it.variants) {
            let note = variant.note.unwrap_or_default();
            info!(variant = %variant.name, fleet = %variant.fleet, note, "variant wanted");
        }
        Ok(output)
    }
}

impl Handler<Seed> for EndpointsActor {
    type Result = Result<(), OperateError>;

    fn handle(&mut self, Seed { endpoints }: Seed, _: &mut Self::Context) -> Self::Result {
        self.decide(as_seed, |it, catalog| {
            let Settings { region, account_id, .. } = &*it.config;
            let home = seed::Home { region, account_id, now: now() };
            let is_new =
                |it: &&file::Endpoint| !catalog.has(ResourceKind::Endpoint, it.name.as_str());
            let new = endpoints.iter().filter(is_new);
            let changes = new.flat_map(|it| seed::changes(it, &home, super::new_fleet));
            // Whatever has a name already is a client's, and stays.
            Ok(((), changes.filter(|it| !recorded::has(catalog, it)).collect()))
        })
    }
}

impl Handler<Settle> for EndpointsActor {
    type Result = Result<bool, OperateError>;

    fn handle(&mut self, message: Settle, _: &mut Self::Context) -> Self::Result {
        let Settle { decided_on, step } = message;
        let key = catalog::key(decided_on.name.as_str());
        let is_taken = self.decide(as_change, |_, catalog| {
            // Somebody has changed it meanwhile: the step was for another state.
            let current = catalog.endpoints.get(&key).filter(|it| Arc::ptr_eq(it, &decided_on));
            let Some(current) = current else {
                return Ok((false, Vec::new()));
            };
            let change = match step.applied_to(current, now()) {
                Some(endpoint) => Change::PutEndpoint(endpoint),
                None => Change::DeleteEndpoint(key.clone()),
            };
            Ok((true, vec![change]))
        })?;
        if is_taken {
            info!(endpoint = %decided_on.name, ?step, "deployment goes on");
        }
        Ok(is_taken)
    }
}

impl EndpointsActor {
    /// Decides on records that are current and makes the changes; again if another router was faster.
    fn decide<T>(
        &mut self,
        commit: Commit,
        decision: impl Fn(&Self, &Catalog) -> Result<(T, Vec<Change>), OperateError>,
    ) -> Result<T, OperateError> {
        for n_tries in 0..MAX_DECISIONS {
            let catalog = self.current()?;
            let (output, changes) = decision(self, &catalog)?;
            match self.commit(commit, &catalog, changes) {
                // This thread is there to wait.
                Err(RecordsError::Conflict) => thread::sleep(DECIDE_AGAIN.delay(n_tries)),
                done => return Ok(done.map(|()| output)?),
            }
        }
        Err(RecordsError::Conflict.into())
    }

    /// Reads and publishes what others wrote, and returns the catalog as it is now.
    fn current(&mut self) -> Result<Arc<Catalog>, RecordsError> {
        let asked_at = Instant::now();
        let catalog = Arc::clone(&self.published.load().catalog);
        let writes = self.parts.ledger.refresh()?;
        self.refreshed_at = Some(asked_at);
        if writes.is_empty() {
            return Ok(catalog);
        }
        let n_writes = writes.len();
        let catalog = Arc::new(recorded::written(&catalog, writes, &mut self.unreadable));
        self.publish(&catalog);
        debug!(n_writes, "records of other routers read");
        Ok(catalog)
    }

    /// Makes changes durable, then visible.
    fn commit(
        &self,
        commit: Commit,
        catalog: &Catalog,
        changes: Vec<Change>,
    ) -> Result<(), RecordsError> {
        if changes.is_empty() {
            return Ok(());
        }
        let writes: Vec<_> = changes.iter().map(recorded::write).collect();
        let spared = self.unreadable.spare(&writes);
        let done = spared.and_then(|()| commit(&*self.parts.ledger, &writes));
        done.inspect_err(|error| match error {
            RecordsError::Conflict => debug!("another router was faster"),
            error => error!(error = %Chain(error), "records not written"),
        })?;
        let mut catalog = catalog.clone();
        for change in changes {
            catalog.apply(change);
        }
        self.publish(&Arc::new(catalog));
        Ok(())
    }

    fn publish(&self, catalog: &Arc<Catalog>) {
        let Parts { news, metrics, .. } = &*self.parts;
        let routes = self.published.load().routes.changed_to(catalog, metrics);
        self.published.store(Arc::new(Published { catalog: Arc::clone(catalog), routes }));
        news.send_replace(());
    }
}

/// Has the actor read what other routers write, until it is gone.
pub(super) async fn follow(actor: Addr<EndpointsActor>, mut news: watch::Receiver<u64>) {
    while news.changed().await.is_ok() {
        if actor.send(Refresh { asked_at: Instant::now() }).await.is_err() {
            return;
        }
    }
}
