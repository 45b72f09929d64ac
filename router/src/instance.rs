//! An instance as invocations see it: where it is, whether it still counts, and how busy it is.
//!
//! `Membership` makes it and decides. Invocations only read its flags, say when they suspect, and
//! count themselves.

mod pace;

use crate::policy::{
    choice::{Figures, Load},
    ring::Node,
};
use awc::http::header::HeaderValue;
use shared::{
    api::membership::{Heartbeat, InstanceState},
    id::{FleetId, InstanceId},
};
use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;

use pace::Pace;

/// The steps of an invocation in which [`Process::elsewhere`] counts.
const ELSEWHERE_UNIT: i64 = 256;

/// The part of it that each heartbeat renews: it holds for some seconds. The heartbeat's number is
/// a moment old, so a single difference to ours says little.
const ELSEWHERE_WEIGHT: i64 = 4;

/// An instance that `Membership` knows.
#[derive(Debug)]
pub struct Instance {
    pub id: InstanceId,
    /// Itself on the ring.
    pub node: Node,
    pub address: SocketAddr,
    /// Its address as the `Host` of what is sent there.
    pub host: HeaderValue,
    pub budget_bytes: u64,
    pub state: InstanceState,
    /// The fleet that a launcher started it for.
    pub fleet: Option<FleetId>,
    /// Invocations that it can run at the same time.
    pub n_slots: usize,
    boot_id: String,
    process: Arc<Process>,
}

/// One process behind an instance, whatever else its heartbeats change.
#[derive(Debug, Default)]
struct Process {
    /// Set by the invocation that found it dead, so that the others avoid it while it is probed.
    is_suspect: AtomicBool,
    /// Set once it counts as lost, so that what waits for it is sent elsewhere. Never cleared:
    /// one that comes back is another `Instance`.
    is_lost: AtomicBool,
    /// Set before, if that was for its silence: it may be frozen or cut off, and no invocation is to blame.
    is_silent: AtomicBool,
    /// Wakes what waits for the loss.
    loss: Notify,
    /// Invocations that this router has there.
    n_in_flight: AtomicUsize,
    /// Those of other routers, in parts of [`ELSEWHERE_UNIT`]: what its heartbeats count beyond
    /// ours, on average. Written by `Membership` alone.
    elsewhere: AtomicI64,
    pace: Pace,
}

/// An invocation that an instance has, until it is dropped.
#[derive(Debug)]
pub struct InFlight<'a> {
    instance: &'a Instance,
    /// At its start, itself included.
    n_in_flight: usize,
}

/// Whether anybody still knows a process. Held by what is kept for it, such as connections.
#[derive(Clone, Debug)]
pub struct Life(Weak<Process>);

impl Instance {
    pub fn new(heartbeat: &Heartbeat) -> Self {
        Self {
            id: heartbeat.instance.clone(),
            node: Node::of(&heartbeat.instance),
            address: heartbeat.address,
            host: host(heartbeat.address),
            budget_bytes: heartbeat.budget_bytes,
            state: heartbeat.state,
            fleet: heartbeat.fleet.clone(),
            n_slots: heartbeat.n_slots,
            boot_id: heartbeat.boot_id.clone(),
            process: Arc::default(),
        }
    }

    /// Whether a heartbeat of the same process tells nothing that placement needs to know.
    pub fn is_as_in(&self, heartbeat: &Heartbeat) -> bool {
        self.budget_bytes == heartbeat.budget_bytes
            && self.n_slots == heartbeat.n_slots
            && self.state == heartbeat.state
    }

    /// Makes the instance of a later heartbeat of the same process.
    #[must_use]
    pub fn renewed(&self, heartbeat: &Heartbeat) -> Self {
        debug_assert!(self.is_same_process(heartbeat), "{} is another process", heartbeat.instance);
        Self { process: Arc::clone(&self.process), ..Self::new(heartbeat) }
    }

