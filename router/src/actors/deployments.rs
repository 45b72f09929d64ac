//! Drives endpoints from Creating, Updating and Deleting to a settled state.
//!
//! Each tick looks at every endpoint that is not settled, and at what runs; what comes next is
//! decided by [`policy::deployment`](crate::policy::deployment) and written by
//! [`Endpoints`](super::endpoints). What is remembered here is how long something was waited for, and
//! what the launcher said last: after a restart both begin anew, as they must.
//!
//! # Invariants
//!
//! - One step per endpoint is under way at a time; a step that was decided on an older record is not
//!   taken.
//! - What is gone is concluded from a launcher's report alone, and from one that knows what is wanted:
//!   never from its silence.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits: endpoints would never settle.

use super::{
    Unavailable,
    endpoints::{self, Endpoints},
    placement::Placement,
};
use crate::{
    config::ControlConfig,
    control::catalog::{Catalog, Endpoint, EndpointStatus, Timestamp},
    instance_client::{bearer::Bearer, releaser::Releaser},
    policy::deployment::{self, Patience, Provision, Seen, Step},
};
use actix::prelude::*;
use shared::{
    api::fleets::{DesiredFleet, DesiredFleets, FleetsReport},
    id::{EndpointName, FleetId},
    telemetry::Chain,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};
use xxhash_rust::xxh3::xxh3_64;

/// How often endpoints are looked at. Each state change costs a tick, and users wait for a few.
const TICK: Duration = Duration::from_millis(100);

/// How long a launcher's question waits for news.
const REPORT_WAIT: Duration = Duration::from_millis(500);

/// How long a step waits that could not be recorded: a disk that is full, or an etcd that is away, is
/// so for a while.
const STEP_AGAIN: Duration = Duration::from_secs(1);

/// A launcher reports twice a second; one that was silent for as long has gone.
const REPORT_LEASE: Duration = Duration::from_secs(5);

/// Drives deployments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deployments {
    addr: Addr<DeploymentsActor>,
    desired: watch::Receiver<Arc<DesiredFleets>>,
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct DeploymentsParts {
    pub endpoints: Endpoints,
    pub placement: Placement,
    pub config: ControlConfig,
    /// What we are to instances.
    pub bearer: Bearer,
}

impl Deployments {
    pub fn start(parts: DeploymentsParts) -> Self {
        let (publish, desired) = watch::channel(Arc::default());
        let releaser = Releaser::new(parts.bearer.clone());
        let actor = DeploymentsActor {
            parts,
            publish,
            report: None,
            is_launcher_silent: false,
            waiting: BTreeMap::new(),
            stepping: BTreeSet::new(),
            releaser,
        };
        Self { addr: actor.start(), desired }
    }

    /// Takes a launcher's report and returns the fleets that shall run: at once if they are not those
    /// that it knows, else when they change, at the latest after half a second.
    pub async fn report(&self, report: FleetsReport) -> Result<Arc<DesiredFleets>, Unavailable> {
        let known = report.known;
        self.addr.send(Report { report }).await.map_err(|_| Unavailable("deployments"))?;
        let mut desired = self.desired.clone();
        let changed = desired.wait_for(|it| it.version != known && it.version != 0);
        let _later_then = timeout(REPORT_WAIT, changed).await;
        let desired = Arc::clone(&self.desired.borrow());
        Ok(desired)
    }

    /// Whether a fleet shall run on, as far as is known here. In a pool none is retired.
    pub fn wants(&self, fleet: &FleetId) -> bool {
        let desired = self.desired.borrow();
        desired.version == 0 || desired.fleets.iter().any(|it| it.fleet == *fleet)
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Report {
    report: FleetsReport,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stepped {
    endpoint: EndpointName,
    /// Whether the record has changed, so that the next step may follow at once.
    is_taken: bool,
}

// === Actor ===

#[derive(Debug)]
struct DeploymentsActor {
    parts: DeploymentsParts,
    publish: watch::Sender<Arc<DesiredFleets>>,
    /// What the launcher said last, and when.
    report: Option<(Instant, FleetsReport)>,
    /// Whether it was said that the launcher is silent.
    is_launcher_silent: bool,
    /// Since when each pending deployment, by its endpoint and start, is waited for.
    waiting: BTreeMap<(EndpointName, Timestamp), Instant>,
    /// Endpoints with a step under way.
    stepping: BTreeSet<EndpointName>,
    releaser: Releaser,
}

impl Actor for DeploymentsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(&ctx.address());
        ctx.run_interval(TICK, |actor, ctx| actor.tick(&ctx.address()));
    }
}

// === Handlers, in the order of the messages ===

impl Handler<Report> for DeploymentsActor {
    type Result = ();

    fn handle(&mut self, Report { report }: Report, ctx: &mut Self::Context) {
        let is_news = self.report.as_ref().is_none_or(|(_, before)| *before != report);
        self.report = Some((Instant::now(), report));
        if is_news {
            self.tick(&ctx.address());
        }
    }
}

impl Handler<Stepped> for DeploymentsActor {
    type Result = ();

    fn handle(&mut self, Stepped { endpoint, is_taken }: Stepped, ctx: &mut Self::Context) {
        self.stepping.remove(&endpoint);
        // One that failed has its next chance with the next tick: a full disk is no reason to spin.
        if is_taken {
            self.tick(&ctx.address());
        }
    }
}

impl DeploymentsActor {
    fn tick(&mut self, myself: &Addr<Self>) {
        let (catalog, now) = (self.parts.endpoints.catalog(), endpoints::now());
        self.publish_desired(&catalog, now);
        self.watch_launcher();
        self.wait_for(&catalog);
        for endpoint in catalog.endpoints.values().filter(|it| is_unsettled(it)) {
            if self.stepping.contains(&endpoint.name) {
                continue;
            }
            let ControlConfig { provision, .. } = self.parts.config;
            let patience = self.patience(endpoint);
            let seen = |fleet: &FleetId| self.seen(fleet);
            let step = deployment::next_step(endpoint, seen, provision, patience, now);
            if let Some(step) = step {
                self.stepping.insert(endpoint.name.clone());
                self.take(step, Arc::clone(endpoint), &catalog, myself.clone());
            }
        }
    }

