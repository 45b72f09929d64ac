//! Decides which instances are in service: by their heartbeats, and in a cluster with etcd by their
//! entries there, which are probed where heartbeats are missing.
//!
//! # Invariants
//!
//! - `Placement` is told of every change of who is in service, at once.
//! - An instance under suspicion is probed by at most one probe at a time. A dead one is out
//!   as soon as its probe fails. If it still reports, it comes back as soon as a probe succeeds: one
//!   that reaches us may yet be out of our reach.
//! - Whoever waits for an instance that is lost learns it from the instance itself.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then the last known instances serve.

mod registered;

use super::{Unavailable, placement::Placement};
use crate::{
    config::MembershipConfig,
    group::InService,
    instance::Instance,
    instance_client::prober::{Prober, Pulse},
    metrics::{MembershipMetrics, ReasonLabel, StateLabel},
    policy::roster::{Heard, Refused, Roster, refusals::Refusals},
};
use actix::prelude::*;
use registered::Seen;
use serde::Serialize;
use shared::{
    api::membership::{Heartbeat, InstanceState, Lease},
    etcd::members::Registered,
    id::InstanceId,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

/// How often leases are checked, as a part of the lease: a loss is noticed at most 100 ms late in 3 s.
const TICKS_PER_LEASE: u32 = 30;

/// Ticks that may be missing before this process counts as absent itself.
const TICKS_ABSENT: u32 = 3;

/// Heartbeats of the largest cluster in one burst fit.
const MAILBOX: usize = 1024;

/// Decides which instances are in service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Membership {
    addr: Addr<MembershipActor>,
}

/// An instance, for operators.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceReport {
    #[serde(flatten)]
    heartbeat: Heartbeat,
    in_service: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Membership {
    pub fn start(
        config: MembershipConfig,
        placement: Placement,
        metrics: MembershipMetrics,
    ) -> Self {
        let actor = MembershipActor {
            roster: Roster::new(config.lease, config.max_instances),
            refusals: Refusals::default(),
            known: InService::new(),
            in_service: InService::new(),
            prober: Prober::new(config.probe_connect, config.probe_timeout),
            ticked_at: Instant::now(),
            config,
            placement,
            metrics,
        };
        Self { addr: actor.start() }
    }

    /// Registers an instance or renews its lease.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Lease, RegisterError> {
        let answer = self.addr.send(Hear { heartbeat }).await;
        answer.unwrap_or(Err(Unavailable("membership").into()))
    }

    /// Takes what etcd says of instances.
    pub fn registered(&self, records: Vec<Registered>) {
        self.addr.do_send(Seen { records });
    }

    /// Removes an instance that says goodbye. Returns whether it was there.
    pub async fn goodbye(&self, instance: InstanceId) -> Result<bool, Unavailable> {
        self.addr.send(Goodbye { instance }).await.map_err(|_| Unavailable("membership"))
    }

    pub async fn list(&self) -> Result<Vec<InstanceReport>, Unavailable> {
        self.addr.send(List).await.map_err(|_| Unavailable("membership"))
    }

    /// Returns an instance of the roster, whether or not it takes invocations.
    pub async fn find(&self, instance: InstanceId) -> Result<Option<Arc<Instance>>, Unavailable> {
        self.addr.send(Find { instance }).await.map_err(|_| Unavailable("membership"))
    }

    /// An invocation found `instance` dead: others avoid it from now on, until a probe shows that
    /// it lives.
    pub fn suspect(&self, instance: &Arc<Instance>) {
        // Only the first one tells: a dying instance fails hundreds at once.
        if instance.suspect() {
            self.addr.do_send(Suspected { instance: Arc::clone(instance) });
        }
    }

    pub fn is_alive(&self) -> bool {
        self.addr.connected()
    }
}

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "Result<Lease, RegisterError>")]
struct Hear {
    heartbeat: Heartbeat,
}

#[derive(Debug, Message)]
#[rtype(result = "bool")]
struct Goodbye {
    instance: InstanceId,
}

