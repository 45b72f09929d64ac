//! Tells every router that this instance lives, what it holds and how busy it is.
//!
//! # Invariants
//!
//! - One report per router is under way at a time: a slow router delays nobody else.
//!
//! # When it dies
//!
//! Its supervisor, `Instance`, ends the process: an instance that no router knows is of no use.

use super::model_cache::ModelCache;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use shared::{
    api::membership::{Heartbeat as Report, InstanceState},
    id::{FleetId, InstanceId},
};
use std::{mem, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// A third of the router's lease of 3 s: two may be lost.
const INTERVAL: Duration = Duration::from_secs(1);

/// A report that takes longer is worth less than the next one.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Tells the routers of this instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    actor: ActorRef<Message>,
}

/// What the heartbeat reports, and to whom.
#[derive(Clone, Debug)]
pub struct HeartbeatParts {
    /// `http://host:port` of each router.
    pub routers: Vec<String>,
    pub instance: InstanceId,
    pub fleet: Option<FleetId>,
    pub address: SocketAddr,
    pub boot_id: String,
    pub n_slots: usize,
    pub cache: ModelCache,
}

impl Heartbeat {
    pub async fn spawn(parts: HeartbeatParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, HeartbeatActor, parts, supervisor).await?;
        Ok(Self { actor })
    }

    /// Says goodbye to every router; returns when each has answered or had its time.
    pub async fn leave(&self) {
        // Without a heartbeat the lease runs out by itself.
        let _ = ractor::call!(self.actor, |reply| Message::Leave { reply });
    }
}

// === Messages ===

#[derive(Debug)]
enum Message {
    Tick,
    Leave { reply: RpcReplyPort<()> },
}

// === Actor ===

#[derive(Debug)]
struct HeartbeatActor;

impl Actor for HeartbeatActor {
    type Msg = Message;
    type State = State;
    type Arguments = HeartbeatParts;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        parts: HeartbeatParts,
    ) -> Result<State, ActorProcessingErr> {
        // A proxy of the environment is for the world, not for routers.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let router = |url: &String| Router {
            url: format!("{}/manifold/v1/instances/{}", url.trim_end_matches('/'), parts.instance),
            turn: Arc::new(Semaphore::new(1)),
            is_registered: Arc::default(),
        };
        let routers = parts.routers.iter().map(router).collect();
        // The first report goes out now, the others by the clock.
        let _ = myself.cast(Message::Tick);
        myself.send_interval(INTERVAL, || Message::Tick);
        Ok(State { client, routers, parts, is_leaving: false })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => state.tick(),
            Message::Leave { reply } => state.leave(reply),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    client: reqwest::Client,
    routers: Vec<Router>,
    parts: HeartbeatParts,
    is_leaving: bool,
}

#[derive(Clone, Debug)]
struct Router {
    /// Of this instance, at that router.
    url: String,
    /// Held while a report is under way.
    turn: Arc<Semaphore>,
    /// Whether the last report was taken, if there was one; news of a change is logged.
    is_registered: Arc<Mutex<Option<bool>>>,
}

impl State {
    fn tick(&self) {
        if self.is_leaving {
            return;
        }
        let report = self.report();
        for router in &self.routers {
            let Ok(turn) = Arc::clone(&router.turn).try_acquire_owned() else { continue };
            let (client, router, report) = (self.client.clone(), router.clone(), report.clone());
            tokio::spawn(async move {
                let _turn = turn;
                let answer = client.put(&router.url).json(&report).send().await;
                router.note(answer.and_then(reqwest::Response::error_for_status));
            });
        }
    }

    fn leave(&mut self, reply: RpcReplyPort<()>) {
        self.is_leaving = true;
        let farewells = self.routers.iter().map(|router| {
            let (client, router) = (self.client.clone(), router.clone());
            async move {
                // A report under way must not arrive after the farewell.
                let _turn = router.turn.acquire().await;
                // If it does not arrive, the lease runs out by itself.
                let _ = client.delete(&router.url).send().await;
            }
        });
        let farewells = futures_util::future::join_all(farewells);
        tokio::spawn(async move {
            farewells.await;
            // Who asked may have run out of patience.
            let _ = reply.send(());
        });
    }

    fn report(&self) -> Report {
        let HeartbeatParts { instance, fleet, address, boot_id, n_slots, cache, .. } = &self.parts;
        Report {
            instance: instance.clone(),
            fleet: fleet.clone(),
            address: *address,
            boot_id: boot_id.clone(),
            state: InstanceState::Serving,
            budget_bytes: cache.budget_bytes(),
            resident_bytes: cache.used_bytes(),
            n_resident: cache.n_resident(),
            n_in_flight: cache.n_in_flight(),
            n_slots: *n_slots,
        }
    }
}

impl Router {
    /// Logs when a router takes reports and when it no longer does, not at every report.
    fn note(&self, answer: Result<reqwest::Response, reqwest::Error>) {
        let is_registered = Some(answer.is_ok());
        if mem::replace(&mut *self.is_registered.lock(), is_registered) == is_registered {
            return;
        }
        match answer {
            Ok(_) => info!(url = self.url, "registered with router"),
            Err(error) => {
                let error = shared::telemetry::Chain(&error);
                warn!(url = self.url, %error, "router does not take reports");
            }
        }
    }
}
