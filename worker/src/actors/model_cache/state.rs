//! The model cache's state, and what it does with each message.

mod leaving;
mod room;
mod versions;

pub(super) use versions::Refreshed;

use super::{
    AcquireError, Acquired, MAX_CHECKS, MAX_LOADS, MAX_OUTSIDE_LOADS, MAX_REFRESHES, Message,
    ModelCacheParts, Published, Reply, ReserveReply, Snapshot,
    load::{self, LoadContext, Loaded, Reservation},
    resident::Resident,
};
use crate::{
    actors::replica::Replica,
    artifact::{FetchError, OnDeleted, Otherwise, Standing},
    lease::Leases,
    runtime::Footprint,
};
use ractor::{ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use shared::{address::ArtifactAddress, api::error::ErrorKind, telemetry::Chain};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Weak},
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
    /// What alone was too large for its backend, and when that was.
    oversized: HashMap<ArtifactAddress, Instant>,
    /// What somebody wants served even if its object is deleted.
    wanted_stale: HashSet<ArtifactAddress>,
    /// Whether nothing is loaded any more.
    is_leaving: bool,
}

enum Slot {
    Loading(Waiting),
    Resident(Held),
}

/// A resident model, and what only the cache knows of it.
struct Held {
    resident: Arc<Resident>,
    /// Whether it leaves as soon as it is idle.
    is_leaving: bool,
    /// Whether a new version is being loaded beside it.
    is_refreshing: bool,
    /// The version that did not come in its place.
    failed: Option<versions::FailedVersion>,
}

/// Who waits for a load.
#[derive(Default)]
struct Waiting {
    callers: Vec<Caller>,
    /// Who wants the artifact gone: heard once it is there, or did not come.
    unloads: Vec<RpcReplyPort<()>>,
    /// Whether it leaves as soon as it has served those that wait.
    leaves: bool,
}