#[derive(Debug, Message)]
#[rtype(result = "Vec<InstanceReport>")]
struct List;

#[derive(Debug, Message)]
#[rtype(result = "Option<Arc<Instance>>")]
struct Find {
    instance: InstanceId,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Suspected {
    instance: Arc<Instance>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Probed {
    instance: Arc<Instance>,
    pulse: Pulse,
}

// === Actor ===

#[derive(Debug)]
struct MembershipActor {
    roster: Roster,
    refusals: Refusals,
    /// Everyone on the roster, also those that join.
    known: InService,
    in_service: InService,
    prober: Prober,
    ticked_at: Instant,
    config: MembershipConfig,
    placement: Placement,
    metrics: MembershipMetrics,
}

impl Actor for MembershipActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(self.tick_interval(), |actor, ctx| actor.tick(&ctx.address()));
    }
}

// === Handlers, in the order of the messages ===

impl Handler<Hear> for MembershipActor {
    type Result = Result<Lease, RegisterError>;

    fn handle(&mut self, Hear { heartbeat }: Hear, ctx: &mut Self::Context) -> Self::Result {
        let (instance, address) = (heartbeat.instance.clone(), heartbeat.address);
        // A thousand instances say every second that nothing has changed.
        let known = self.known.get(&instance).filter(|it| it.is_same_process(&heartbeat));
        let is_as_before = known.is_some_and(|it| it.is_as_in(&heartbeat));
        let reporter = heartbeat.clone();
        let now = Instant::now();
        let heard = self.roster.hear(heartbeat, now).inspect_err(|error| {
            if self.refusals.is_news(&instance, *error, now) {
                warn!(%instance, %error, "heartbeat refused");
            }
        });
        match heard? {
            Heard::Joined => info!(%instance, %address, "instance joined"),
            Heard::Restarted => info!(%instance, %address, "instance restarted"),
            Heard::Doubted { is_to_be_asked: true } => {
                self.probe(Arc::new(Instance::new(&reporter)), ctx);
            }
            Heard::Renewed | Heard::Doubted { is_to_be_asked: false } => {}
        }
        if !is_as_before {
            self.publish();
        }
        self.report(&instance);
        let lease_ms = u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(Lease { lease_ms })
    }
}

impl Handler<Goodbye> for MembershipActor {
    type Result = bool;

    fn handle(&mut self, Goodbye { instance }: Goodbye, _: &mut Self::Context) -> bool {
        let was_there = self.roster.leave(&instance).is_some();
        if was_there {
            info!(%instance, "instance said goodbye");
            self.publish();
        }
        was_there
    }
}

impl Handler<List> for MembershipActor {
    type Result = Vec<InstanceReport>;

    fn handle(&mut self, List: List, _: &mut Self::Context) -> Self::Result {
        let report = |heartbeat: &Heartbeat| InstanceReport {
            in_service: self
                .in_service
                .get(&heartbeat.instance)
                .is_some_and(|instance| !instance.is_suspect()),
            heartbeat: heartbeat.clone(),
        };
        self.roster.members().map(|member| report(&member.heartbeat)).collect()
    }
}

impl Handler<Find> for MembershipActor {
    type Result = Option<Arc<Instance>>;

    fn handle(&mut self, Find { instance }: Find, _: &mut Self::Context) -> Self::Result {
        self.known.get(&instance).map(Arc::clone)
    }
}

impl Handler<Suspected> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Suspected { instance }: Suspected, ctx: &mut Self::Context) {
        self.probe(instance, ctx);
    }
}