    /// Begins to wait for what has become pending, and forgets what no longer is.
    fn wait_for(&mut self, catalog: &Catalog) {
        let pending: BTreeSet<_> = catalog
            .endpoints
            .values()
            .filter_map(|it| Some((it.name.clone(), it.pending.as_ref()?.started)))
            .collect();
        self.waiting.retain(|deployment, _| pending.contains(deployment));
        for deployment in pending {
            self.waiting.entry(deployment).or_insert_with(Instant::now);
        }
    }

    fn patience(&self, endpoint: &Endpoint) -> Patience {
        let pending = endpoint.pending.as_ref();
        let key = pending.map(|it| (endpoint.name.clone(), it.started));
        let since = key.and_then(|key| self.waiting.get(&key));
        let waited = since.map_or(Duration::ZERO, Instant::elapsed);
        Patience { waited, longest: self.parts.config.patience() }
    }

    /// Says once that nothing can settle.
    fn watch_launcher(&mut self) {
        let is_pooled = self.parts.config.provision == Provision::Pooled;
        let is_silent = !is_pooled && self.recent_report().is_none();
        if is_silent && !self.is_launcher_silent && self.report.is_some() {
            warn!("the launcher is silent: endpoints stay as they are until it reports again");
        }
        self.is_launcher_silent = is_silent;
    }

    fn recent_report(&self) -> Option<&FleetsReport> {
        let (at, report) = self.report.as_ref()?;
        (at.elapsed() < REPORT_LEASE).then_some(report)
    }

    fn publish_desired(&self, catalog: &Catalog, now: Timestamp) {
        if self.parts.config.provision == Provision::Pooled {
            return;
        }
        let desired = deployment::desired(catalog, now);
        if self.publish.borrow().version == 0 || self.publish.borrow().fleets != desired {
            debug!(n_fleets = desired.len(), "desired fleets changed");
            let version = version(&desired);
            self.publish.send_replace(Arc::new(DesiredFleets { version, fleets: desired }));
        }
    }

    fn seen(&self, fleet: &FleetId) -> Seen {
        let n_in_service =
            u32::try_from(self.parts.placement.n_instances(fleet)).unwrap_or(u32::MAX);
        if self.parts.config.provision == Provision::Pooled {
            // The workers are nobody's: what is to be let go of is let go of with the step.
            return Seen { n_in_service, is_gone: true, failure: None };
        }
        let report = self.recent_report();
        // A report that does not know of the latest wish may be about to start what it does not name.
        let knows = report.is_some_and(|it| it.known == self.publish.borrow().version);
        let fleet = report.and_then(|report| report.fleets.get(fleet));
        Seen {
            n_in_service,
            is_gone: knows && fleet.is_none_or(|it| it.n_running == 0),
            failure: fleet.and_then(|it| it.failure.clone()),
        }
    }

    /// Takes a step in a task: it waits for a disk, and may wait for workers.
    fn take(&self, step: Step, endpoint: Arc<Endpoint>, catalog: &Catalog, myself: Addr<Self>) {
        let endpoints = self.parts.endpoints.clone();
        let letting_go = self.let_go(&step, &endpoint, catalog);
        let name = endpoint.name.clone();
        let stepping = actix::spawn(async move {
            let is_taken = endpoints.settle(endpoint, step).await;
            if let Ok(true) = is_taken {
                letting_go.await;
            }
            is_taken
        });
        actix::spawn(async move {
            // A panic must come back too, or the endpoint would never settle.
            let is_taken = match stepping.await {
                Ok(Ok(is_taken)) => is_taken,
                Ok(Err(error)) => {
                    warn!(endpoint = %name, error = %Chain(&error), "deployment does not go on; tried again");
                    sleep(STEP_AGAIN).await;
                    false
                }
                Err(_) => false,
            };
            myself.do_send(Stepped { endpoint: name, is_taken });
        });
    }

    /// In a pool, what an endpoint leaves behind are its models.
    fn let_go(
        &self,
        step: &Step,
        endpoint: &Endpoint,
        catalog: &Catalog,
    ) -> impl Future<Output = ()> + 'static {
        let left: Vec<_> = match step {
            _ if self.parts.config.provision == Provision::Launched => Vec::new(),
            Step::Forget(started) => {
                endpoint.retired.iter().filter(|it| it.started == *started).collect()
            }
            Step::Remove => endpoint.active.iter().chain(&endpoint.retired).collect(),
            Step::Serve | Step::Fail(_) => Vec::new(),
        };
        let prefixes = left.into_iter().flat_map(|it| deployment::unserved(it, catalog));
        let prefixes: BTreeSet<String> = prefixes.map(str::to_owned).collect();
        let (releaser, instances) = (self.releaser.clone(), self.parts.placement.instances());
        async move { releaser.release(&prefixes, &instances).await }
    }
}

fn is_unsettled(endpoint: &Endpoint) -> bool {
    endpoint.status == EndpointStatus::Deleting
        || endpoint.pending.is_some()
        || !endpoint.retired.is_empty()
}

/// Differs when the fleets differ, and is never 0.
fn version(fleets: &[DesiredFleet]) -> u64 {
    let text = serde_json::to_vec(fleets).expect("names and numbers can be written");
    xxh3_64(&text).max(1)
}
