//! The model cache's state, and what it does with each message.

mod room;

use super::{
    AcquireError, Acquired, MAX_LOADS, Message, ModelCacheParts, Published, Reply, ReserveReply,
    Snapshot,
    load::{self, LoadContext, Loaded, Reservation},
};
use crate::{actors::replica::Replica, runtime::Footprint};
use ractor::{ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use shared::{address::ArtifactAddress, api::error::ErrorKind, telemetry::Chain};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tracing::{Instrument as _, debug, error, info, info_span, warn};

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
    Loading(Waiting),
    Resident(Replica),
}

/// Who waits for a load.
#[derive(Default)]
struct Waiting {
    /// Each since then.
    callers: Vec<(Instant, Reply)>,
    /// Who wants the artifact gone: heard once it is there, or did not come.
    unloads: Vec<RpcReplyPort<()>>,
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
            Some(Slot::Loading(waiting)) => waiting.join(reply, self.context.parts.max_queued),
            Some(Slot::Resident(replica)) if let Some(acquired) = lease(replica, None) => {
                answer(reply, Ok(acquired));
            }
            // Absent, or just dead: then the news is under way.
            Some(Slot::Resident(_)) | None => self.start_load(address, reply),
        }
    }

    pub(super) fn load_finished(
        &mut self,
        address: &ArtifactAddress,
        outcome: Result<Loaded, AcquireError>,
    ) {
        let Some(Slot::Loading(waiting)) = self.slots.remove(address) else {
            unreachable!("only a loading slot has a load to finish");
        };
        match outcome {
            Ok(loaded) => self.became_resident(address, loaded, waiting),
            Err(error) => {
                // The slot stays empty, so that the next invocation tries again.
                self.context.parts.metrics.failed_loads.inc();
                log_failure(address, &error);
                for (_, reply) in waiting.callers {
                    answer(reply, Err(error.clone()));
                }
                for reply in waiting.unloads {
                    // It is gone, as was asked; who asked may be, too.
                    let _ = reply.send(());
                }
            }
        }
    }

    pub(super) fn unload(&mut self, address: &ArtifactAddress, reply: RpcReplyPort<()>) {
        let replica = match self.slots.get_mut(address) {
            Some(Slot::Loading(waiting)) => return waiting.unloads.push(reply),
            Some(Slot::Resident(replica)) if replica.leases().close_unless_pinned() => {
                replica.clone()
            }
            // Absent, or somebody else needs it still. Who asked may be gone.
            Some(Slot::Resident(_)) | None => return reply.send(()).unwrap_or(()),
        };
        let idle = Arc::clone(&self.context.idle);
        self.forget(address, &replica);
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

    pub(super) fn replica_died(&mut self, actor: ActorId, error: &ActorProcessingErr) {
        error!(%error, "replica died");
        self.context.parts.metrics.died_replicas.inc();
        // Absent if somebody has asked for the artifact since, and so begun to load it anew.
        let dead = self.replicas().find(|(_, replica)| replica.id() == actor.into());
        if let Some(address) = dead.map(|(address, _)| address.clone()) {
            self.slots.remove(&address);
            self.publish();
        }
    }

    fn start_load(&mut self, address: ArtifactAddress, reply: Reply) {
        let n_loads = self.slots.len() - self.replicas().count();
        if n_loads >= MAX_LOADS {
            return answer(reply, Err(AcquireError::Overloaded));
        }
        let waiting = Waiting { callers: vec![(Instant::now(), reply)], ..Waiting::default() };
        self.slots.insert(address.clone(), Slot::Loading(waiting));
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

    fn became_resident(&mut self, address: &ArtifactAddress, loaded: Loaded, waiting: Waiting) {
        let Loaded { replica, etag, elapsed, reservation } = loaded;
        let footprint = replica.footprint();
        info!(
            %address, etag, size_bytes = footprint.resident_bytes,
            workspace_bytes = footprint.workspace_bytes,
            elapsed_ms = elapsed.as_millis(), "loaded"
        );
        self.slots.insert(address.clone(), Slot::Resident(replica.clone()));
        drop(reservation);
        // Leases first: what was just loaded for someone must not be shed before it served.
        for (since, reply) in waiting.callers {
            let acquired = lease(&replica, Some(since.elapsed()));
            answer(reply, acquired.ok_or(AcquireError::LoadPanicked));
        }
        self.publish();
        for reply in waiting.unloads {
            self.unload(address, reply);
        }
        self.shed_surplus();
    }

    /// Takes a replica out of the slots and the snapshot, and remembers what it took.
    fn forget(&mut self, address: &ArtifactAddress, replica: &Replica) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address.clone(), replica.footprint());
        self.slots.remove(address);
        self.publish();
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

impl Waiting {
    /// Lets a caller wait too, if not too many do already.
    fn join(&mut self, reply: Reply, max_waiting: usize) {
        // Callers that gave up hold nothing any more.
        self.callers.retain(|(_, reply)| !reply.is_closed());
        if self.callers.len() < max_waiting {
            self.callers.push((Instant::now(), reply));
        } else {
            answer(reply, Err(AcquireError::QueueFull(max_waiting)));
        }
    }
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

/// Warns of what an operator can mend. The rest is up to clients, and so is how often it comes.
fn log_failure(address: &ArtifactAddress, error: &AcquireError) {
    let error_chain = Chain(error);
    match error.kind() {
        ErrorKind::BadArtifact | ErrorKind::StoreUnavailable | ErrorKind::Forbidden => {
            warn!(%address, error = %error_chain, "load failed");
        }
        _ => debug!(%address, error = %error_chain, "load failed"),
    }
}

/// A caller that hung up needs no answer.
fn answer(reply: Reply, outcome: Result<Acquired, AcquireError>) {
    let _ = reply.send(outcome);
}