    pub fn is_same_process(&self, heartbeat: &Heartbeat) -> bool {
        self.boot_id == heartbeat.boot_id && self.address == heartbeat.address
    }

    /// Tells its process from others under the same id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub fn is_suspect(&self) -> bool {
        self.process.is_suspect.load(Relaxed)
    }

    /// Returns whether it was above suspicion.
    pub fn suspect(&self) -> bool {
        !self.process.is_suspect.swap(true, Relaxed)
    }

    pub fn clear(&self) {
        self.process.is_suspect.store(false, Relaxed);
    }

    pub fn is_lost(&self) -> bool {
        self.process.is_lost.load(Relaxed)
    }

    /// Loses one that nobody has heard of for its lease.
    pub fn lose_for_silence(&self) {
        self.process.is_silent.store(true, Relaxed);
        self.lose();
    }

    /// Whether it was lost for its silence.
    pub fn is_silent(&self) -> bool {
        self.process.is_silent.load(Relaxed)
    }

    pub fn lose(&self) {
        self.process.is_lost.store(true, Relaxed);
        self.process.loss.notify_waiters();
    }

    /// Waits until it counts as lost. Takes a lock that all share who wait for it.
    pub async fn lost(&self) {
        let mut loss = pin!(self.process.loss.notified());
        // Listen before looking, or a loss in between would be missed.
        loss.as_mut().enable();
        if !self.is_lost() {
            loss.await;
        }
    }

    /// Whether both are one process.
    pub fn is_same_process_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.process, &other.process)
    }

    /// Counts an invocation of this router as in flight there.
    pub fn begin(&self) -> InFlight<'_> {
        let n_before = self.process.n_in_flight.fetch_add(1, Relaxed);
        InFlight { instance: self, n_in_flight: n_before + 1 }
    }

    /// Learns from a heartbeat how many invocations of all routers it has.
    pub fn report(&self, n_in_flight: usize) {
        let all = i64::try_from(n_in_flight).unwrap_or(i64::MAX / ELSEWHERE_UNIT);
        let ours = i64::try_from(self.process.n_in_flight.load(Relaxed)).unwrap_or(all);
        let before = self.process.elsewhere.load(Relaxed);
        let difference = (all - ours).saturating_mul(ELSEWHERE_UNIT).saturating_sub(before);
        self.process.elsewhere.store(before + difference / ELSEWHERE_WEIGHT, Relaxed);
    }

    pub fn load(&self) -> Load {
        let elsewhere = self.process.elsewhere.load(Relaxed).max(0) / ELSEWHERE_UNIT;
        let n_elsewhere = usize::try_from(elsewhere).unwrap_or(usize::MAX);
        let n_in_flight = self.process.n_in_flight.load(Relaxed).saturating_add(n_elsewhere);
        Load { n_in_flight, n_slots: self.n_slots, is_new: false }
    }

    /// Returns how busy it is, and how fast.
    pub fn figures(&self) -> Figures {
        let pace = &self.process.pace;
        Figures { load: self.load(), service: pace.service(), load_time: pace.load() }
    }

    /// Whether a model that goes there has a home for some time.
    pub fn is_home(&self) -> bool {
        self.state == InstanceState::Serving && !self.is_lost() && !self.is_suspect()
    }

    /// Tells its process from all others that anybody knows, or holds the [`Life`] of.
    pub fn process_id(&self) -> usize {
        Arc::as_ptr(&self.process).addr()
    }

    /// Returns what ends when nobody knows its process any more.
    pub fn life(&self) -> Life {
        Life(Arc::downgrade(&self.process))
    }
}

