//! Holds on a replica: whoever uses it has one, and who wants to evict it must find none.
//!
//! A warm invocation takes its lease from the published snapshot without asking an actor, so the
//! race with an eviction is decided here, by one atomic number: a count of leases, a count of pins
//! and a flag that says "closed". A closed replica gives no lease, and only a replica without leases
//! can be closed for eviction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Bits 0 to 31 count leases, 32 to 62 pins.
const ONE_PIN: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;

/// The leases of one replica.
#[derive(Debug)]
pub struct Leases {
    /// Both counts, and [`CLOSED`].
    state: AtomicU64,
    created: Instant,
    /// Microseconds after `created`.
    last_used: AtomicU64,
    /// Woken whenever some replica of this instance becomes idle: an eviction may now succeed.
    idle: Arc<Notify>,
}

/// A hold on a replica while an invocation runs; released on drop.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
}

/// A hold without an end in sight: a platform loaded the model by name. Released on drop.
#[derive(Debug)]
pub struct Pin {
    lease: Lease,
}

impl Leases {
    pub fn new(idle: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(0),
            created: Instant::now(),
            last_used: AtomicU64::new(0),
            idle,
        })
    }

    /// Takes a lease, unless the replica is closed.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        self.add_unless(CLOSED, 1).then(|| Lease { leases: Arc::clone(self) })
    }

    /// Closes an idle replica for good and says whether that succeeded.
    pub fn close_if_idle(&self) -> bool {
        self.state.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Closes the replica for good, unless it is pinned or closed, and says whether that succeeded:
    /// present leases stay, no new one is given.
    pub fn close_unless_pinned(&self) -> bool {
        self.add_unless(!(ONE_PIN - 1), CLOSED)
    }

    /// Closes the replica for good: present leases stay, no new one is given.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Leases that are held, pins among them.
    pub fn count(&self) -> usize {
        number(self.state.load(Ordering::Acquire) & (ONE_PIN - 1))
    }

    /// Leases that end by themselves: invocations.
    pub fn n_passing(&self) -> usize {
        let state = self.state.load(Ordering::Acquire) & !CLOSED;
        number((state & (ONE_PIN - 1)) - state / ONE_PIN)
    }

    /// Whether somebody holds a lease without an end in sight.
    pub fn is_pinned(&self) -> bool {
        self.state.load(Ordering::Acquire) & !CLOSED >= ONE_PIN
    }

    /// When a lease was last returned; when the replica came, if none ever was.
    pub fn last_used(&self) -> Instant {
        self.created + Duration::from_micros(self.last_used.load(Ordering::Relaxed))
    }

    fn add_unless(&self, forbidden: u64, number: u64) -> bool {
        let add = |state: u64| (state & forbidden == 0).then(|| state + number);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Lease {
    /// Makes the hold last. `None` if the replica was closed meanwhile.
    pub fn pin(self) -> Option<Pin> {
        self.leases.add_unless(CLOSED, ONE_PIN).then(|| Pin { lease: self })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.lease.leases.state.fetch_sub(ONE_PIN, Ordering::AcqRel);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let used = self.leases.created.elapsed().as_micros();
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        self.leases.last_used.fetch_max(used, Ordering::Relaxed);
        let before = self.leases.state.fetch_sub(1, Ordering::AcqRel);
        if before & !CLOSED == 1 {
            self.leases.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_replica_cannot_be_closed_for_eviction() {
        let leases = Leases::new(Arc::default());
        let lease = leases.lease().unwrap();
        assert!(!leases.close_if_idle());

        drop(lease);
        assert!(leases.close_if_idle());
        assert!(leases.lease().is_none());
    }

    #[test]
    fn closing_keeps_present_leases_and_gives_no_new_one() {
        let leases = Leases::new(Arc::default());
        let lease = leases.lease().unwrap();
        leases.close();
        assert!(leases.lease().is_none());
        assert_eq!(leases.count(), 1);
        drop(lease);
        assert_eq!(leases.count(), 0);
    }

    #[test]
    fn a_pinned_replica_cannot_be_closed_and_a_closed_one_not_pinned() {
        let leases = Leases::new(Arc::default());
        let invocation = leases.lease().unwrap();
        let pin = leases.lease().unwrap().pin().unwrap();
        assert_eq!((leases.count(), leases.n_passing(), leases.is_pinned()), (2, 1, true));
        assert!(!leases.close_unless_pinned());

        drop(pin);
        assert_eq!((leases.count(), leases.n_passing(), leases.is_pinned()), (1, 1, false));
        assert!(leases.close_unless_pinned());
        assert!(!leases.close_unless_pinned());
        assert!(invocation.pin().is_none());
        assert_eq!((leases.count(), leases.n_passing(), leases.is_pinned()), (0, 0, false));
    }

    #[tokio::test]
    async fn the_last_lease_to_go_wakes_who_waits_for_room() {
        let idle = Arc::new(Notify::new());
        let leases = Leases::new(Arc::clone(&idle));
        let (first, second) = (leases.lease().unwrap(), leases.lease().unwrap());
        let woken = idle.notified();
        tokio::pin!(woken);
        assert!(!woken.as_mut().enable());

        drop(first);
        drop(second);
        woken.await;
    }

    #[tokio::test(start_paused = true)]
    async fn use_ends_when_the_lease_is_returned() {
        let leases = Leases::new(Arc::default());
        let lease = leases.lease().unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(lease);
        assert_eq!(leases.last_used(), Instant::now());
    }

    #[test]
    fn racing_leases_and_evictions_never_both_win() {
        for _ in 0..2_000 {
            let leases = Leases::new(Arc::default());
            let (lease, closed) = std::thread::scope(|scope| {
                let lease = scope.spawn(|| leases.lease());
                let closed = scope.spawn(|| leases.close_if_idle());
                (lease.join().unwrap(), closed.join().unwrap())
            });
            assert_ne!(lease.is_some(), closed);
        }
    }
}