struct Caller {
    since: Instant,
    on_deleted: OnDeleted,
    reply: Reply,
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
            context: LoadContext {
                cache: myself,
                parts,
                idle,
                turn,
                outside_turns: Arc::new(Semaphore::new(MAX_OUTSIDE_LOADS)),
                checks: Arc::new(Semaphore::new(MAX_CHECKS)),
                refreshes: Arc::new(Semaphore::new(MAX_REFRESHES)),
            },
            snapshot,
            slots: HashMap::new(),
            budget_bytes,
            reserved: Vec::new(),
            leaving_bytes: 0,
            promised: VecDeque::new(),
            known: HashMap::new(),
            oversized: HashMap::new(),
            wanted_stale: HashSet::new(),
            is_leaving: false,
        };
        state.publish();
        state
    }

    pub(super) fn acquire(
        &mut self,
        address: ArtifactAddress,
        on_deleted: OnDeleted,
        reply: Reply,
    ) {
        if on_deleted == OnDeleted::ServeStale {
            self.want_stale(address.clone());
        }
        let caller = Caller { since: Instant::now(), on_deleted, reply };
        match self.slots.get_mut(&address) {
            // Who comes from now on is better served where the model goes.
            Some(Slot::Loading(_)) if self.is_leaving => {
                answer(caller.reply, Err(AcquireError::Stopping));
            }
            Some(Slot::Loading(waiting)) => waiting.join(caller, self.context.parts.max_queued),
            Some(Slot::Resident(held)) if !held.resident.serves(on_deleted) => {
                answer(caller.reply, Err(FetchError::NotFound(address).into()));
            }
            Some(Slot::Resident(held))
                if let Some(acquired) = held.resident.lease(on_deleted, None) =>
            {
                answer(caller.reply, Ok(acquired));
            }
            Some(Slot::Resident(_)) | None if self.is_leaving => {
                answer(caller.reply, Err(AcquireError::Stopping));
            }
            // Absent, or just dead: then the news is under way.
            Some(Slot::Resident(_)) | None => self.start_load(address, caller),
        }
    }

    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
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
                // Its reservation is released.
                self.context.idle.notify_waiters();
                log_failure(address, &error);
                for caller in waiting.callers {
                    answer(caller.reply, Err(error.clone()));
                }
                for reply in waiting.unloads {
                    // It is gone, as was asked; who asked may be, too.
                    let _ = reply.send(());
                }
                let is_deleted = matches!(error, AcquireError::Fetch(FetchError::NotFound(_)));
                let is_wanted = self.wanted_stale.contains(address);
                if waiting.leaves || is_deleted && !is_wanted {
                    self.discard_files(address);
                }
            }
        }
    }

    pub(super) fn replica_died(&mut self, actor: ActorId, error: &ActorProcessingErr) {
        error!(%error, "replica died");
        self.context.parts.metrics.died_replicas.inc();
        // Absent if somebody has asked for the artifact since, and so begun to load it anew.
        let dead = self.residents().find(|(_, resident)| resident.replica.id() == actor.into());
        if let Some(address) = dead.map(|(address, _)| address.clone()) {
            self.slots.remove(&address);
            self.publish();
        }
    }

    fn start_load(&mut self, address: ArtifactAddress, caller: Caller) {
        let n_loads = self.slots.len() - self.residents().count();
        if n_loads >= MAX_LOADS {
            return answer(caller.reply, Err(AcquireError::Overloaded));
        }
        let waiting = Waiting { callers: vec![caller], ..Waiting::default() };
        self.slots.insert(address.clone(), Slot::Loading(waiting));
        self.publish();
        let cache = self.context.cache.clone();
        let span = info_span!("load", %address);
        let known = self.known.get(&address).copied();
        let is_wanted_stale = self.wanted_stale.contains(&address);
        let otherwise = if is_wanted_stale { Otherwise::Orphan } else { Otherwise::Last };
        let load = load::load(self.context.clone(), address.clone(), otherwise, known);
        let load = tokio::spawn(load.instrument(span));
        tokio::spawn(async move {
            // A panic must come back too, or its callers would wait for ever.
            let outcome = load.await.unwrap_or(Err(AcquireError::LoadPanicked));
            // If the cache has stopped, its callers are gone too.
            let _ = cache.cast(Message::LoadFinished { address, outcome });
        });
    }

    fn became_resident(&mut self, address: &ArtifactAddress, loaded: Loaded, waiting: Waiting) {
        let footprint = loaded.replica.footprint();
        info!(
            %address, etag = loaded.version.etag, size_bytes = footprint.resident_bytes,
            workspace_bytes = footprint.workspace_bytes,
            elapsed_ms = loaded.elapsed.as_millis(), "loaded"
        );
        let resident = self.install(address, loaded);
        // Leases first: what was just loaded for someone must not be shed before it served.
        for Caller { since, on_deleted, reply } in waiting.callers {
            let acquired = resident.lease(on_deleted, Some(since.elapsed()));
            let missing = if resident.serves(on_deleted) {
                AcquireError::LoadPanicked
            } else {
                FetchError::NotFound(address.clone()).into()
            };
            answer(reply, acquired.ok_or(missing));
        }
        self.publish();
        for reply in waiting.unloads {
            self.unload(address, reply);
        }
        if waiting.leaves {
            self.discard(address.clone());
        }
        self.shed_surplus();
    }

    /// Puts a model that was loaded into its slot, where it counts instead of its reservation. Other
    /// versions leave the disk: none of them is ever served again.
    fn install(&mut self, address: &ArtifactAddress, loaded: Loaded) -> Arc<Resident> {
        let Loaded { replica, version, standing, located, reservation, .. } = loaded;
        self.discard_files_but(address, &version);
        let max_age = self.context.parts.max_age;
        let resident = Arc::new(Resident::new(replica, version, located, max_age));
        resident.set_orphan(standing == Standing::Orphan);
        if self.wanted_stale.contains(address) {
            resident.want_stale();
        }
        self.slots.insert(address.clone(), Slot::Resident(Held::new(Arc::clone(&resident))));
        drop(reservation);
        self.context.idle.notify_waiters();
        resident
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

    fn residents(&self) -> impl Iterator<Item = (&ArtifactAddress, &Arc<Resident>)> {
        self.slots.iter().filter_map(|(address, slot)| match slot {
            Slot::Resident(held) => Some((address, &held.resident)),
            Slot::Loading(_) => None,
        })
    }

    fn publish(&self) {
        let residents: HashMap<_, _> =
            self.residents().map(|(address, it)| (address.clone(), Arc::clone(it))).collect();
        let budget_bytes = self.budget_bytes;
        self.snapshot.store(Arc::new(Published { residents, budget_bytes }));
    }
}

impl Held {
    fn new(resident: Arc<Resident>) -> Self {
        Self { resident, is_leaving: false, is_refreshing: false, failed: None }
    }

    fn leases(&self) -> &Leases {
        self.resident.replica.leases()
    }
}

impl Waiting {
    /// Lets a caller wait too, if not too many do already.
    fn join(&mut self, caller: Caller, max_waiting: usize) {
        // Callers that gave up hold nothing any more.
        self.callers.retain(|it| !it.reply.is_closed());
        if self.callers.len() < max_waiting {
            self.callers.push(caller);
        } else {
            answer(caller.reply, Err(AcquireError::QueueFull(max_waiting)));
        }
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
