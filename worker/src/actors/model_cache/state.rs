//! The model cache's state, and what it does with each message.

use super::{
    AcquireError, Acquired, MAX_LOADS, Message, ModelCacheParts, Published, Reason, Reply,
    ReserveReply, Snapshot,
    load::{self, LoadContext, Loaded, Reservation},
};
use crate::{
    actors::replica::Replica,
    policy::{
        budget,
        eviction::{self, Candidate},
    },
    runtime::Footprint,
};
use ractor::{ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use shared::{address::ArtifactAddress, telemetry::Chain};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tracing::{Instrument as _, error, info, info_span, warn};

/// Artifacts whose footprint is remembered after their eviction. A million bytes or so; beyond it
/// all are forgotten, and the next loads reserve by file size again.
const MAX_KNOWN: usize = 16_384;

pub(super) struct State {
    context: LoadContext,
    snapshot: Snapshot,
    slots: HashMap<ArtifactAddress, Slot>,
    budget_bytes: u64,
    /// Room of loads under way; a dangling one is released.
    reserved: Vec<Weak<Footprint>>,
    /// Bytes of evicted replicas whose memory is not back yet.
    leaving_bytes: u64,
    /// Room promised to loads for when evicted replicas are gone.
    promised: VecDeque<(Reservation, ReserveReply)>,
    /// What each artifact took the last time it was resident: the next load reserves that.
    known: HashMap<ArtifactAddress, Footprint>,
}

enum Slot {
    /// Being loaded; these callers wait for it, each since then.
    Loading(Vec<(Instant, Reply)>),
    Resident(Replica),
}

impl State {
    pub(super) fn new(
        myself: ActorRef<Message>,
        parts: ModelCacheParts,
        snapshot: Snapshot,
    ) -> Self {
        let budget_bytes = parts.budget_bytes;
        parts.metrics.budget_bytes.set(budget_bytes.cast_signed());
        let (idle, turn) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(1)));
        let state = Self {
            context: LoadContext { cache: myself, parts, idle, turn },
            snapshot,
            slots: HashMap::new(),
            budget_bytes,
            reserved: Vec::new(),
            leaving_bytes: 0,
            promised: VecDeque::new(),
            known: HashMap::new(),
        };
        state.publish();
        state
    }

    pub(super) fn acquire(&mut self, address: ArtifactAddress, reply: Reply) {
        match self.slots.get_mut(&address) {
            Some(Slot::Loading(waiting)) => waiting.push((Instant::now(), reply)),
            Some(Slot::Resident(replica)) if let Some(acquired) = lease(replica, None) => {
                answer(reply, Ok(acquired));
            }
            // Absent, or just dead: then the news is under way.
            Some(Slot::Resident(_)) | None => self.start_load(address, reply),
        }
    }

    pub(super) fn reserve(&mut self, expected: Footprint, reply: ReserveReply) {
        let reservation = Reservation::new(expected);
        self.reserved.retain(|it| it.strong_count() > 0);
        self.reserved.push(Arc::downgrade(&reservation));
        let over_bytes = self.used_bytes().saturating_sub(self.budget_bytes);
        if self.evict(over_bytes, Reason::Room) {
            self.promised.push_back((reservation, reply));
            self.keep_promises();
        } else {
            let needed_bytes = size_bytes(expected);
            let budget_bytes = self.budget_bytes;
            // The load may have ended meanwhile; then nobody needs the answer.
            let _ = reply.send(Err(AcquireError::NoRoom { needed_bytes, budget_bytes }));
        }
    }

    pub(super) fn load_finished(
        &mut self,
        address: ArtifactAddress,
        outcome: Result<Loaded, AcquireError>,
    ) {
        let Some(Slot::Loading(waiting)) = self.slots.remove(&address) else {
            unreachable!("only a loading slot has a load to finish");
        };
        match outcome {
            Ok(loaded) => self.became_resident(address, loaded, waiting),
            Err(error) => {
                // The slot stays empty, so that the next invocation tries again.
                self.context.parts.metrics.failed_loads.inc();
                warn!(%address, error = %Chain(&error), "load failed");
                for (_, reply) in waiting {
                    answer(reply, Err(error.clone()));
                }
            }
        }
    }

    pub(super) fn unload(&mut self, address: &ArtifactAddress, reply: RpcReplyPort<()>) {
        let Some(Slot::Resident(replica)) = self.slots.get(address) else {
            // Nothing to free; who asked may be gone.
            let _ = reply.send(());
            return;
        };
        replica.leases().close();
        let (replica, idle) = (replica.clone(), Arc::clone(&self.context.idle));
        self.forget(address);
        let size_bytes = replica.footprint().resident_bytes;
        self.leaving_bytes += size_bytes;
        let cache = self.context.cache.clone();
        tokio::spawn(async move {
            wait_until_idle(&replica, &idle).await;
            replica.unload().await;
            // Neither a stopping cache nor a caller that hung up needs to know.
            let _ = cache.cast(Message::UnloadFinished { size_bytes });
            let _ = reply.send(());
        });
    }

    pub(super) fn unload_finished(&mut self, size_bytes: u64) {
        self.leaving_bytes -= size_bytes;
        self.keep_promises();
    }

    pub(super) fn set_budget(&mut self, budget_bytes: u64) {
        if budget_bytes != self.budget_bytes {
            info!(budget_bytes, before_bytes = self.budget_bytes, "budget changed");
            self.budget_bytes = budget_bytes;
            self.context.parts.metrics.budget_bytes.set(budget_bytes.cast_signed());
            self.publish();
        }
        self.shed_surplus();
    }

    /// Sheds for the sake of the machine, whose count of bytes still has those that are leaving.
    pub(super) fn relieve(&mut self, bytes: u64) {
        self.shed(bytes.saturating_sub(self.leaving_bytes), Reason::Pressure);
    }

    fn shed(&mut self, bytes: u64, reason: Reason) {
        if !self.evict(bytes, reason) {
            // Not enough is idle: let go what is.
            let idle = self.candidates().into_iter().filter(|it| it.n_leases == 0);
            for address in idle.map(|it| it.key).collect::<Vec<_>>() {
                self.let_go(&address, reason);
            }
        }
    }

    pub(super) fn replica_died(&mut self, actor: ActorId, error: &ActorProcessingErr) {
        let address = self.slots.iter().find_map(|(address, slot)| match slot {
            Slot::Resident(replica) if replica.id() == actor => Some(address.clone()),
            _ => None,
        });
        if let Some(address) = address {
            error!(%address, %error, "replica died");
            self.context.parts.metrics.died_replicas.inc();
            self.forget(&address);
        }
    }

    fn start_load(&mut self, address: ArtifactAddress, reply: Reply) {
        let n_loads = self.slots.len() - self.replicas().count();
        if n_loads >= MAX_LOADS {
            return answer(reply, Err(AcquireError::Overloaded));
        }
        self.slots.insert(address.clone(), Slot::Loading(vec![(Instant::now(), reply)]));
        self.publish();
        let cache = self.context.cache.clone();
        let span = info_span!("load", %address);
        let known = self.known.get(&address).copied();
        let load = load::load(self.context.clone(), address.clone(), known);
        let load = tokio::spawn(load.instrument(span));
        tokio::spawn(async move {
            // A panic must come back too, or its callers would wait for ever.
            let outcome = load.await.unwrap_or(Err(AcquireError::LoadPanicked));
            // If the cache has stopped, its callers are gone too.
            let _ = cache.cast(Message::LoadFinished { address, outcome });
        });
    }

    fn became_resident(
        &mut self,
        address: ArtifactAddress,
        loaded: Loaded,
        waiting: Vec<(Instant, Reply)>,
    ) {
        let Loaded { replica, etag, elapsed, reservation } = loaded;
        let footprint = replica.footprint();
        info!(
            %address, etag, size_bytes = footprint.resident_bytes,
            workspace_bytes = footprint.workspace_bytes,
            elapsed_ms = elapsed.as_millis(), "loaded"
        );
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address.clone(), footprint);
        self.slots.insert(address, Slot::Resident(replica.clone()));
        drop(reservation);
        // Leases first: what was just loaded for someone must not be shed before it served.
        for (since, reply) in waiting {
            let acquired = lease(&replica, Some(since.elapsed()));
            answer(reply, acquired.ok_or(AcquireError::LoadPanicked));
        }
        self.publish();
        self.shed_surplus();
    }

    /// Evicts idle replicas that free `bytes`, and says whether that many could be freed.
    fn evict(&mut self, bytes: u64, reason: Reason) -> bool {
        let Some(victims) = eviction::victims(self.candidates(), bytes) else { return false };
        let freed_bytes: u64 = victims.iter().map(|it| self.let_go(it, reason)).sum();
        // An invocation may have come between the choice and the close: choose among the rest.
        freed_bytes >= bytes || self.evict(bytes - freed_bytes, reason)
    }

    /// Unloads a replica in a task of its own and returns what that will free: nothing if it is
    /// leased after all.
    fn let_go(&mut self, address: &ArtifactAddress, reason: Reason) -> u64 {
        let Some(Slot::Resident(replica)) = self.slots.get(address) else { return 0 };
        if !replica.leases().close_if_idle() {
            return 0;
        }
        let replica = replica.clone();
        self.forget(address);
        let size_bytes = replica.footprint().resident_bytes;
        let metrics = &self.context.parts.metrics;
        metrics.evictions.get_or_create(&[("reason", reason)]).inc();
        info!(%address, size_bytes, ?reason, "evicted");
        self.leaving_bytes += size_bytes;
        let cache = self.context.cache.clone();
        tokio::spawn(async move {
            replica.unload().await;
            // A stopping cache keeps no accounts.
            let _ = cache.cast(Message::UnloadFinished { size_bytes });
        });
        size_bytes
    }

    /// Takes a replica out of the slots and the snapshot.
    fn forget(&mut self, address: &ArtifactAddress) {
        self.slots.remove(address);
        self.publish();
    }

    /// Grants promised room once what was evicted for it has left.
    fn keep_promises(&mut self) {
        while self.leaving_bytes == 0
            || self.used_bytes().saturating_add(self.leaving_bytes) <= self.budget_bytes
        {
            let Some((reservation, reply)) = self.promised.pop_front() else { return };
            // A load that ended drops the reservation.
            let _ = reply.send(Ok(reservation));
        }
    }

    fn shed_surplus(&mut self) {
        let surplus_bytes = self.used_bytes().saturating_sub(self.budget_bytes);
        if surplus_bytes > 0 {
            self.shed(surplus_bytes, Reason::Budget);
        }
    }

    /// What resident models cost and loads have reserved.
    fn used_bytes(&self) -> u64 {
        let residents = self.replicas().map(|(_, replica)| replica.footprint());
        let reserved = self.reserved.iter().filter_map(Weak::upgrade).map(|it| *it);
        budget::used_bytes(residents.chain(reserved), self.context.parts.compute.limits().n_slots)
    }

    fn candidates(&self) -> Vec<Candidate<ArtifactAddress>> {
        let candidate = |(address, replica): (&ArtifactAddress, &Replica)| Candidate {
            key: address.clone(),
            size_bytes: replica.footprint().resident_bytes,
            last_used: replica.leases().last_used(),
            n_leases: replica.leases().count(),
        };
        self.replicas().map(candidate).collect()
    }

    fn replicas(&self) -> impl Iterator<Item = (&ArtifactAddress, &Replica)> {
        self.slots.iter().filter_map(|(address, slot)| match slot {
            Slot::Resident(replica) => Some((address, replica)),
            Slot::Loading(_) => None,
        })
    }

    fn publish(&self) {
        let residents: HashMap<_, _> =
            self.replicas().map(|(address, replica)| (address.clone(), replica.clone())).collect();
        let budget_bytes = self.budget_bytes;
        self.snapshot.store(Arc::new(Published { residents, budget_bytes }));
    }
}

/// Takes a lease for a caller of the cache. A replica that died gives none.
fn lease(replica: &Replica, waited: Option<Duration>) -> Option<Acquired> {
    let lease = replica.leases().lease()?;
    Some(Acquired { replica: replica.clone(), lease, waited })
}

/// What a load of this model needs at its peak.
fn size_bytes(footprint: Footprint) -> u64 {
    footprint.resident_bytes.saturating_add(footprint.workspace_bytes)
}

async fn wait_until_idle(replica: &Replica, idle: &Notify) {
    loop {
        let notified = idle.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if replica.leases().count() == 0 {
            return;
        }
        notified.await;
    }
}

/// A caller that hung up needs no answer.
fn answer(reply: Reply, outcome: Result<Acquired, AcquireError>) {
    let _ = reply.send(outcome);
}
