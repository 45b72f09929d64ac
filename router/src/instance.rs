//! An instance as invocations see it: where it is, and whether it still counts.
//!
//! `Membership` makes it and decides. Invocations only read its flags, and say when they suspect.

use awc::http::Uri;
use shared::{
    api::membership::Heartbeat,
    id::{FleetId, InstanceId},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// An instance that `Membership` knows.
#[derive(Debug)]
pub struct Instance {
    pub id: InstanceId,
    pub address: SocketAddr,
    pub uri: Uri,
    pub budget_bytes: u64,
    /// The fleet that a launcher started it for.
    pub fleet: Option<FleetId>,
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
}

/// Whether anybody still knows a process. Held by what is kept for it, such as connections.
#[derive(Clone, Debug)]
pub struct Life(Weak<Process>);

impl Instance {
    pub fn new(heartbeat: &Heartbeat) -> Self {
        Self {
            id: heartbeat.instance.clone(),
            address: heartbeat.address,
            uri: invocations_uri(heartbeat.address),
            budget_bytes: heartbeat.budget_bytes,
            fleet: heartbeat.fleet.clone(),
            boot_id: heartbeat.boot_id.clone(),
            process: Arc::default(),
        }
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

    pub fn lose(&self) {
        self.process.is_lost.store(true, Relaxed);
    }

    /// Returns what ends when nobody knows its process any more.
    pub fn life(&self) -> Life {
        Life(Arc::downgrade(&self.process))
    }
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }

    pub fn is_of(&self, instance: &Instance) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&instance.process)
    }
}

fn invocations_uri(address: SocketAddr) -> Uri {
    let uri = Uri::builder().scheme("http").authority(address.to_string());
    let uri = uri.path_and_query("/invocations").build();
    uri.expect("an address without an IPv6 zone, which the roster refuses, is an authority")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::api::membership::InstanceState;

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
        }
    }

    #[test]
    fn invocations_go_to_its_address() {
        for address in ["127.0.0.1:80", "[::1]:8080"] {
            let uri = Instance::new(&heartbeat(address)).uri.to_string();
            assert_eq!(uri, format!("http://{address}/invocations"));
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

    #[test]
    fn a_life_ends_with_the_last_who_knows_the_process() {
        let instance = Instance::new(&heartbeat("127.0.0.1:80"));
        let (life, renewed) = (instance.life(), instance.renewed(&heartbeat("127.0.0.1:80")));
        assert!(life.is_of(&renewed) && !life.is_of(&Instance::new(&heartbeat("127.0.0.1:80"))));
        drop(instance);
        assert!(!life.is_over());
        drop(renewed);
        assert!(life.is_over());
    }
}