impl InFlight<'_> {
    /// Tells how long the answer took, and how long of it the invocation waited for a load.
    pub fn served(&self, took: Duration, load: Option<Duration>) {
        let pace = &self.instance.process.pace;
        match load {
            Some(load) => pace.loaded(load),
            None => pace.served(took, self.n_in_flight, self.instance.n_slots),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.instance.process.n_in_flight.fetch_sub(1, Relaxed);
    }
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

fn host(address: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(address: &str) -> Heartbeat {
        Heartbeat {
            instance: "a".parse().unwrap(),
            address: address.parse().unwrap(),
            boot_id: "1".to_owned(),
            state: InstanceState::Serving,
            budget_bytes: 1,
            resident_bytes: 0,
            n_resident: 0,
            n_in_flight: 0,
            fleet: None,
            n_slots: 1,
            hot: Vec::new(),
        }
    }

    #[test]
    fn a_change_of_budget_forgets_neither_suspicion_nor_loss() {
        let before = Instance::new(&heartbeat("127.0.0.1:80"));
        let after = before.renewed(&Heartbeat { budget_bytes: 2, ..heartbeat("127.0.0.1:80") });
        assert_eq!(after.budget_bytes, 2);
        assert!(after.suspect() && !before.suspect());
        after.lose();
        assert!(before.is_lost());
    }

    #[tokio::test]
    async fn whoever_waits_for_the_loss_is_woken_by_it_and_who_comes_later_does_not_wait() {
        let instance = Arc::new(Instance::new(&heartbeat("127.0.0.1:80")));
        let waiting = Arc::clone(&instance);
        let waiting = tokio::spawn(async move { waiting.lost().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        instance.lose();
        waiting.await.unwrap();
        instance.lost().await;
    }

    #[test]
    fn an_invocation_is_in_flight_until_it_is_dropped() {
        let before = Instance::new(&heartbeat("127.0.0.1:80"));
        let after = before.renewed(&Heartbeat { budget_bytes: 2, ..heartbeat("127.0.0.1:80") });
        let (first, second) = (before.begin(), after.begin());
        assert_eq!((before.load().n_in_flight, after.load().n_in_flight), (2, 2));
        drop(first);
        drop(second);
        assert_eq!(after.load().n_in_flight, 0);
    }

    #[test]
    fn what_heartbeats_count_beyond_ours_is_of_other_routers() {
        let instance = Instance::new(&heartbeat("127.0.0.1:80"));
        let _ours = (instance.begin(), instance.begin());
        for _ in 0..50 {
            instance.report(12);
        }
        assert!((11..=12).contains(&instance.load().n_in_flight), "{:?}", instance.load());
        for _ in 0..50 {
            // A moment old: one of ours was not there yet.
            instance.report(1);
        }
        assert_eq!(instance.load().n_in_flight, 2);
        instance.report(usize::MAX);
        instance.report(usize::MAX);
    }

    #[test]
    fn waiting_is_measured_in_answers_that_are_before_one() {
        let instance = Instance::new(&heartbeat("127.0.0.1:80"));
        assert_eq!(instance.figures().wait(), None);
        instance.begin().served(Duration::from_millis(30), None);
        assert_eq!(instance.figures().wait(), Some(Duration::ZERO));
        let _three = (instance.begin(), instance.begin(), instance.begin());
        assert_eq!(instance.figures().wait(), Some(Duration::from_millis(90)));
        assert_eq!(instance.figures().load_time, None);
        instance.begin().served(Duration::from_secs(2), Some(Duration::from_secs(1)));
        assert_eq!(instance.figures().load_time, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_life_ends_with_the_last_who_knows_the_process() {
        let instance = Instance::new(&heartbeat("127.0.0.1:80"));
        let (life, renewed) = (instance.life(), instance.renewed(&heartbeat("127.0.0.1:80")));
        assert_eq!(renewed.process_id(), instance.process_id());
        let id = instance.process_id();
        drop(instance);
        assert!(!life.is_over());
        drop(renewed);
        assert!(life.is_over());
        // Nor does another process get its id while somebody holds its life.
        assert_ne!(Instance::new(&heartbeat("127.0.0.1:80")).process_id(), id);
    }
}