impl Handler<Probed> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Probed { instance, pulse }: Probed, _: &mut Self::Context) {
        if pulse == Pulse::Unknown {
            warn!(instance = %instance.id, "no socket left to probe a suspect");
        }
        let is_alive = pulse == Pulse::Alive;
        if self.roster.answered(&instance.id, instance.boot_id(), is_alive)
            == Some(Ok(Heard::Joined))
        {
            info!(instance = %instance.id, address = %instance.address, "instance answers again");
            self.publish();
        }
        if pulse != Pulse::Dead {
            instance.clear();
            return;
        }
        instance.lose();
        // It may have restarted or left meanwhile: then this verdict is about nobody.
        let member = self.roster.get(&instance.id);
        if member.is_some_and(|member| instance.is_same_process(&member.heartbeat)) {
            self.roster.doubt(&instance.id);
            self.lost(&instance.id, "probe");
            self.publish();
        }
    }
}

impl MembershipActor {
    fn tick_interval(&self) -> Duration {
        self.config.lease / TICKS_PER_LEASE
    }

    fn probe(&self, instance: Arc<Instance>, ctx: &mut Context<Self>) {
        let (prober, address) = (self.prober.clone(), instance.address);
        let probe = actix::spawn(async move { prober.feel(address).await });
        let myself = ctx.address();
        actix::spawn(async move {
            // A probe that panicked shows no life either.
            let pulse = probe.await.unwrap_or(Pulse::Dead);
            myself.do_send(Probed { instance, pulse });
        });
    }

    fn tick(&mut self, myself: &Addr<Self>) {
        let now = Instant::now();
        let absence = (now - self.ticked_at).saturating_sub(self.tick_interval());
        self.ticked_at = now;
        // This process did not run (a stopped laptop, a starved core): silence proves nothing.
        if absence > TICKS_ABSENT * self.tick_interval() {
            self.roster.forgive(absence);
        }
        let gone = self.roster.expire(now);
        for instance in &gone {
            if let Some(known) = self.known.get(instance) {
                known.lose_for_silence();
            }
            self.lost(instance, "lease");
        }
        if !gone.is_empty() {
            self.publish();
        }
        self.probe_registered(myself);
    }

    /// Tells what an instance says of its work.
    fn report(&self, instance: &InstanceId) {
        let member = self.roster.get(instance).zip(self.in_service.get(instance));
        if let Some((member, instance)) = member {
            let Heartbeat { hot, n_in_flight, .. } = &member.heartbeat;
            instance.report(*n_in_flight);
            self.placement.heat_reported(Arc::clone(instance), hot.clone(), *n_in_flight);
        }
    }

    fn lost(&self, instance: &InstanceId, reason: &'static str) {
        warn!(%instance, reason, "instance lost");
        if let Some(known) = self.known.get(instance) {
            known.lose();
        }
        self.metrics.losses.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Tells `Placement` who is in service, if that has changed.
    fn publish(&mut self) {
        let heartbeats = self.roster.members().map(|member| &member.heartbeat);
        let known = heartbeats.map(|it| (it.instance.clone(), self.instance(it))).collect();
        self.known = known;
        let placed = self.roster.placed().filter_map(|it| self.known.get(&it.instance));
        let in_service: InService =
            placed.map(|instance| (instance.id.clone(), Arc::clone(instance))).collect();
        let is_same = in_service.len() == self.in_service.len()
            && in_service.values().zip(self.in_service.values()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            self.placement.instances_changed(in_service.clone());
            self.in_service = in_service;
        }
        self.count();
    }

    /// Returns the instance of a heartbeat: the one we have, unless something has changed.
    fn instance(&self, heartbeat: &Heartbeat) -> Arc<Instance> {
        let known = self.known.get(&heartbeat.instance);
        match known.filter(|known| known.is_same_process(heartbeat)) {
            Some(known) if known.is_as_in(heartbeat) => Arc::clone(known),
            Some(known) => Arc::new(known.renewed(heartbeat)),
            None => Arc::new(Instance::new(heartbeat)),
        }
    }

    fn count(&self) {
        for (state, label) in [
            (InstanceState::Joining, "joining"),
            (InstanceState::Serving, "serving"),
            (InstanceState::Draining, "draining"),
        ] {
            let n = self.roster.members().filter(|it| it.heartbeat.state == state).count();
            let gauge = self.metrics.instances.get_or_create(&StateLabel { state: label });
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
