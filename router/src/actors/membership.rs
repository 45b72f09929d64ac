//! Decides which instances are in service.
//!
//! # Invariants
//!
//! - `Placement` is told of every change of who is in service, at once.
//! - An instance under suspicion is probed by at most one probe at a time. A dead one is out
//!   as soon as its probe fails; it comes back with its next heartbeat.
//! - Whoever waits for an instance that is lost learns it from the instance itself.
//!
//! # When it dies
//!
//! `/ping` fails and the router exits. Until then the last known instances serve.

use super::{
    Unavailable,
    placement::{InService, Placement},
};
use crate::{
    config::MembershipConfig,
    instance::Instance,
    instance_client::prober::{Prober, Pulse},
    metrics::{MembershipMetrics, ReasonLabel, StateLabel},
    policy::roster::{Heard, Refused, Roster},
};
use actix::prelude::*;
use serde::Serialize;
use shared::{
    api::membership::{Heartbeat, InstanceState, Lease},
    id::InstanceId,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

/// How often leases are checked, as a part of the lease: a loss is noticed at most a tenth late.
const TICKS_PER_LEASE: u32 = 10;

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

    /// Removes an instance that says goodbye. Returns whether it was there.
    pub async fn goodbye(&self, instance: InstanceId) -> Result<bool, Unavailable> {
        self.addr.send(Goodbye { instance }).await.map_err(|_| Unavailable("membership"))
    }

    pub async fn list(&self) -> Result<Vec<InstanceReport>, Unavailable> {
        self.addr.send(List).await.map_err(|_| Unavailable("membership"))
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
    /// Everyone on the roster, also those that drain: invocations may still wait for them.
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
        ctx.run_interval(self.tick_interval(), |actor, _| actor.tick());
    }
}

// === Handlers, in the order of the messages ===

impl Handler<Hear> for MembershipActor {
    type Result = Result<Lease, RegisterError>;

    fn handle(&mut self, Hear { heartbeat }: Hear, _: &mut Self::Context) -> Self::Result {
        let (instance, address) = (heartbeat.instance.clone(), heartbeat.address);
        let heard = self.roster.hear(heartbeat, Instant::now());
        match heard.inspect_err(|error| warn!(%instance, %error, "heartbeat refused"))? {
            Heard::Joined => info!(%instance, %address, "instance joined"),
            Heard::Restarted => info!(%instance, %address, "instance restarted"),
            Heard::Renewed => {}
        }
        self.publish();
        let lease_ms = u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX);
        Ok(Lease { lease_ms })
    }
}

impl Handler<Goodbye> for MembershipActor {
    type Result = bool;

    fn handle(&mut self, Goodbye { instance }: Goodbye, _: &mut Self::Context) -> bool {
        let was_there = self.roster.remove(&instance).is_some();
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

impl Handler<Suspected> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Suspected { instance }: Suspected, ctx: &mut Self::Context) {
        let (prober, address) = (self.prober.clone(), instance.address);
        let probe = actix::spawn(async move { prober.feel(address).await });
        let myself = ctx.address();
        actix::spawn(async move {
            // A probe that panicked shows no life either.
            let pulse = probe.await.unwrap_or(Pulse::Dead);
            myself.do_send(Probed { instance, pulse });
        });
    }
}

impl Handler<Probed> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Probed { instance, pulse }: Probed, _: &mut Self::Context) {
        if pulse == Pulse::Unknown {
            warn!(instance = %instance.id, "no socket left to probe a suspect");
        }
        if pulse != Pulse::Dead {
            instance.clear();
            return;
        }
        instance.lose();
        // It may have restarted or left meanwhile: then this verdict is about nobody.
        let member = self.roster.get(&instance.id);
        if member.is_some_and(|member| instance.is_same_process(&member.heartbeat)) {
            self.roster.remove(&instance.id);
            self.lost(&instance.id, "probe");
            self.publish();
        }
    }
}

impl MembershipActor {
    fn tick_interval(&self) -> Duration {
        self.config.lease / TICKS_PER_LEASE
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let absence = (now - self.ticked_at).saturating_sub(self.tick_interval());
        self.ticked_at = now;
        // This process did not run (a stopped laptop, a starved core): silence proves nothing.
        if absence > self.tick_interval() {
            self.roster.forgive(absence);
        }
        let gone = self.roster.expire(now);
        for instance in &gone {
            self.lost(instance, "lease");
        }
        if !gone.is_empty() {
            self.publish();
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
        let serving = self.roster.serving().filter_map(|it| self.known.get(&it.instance));
        let in_service: InService =
            serving.map(|instance| (instance.id.clone(), Arc::clone(instance))).collect();
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
            Some(known) if known.budget_bytes == heartbeat.budget_bytes => Arc::clone(known),
            Some(known) => Arc::new(known.renewed(heartbeat)),
            None => Arc::new(Instance::new(heartbeat)),
        }
    }

    fn count(&self) {
        let is_draining = |it: &Heartbeat| it.state == InstanceState::Draining;
        let n_draining = self.roster.members().filter(|it| is_draining(&it.heartbeat)).count();
        for (state, n) in [("serving", self.in_service.len()), ("draining", n_draining)] {
            let gauge = self.metrics.instances.get_or_create(&StateLabel { state });
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
