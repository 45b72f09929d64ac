//! One load: fetch, wait for its turn, reserve room, construct, start the replica.
//!
//! Runs in a task of its own and reports back once, also after a panic.

use super::{AcquireError, Message, ModelCacheParts, ROOM_PATIENCE, relief, resident::Resident};
use crate::{
    actors::replica::{Held, Replica, ReplicaParts},
    artifact::{ArtifactVersion, FetchError, Otherwise, Standing, ingest::Fetched},
    lease::Leases,
    meter::Meter,
    runtime::{Artifact, Footprint, Place, Prospect},
};
use ractor::{ActorRef, SpawnErr};
use shared::address::ArtifactAddress;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// What loads share with the model cache.
#[derive(Clone, Debug)]
pub(super) struct LoadContext {
    pub(super) cache: ActorRef<Message>,
    pub(super) parts: ModelCacheParts,
    /// Woken when some replica becomes idle, or a reservation is released: there may be room.
    pub(super) idle: Arc<Notify>,
    /// One load constructs at a time: room is then reserved only for what is about to come, and
    /// invocations keep the other slots.
    pub(super) turn: Arc<Semaphore>,
    /// Loads whose models run outside wait for their processes more than for a core, and a handler that
    /// never comes to its end must not hold up the others.
    pub(super) outside_turns: Arc<Semaphore>,
    /// Who may ask a store about a resident model.
    pub(super) checks: Arc<Semaphore>,
    /// Which new versions may be loaded beside old ones.
    pub(super) refreshes: Arc<Semaphore>,
}

/// A model that has come into memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) replica: Replica,
    pub(super) version: ArtifactVersion,
    pub(super) standing: Standing,
    /// Since when its store has been asked for it.
    pub(super) located: Instant,
    pub(super) elapsed: Duration,
    /// Released after the replica's own footprint counts.
    pub(super) reservation: Reservation,
}

/// Room set aside for a load; released on drop.
pub(super) type Reservation = Arc<Footprint>;

/// Why room was not set aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom {
    pub(super) needed_bytes: u64,
    pub(super) budget_bytes: u64,
    /// Whether it is worth waiting: a model in use will be idle.
    pub(super) may_come: bool,
}

/// Why a new version did not come into memory.
#[derive(Debug)]
pub(super) struct FailedRefresh {
    pub(super) error: AcquireError,
    /// The version that was fetched, which may follow the one that a check saw; `None` if none was.
    pub(super) version: Option<ArtifactVersion>,
}

impl From<AcquireError> for FailedRefresh {
    fn from(error: AcquireError) -> Self {
        let version = match &error {
            AcquireError::Fetch(FetchError::Refused(.., version)) => version.as_deref().cloned(),
            _ => None,
        };
        Self { error, version }
    }
}

impl From<NoRoom> for AcquireError {
    fn from(NoRoom { needed_bytes, budget_bytes, .. }: NoRoom) -> Self {
        Self::NoRoom { needed_bytes, budget_bytes }
    }
}

/// Brings one artifact into memory. `known` is what it took the last time, if it did.
pub(super) async fn load(
    context: LoadContext,
    address: ArtifactAddress,
    otherwise: Otherwise,
    known: Option<Footprint>,
) -> Result<Loaded, AcquireError> {
    let started = Instant::now();
    let fetched = fetch(&context, &address, otherwise).await?;
    bring(context, address, fetched, known, started).await
}

/// Brings the version into memory that follows a resident one; `None` if there is no other.
pub(super) async fn refresh(
    context: LoadContext,
    address: ArtifactAddress,
    resident: Arc<Resident>,
) -> Result<Option<Loaded>, FailedRefresh> {
    let started = Instant::now();
    let fetched = fetch(&context, &address, Otherwise::Nothing).await?;
    if fetched.version == resident.version {
        return Ok(None);
    }
    let version = fetched.version.clone();
    // What the old one takes says little of the new one.
    let brought = bring(context, address, fetched, None, started).await;
    brought.map(Some).map_err(|error| FailedRefresh { error, version: Some(version) })
}

async fn fetch(
    context: &LoadContext,
    address: &ArtifactAddress,
    otherwise: Otherwise,
) -> Result<Fetched, AcquireError> {
    let started = Instant::now();
    let fetched = context.parts.fetcher.fetch(address.clone(), otherwise).await?;
    context.parts.metrics.fetch.0.observe(started.elapsed());
    Ok(fetched)
}

