//! Tells every router that this instance lives, what it holds and how busy it is, and what it is about
//! to do.
//!
//! # Invariants
//!
//! - One report per router is under way at a time: a slow router delays nobody else.
//!
//! # When it dies
//!
//! Its supervisor, `Instance`, ends the process: an instance that no router knows is of no use.

use super::model_cache::ModelCache;
use crate::{router_client::instance_url, trust};
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use reqwest::redirect::Policy;
use shared::{
    api::membership::{Heartbeat as Report, InstanceState},
    etcd::members::Registered,
    id::{FleetId, InstanceId},
    token::ClusterToken,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Semaphore, watch};
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
    /// `http://host:port` of each router, as they are found.
    pub routers: watch::Receiver<BTreeSet<String>>,
    /// Takes what etcd shall say of this instance.
    pub registered: watch::Sender<Vec<u8>>,
    pub instance: InstanceId,
    pub fleet: Option<FleetId>,
    pub address: SocketAddr,
    pub boot_id: String,
    pub n_slots: usize,
    pub cache: ModelCache,
    /// What routers are shown.
    pub token: Option<ClusterToken>,
}

/// What came of telling routers of a new state: what the one that took it best did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announced {
    /// No router is known.
    ToNobody,
    /// None is there, or none will ever take it.
    Refused,
    /// None did in time: it is worth another try.
    Late,
    Taken,
}

impl Heartbeat {
    /// Starts to report the instance as joining.
    pub async fn spawn(parts: HeartbeatParts, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, HeartbeatActor, parts, supervisor).await?;
        Ok(Self { actor })
    }

    /// Reports another state to every router, now and from now on. Returns when each has answered or had
    /// its time.
    pub async fn announce(&self, state: InstanceState) -> Announced {
        let announce = ractor::call!(self.actor, |reply| Message::Announce { state, reply });
        // A stopping instance is known to nobody.
        announce.unwrap_or(Announced::ToNobody)
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
    Announce { state: InstanceState, reply: RpcReplyPort<Announced> },
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
        // A proxy of the environment is for the world, not for routers; and nobody but them shall be
        // shown the token, wherever they point.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
        let client = client.redirect(Policy::none()).build()?;
        let mut found = parts.routers.clone();
        // The first report goes out now, the others by the clock.
        let _ = myself.cast(Message::Tick);
        myself.send_interval(INTERVAL, || Message::Tick);
        // A router that is found hears of us at once.
        tokio::spawn(async move {
            while found.changed().await.is_ok() && myself.cast(Message::Tick).is_ok() {}
        });
        let (routers, phase) = (BTreeMap::new(), InstanceState::Joining);
        Ok(State { client, routers, parts, phase, is_leaving: false })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => state.tick(),
            Message::Announce { state: next, reply } => state.announce(next, reply),
            Message::Leave { reply } => state.leave(reply),
        }
        Ok(())
    }
}

// === State and handlers, in the order of the messages ===

struct State {
    client: reqwest::Client,
    /// By `http://host:port`.
    routers: BTreeMap<String, Router>,
    parts: HeartbeatParts,
    phase: InstanceState,
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
    fn tick(&mut self) {
        if self.is_leaving {
            return;
        }
        let report = self.prepare();
        for router in self.routers.values() {
            let Ok(turn) = Arc::clone(&router.turn).try_acquire_owned() else { continue };
            let (client, router, report) = (self.client.clone(), router.clone(), report.clone());
            let token = self.parts.token.clone();
            tokio::spawn(async move {
                let _turn = turn;
                router.tell(&client, token.as_ref(), &report).await;
            });
        }
    }

    fn announce(&mut self, phase: InstanceState, reply: RpcReplyPort<Announced>) {
        self.phase = phase;
        let report = self.prepare();
        let announcements = self.routers.values().map(|router| {
            let (client, router, report) = (self.client.clone(), router.clone(), report.clone());
            let token = self.parts.token.clone();
            async move {
                // A report under way says the state before, and must not arrive after this one.
                let _turn = router.turn.acquire().await;
                router.tell(&client, token.as_ref(), &report).await
            }
        });
        let announcements = futures_util::future::join_all(announcements);
        tokio::spawn(async move {
            let best = announcements.await.into_iter().max();
            // Who asked may have run out of patience.
            let _ = reply.send(best.unwrap_or(Announced::ToNobody));
        });
    }

    /// Finds out whom to tell what, and has etcd told.
    fn prepare(&mut self) -> Report {
        self.find_routers();
        let report = self.report();
        let registered = Registered::of(&report).encode();
        self.parts.registered.send_if_modified(|before| {
            *before != registered && {
                *before = registered;
                true
            }
        });
        report
    }

    fn find_routers(&mut self) {
        let found = self.parts.routers.borrow_and_update();
        self.routers.retain(|url, _| found.contains(url));
        for url in &*found {
            if !self.routers.contains_key(url) {
                self.routers.insert(url.clone(), Router::new(url, &self.parts.instance));
            }
        }
    }

    fn leave(&mut self, reply: RpcReplyPort<()>) {
        self.is_leaving = true;
        let farewells = self.routers.values().map(|router| {
            let (client, router) = (self.client.clone(), router.clone());
            let token = self.parts.token.clone();
            async move {
                // A report under way must not arrive after the farewell.
                let _turn = router.turn.acquire().await;
                // If it does not arrive, the lease runs out by itself.
                let _ = trust::show(token.as_ref(), client.delete(&router.url)).send().await;
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
            state: self.phase,
            budget_bytes: cache.budget_bytes(),
            resident_bytes: cache.used_bytes(),
            n_resident: cache.n_resident(),
            n_in_flight: cache.n_in_flight(),
            n_slots: *n_slots,
            hot: cache.hot(),
        }
    }
}

impl Router {
    fn new(url: &str, instance: &InstanceId) -> Self {
        Self {
            url: instance_url(url, instance),
            turn: Arc::new(Semaphore::new(1)),
            is_registered: Arc::default(),
        }
    }

    /// Sends a report, and says what came of it.
    async fn tell(
        &self,
        client: &reqwest::Client,
        token: Option<&ClusterToken>,
        report: &Report,
    ) -> Announced {
        let request = trust::show(token, client.put(&self.url).json(report));
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let is_busy =
            |error: &reqwest::Error| error.status().is_some_and(|it| it.is_server_error());
        let announced = match &answer {
            Ok(_) => Announced::Taken,
            Err(error) if error.is_timeout() || is_busy(error) => Announced::Late,
            Err(_) => Announced::Refused,
        };
        self.note(answer);
        announced
    }

    /// Logs when a router takes reports and when it no longer does, not at every report.
    fn note(&self, answer: Result<reqwest::Response, reqwest::Error>) {
        let is_registered = Some(answer.is_ok());
        if mem::replace(&mut *self.is_registered.lock(), is_registered) == is_registered {
            return;
        }
        match answer {
            Ok(_) => info!(url = self.url, "registered with router"),
            Err(error) => {
                let is_untrusted = error.status() == Some(reqwest::StatusCode::UNAUTHORIZED);
                let hint =
                    if is_untrusted { "; see --cluster-token-file, here and there" } else { "" };
                let error = shared::telemetry::Chain(&error);
                warn!(url = self.url, %error, "router does not take reports{hint}");
            }
        }
    }
}