async fn bring(
    context: LoadContext,
    address: ArtifactAddress,
    fetched: Fetched,
    known: Option<Footprint>,
    started: Instant,
) -> Result<Loaded, AcquireError> {
    let prospect = inspect(&context, &address, &fetched).await?;
    let resident_bytes = prospect.needed_bytes;
    let expected = known.unwrap_or(Footprint { resident_bytes, workspace_bytes: 0 });
    let (turn, reservation) = take_turn(&context, expected, prospect.place).await?;

    let constructing = Instant::now();
    let meter = Arc::new(Meter::new(context.parts.replica_metrics.clone()));
    let model = construct(&context, &address, &fetched, prospect.place, &meter).await?;
    context.parts.metrics.load.0.observe(constructing.elapsed());
    drop(turn);

    let replica = start(&context, &address, model, meter).await;
    let replica = replica.map_err(|_| AcquireError::Stopping)?;
    let Fetched { version, standing, .. } = fetched;
    let elapsed = started.elapsed();
    Ok(Loaded { replica, version, standing, located: started, elapsed, reservation })
}

/// Waits for the load's turn and for room. While only room is missing, others have their turn: a
/// smaller model may fit.
async fn take_turn(
    context: &LoadContext,
    expected: Footprint,
    place: Place,
) -> Result<(SemaphorePermit<'_>, Reservation), AcquireError> {
    let turns = match place {
        Place::Slots => &context.turn,
        Place::Outside => &context.outside_turns,
    };
    let mut patience = None;
    loop {
        let turn = turns.acquire().await.map_err(|_| AcquireError::Stopping)?;
        // Listen before asking, or a replica that becomes idle in between would be missed.
        let idle = context.idle.notified();
        tokio::pin!(idle);
        idle.as_mut().enable();
        let answer = ractor::call!(context.cache, |reply| Message::Reserve { expected, reply });
        let error = match answer.map_err(|_| AcquireError::Stopping)? {
            Ok(reservation) => return Ok((turn, reservation)),
            Err(error) => error,
        };
        drop(turn);
        // From the first refusal on: turns of others are not this load's fault.
        let patience = *patience.get_or_insert_with(|| Instant::now() + ROOM_PATIENCE);
        if !error.may_come || timeout_at(patience, idle).await.is_err() {
            return Err(error.into());
        }
    }
}

/// Reads files, so it blocks; a thread is lent for it.
async fn inspect(
    context: &LoadContext,
    address: &ArtifactAddress,
    fetched: &Fetched,
) -> Result<Prospect, AcquireError> {
    let address = address.clone();
    let (runtime, lease) = (Arc::clone(&context.parts.runtime), fetched.lease.clone());
    let prospect = tokio::task::spawn_blocking(move || runtime.inspect(&address, lease.path()));
    Ok(prospect.await.map_err(|_| AcquireError::LoadPanicked)??)
}

async fn construct(
    context: &LoadContext,
    address: &ArtifactAddress,
    fetched: &Fetched,
    place: Place,
    meter: &Arc<Meter>,
) -> Result<Held, AcquireError> {
    match place {
        Place::Slots => {
            let runtime = Arc::clone(&context.parts.runtime);
            let (address, path) = (address.clone(), fetched.lease.path().to_owned());
            let load = move || runtime.load(&address, &path);
            let model = context.parts.compute.load(load).await??;
            Ok(Held::Inside(model))
        }
        Place::Outside => {
            let (address, lease) = (address.clone(), fetched.lease.clone());
            let artifact = Artifact { address, lease, meter: Arc::clone(meter) };
            Ok(Held::Outside(relief::start(context, artifact).await?))
        }
    }
}

async fn start(
    context: &LoadContext,
    address: &ArtifactAddress,
    model: Held,
    meter: Arc<Meter>,
) -> Result<Replica, SpawnErr> {
    let parts = ReplicaParts {
        address: address.clone(),
        model,
        leases: Leases::new(Arc::clone(&context.idle)),
        compute: context.parts.compute.clone(),
        meter,
        max_queued: context.parts.max_queued,
    };
    Replica::spawn(parts, context.cache.get_cell()).await
}
