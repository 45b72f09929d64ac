//! What an instance and a router say of themselves in etcd.

use super::Entry;
use crate::{
    api::membership::{Heartbeat, InstanceState},
    id::{FleetId, InstanceId},
    telemetry::Excerpt,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, net::SocketAddr};
use tracing::warn;

/// A worker: what of its heartbeat does not change by the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub instance: InstanceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    pub address: SocketAddr,
    pub boot_id: String,
    pub state: InstanceState,
    pub budget_bytes: u64,
    pub n_slots: usize,
}

/// A router: where workers send their heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterRecord {
    /// `http://host:port`
    pub url: String,
}

impl Registered {
    pub fn of(heartbeat: &Heartbeat) -> Self {
        Self {
            instance: heartbeat.instance.clone(),
            fleet: heartbeat.fleet.clone(),
            address: heartbeat.address,
            boot_id: heartbeat.boot_id.clone(),
            state: heartbeat.state,
            budget_bytes: heartbeat.budget_bytes,
            n_slots: heartbeat.n_slots,
        }
    }

    /// Returns how it is written.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and numbers can be written")
    }

    /// Returns what its first heartbeat would say.
    pub fn to_heartbeat(&self) -> Heartbeat {
        Heartbeat {
            instance: self.instance.clone(),
            fleet: self.fleet.clone(),
            address: self.address,
            boot_id: self.boot_id.clone(),
            state: self.state,
            budget_bytes: self.budget_bytes,
            resident_bytes: 0,
            n_resident: 0,
            n_in_flight: 0,
            n_slots: self.n_slots,
            hot: Vec::new(),
        }
    }
}

impl RouterRecord {
    /// Returns how it is written.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text can be written")
    }
}

/// Reads what many say of themselves again and again, and tells once of what is not understood.
#[derive(Debug, Default)]
pub struct Reader {
    /// By their keys, when they were written.
    not_understood: BTreeMap<String, i64>,
}

impl Reader {
    /// Returns all that is of a version that is known here.
    pub fn read<'a, T: DeserializeOwned>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Vec<T> {
        let before = std::mem::take(&mut self.not_understood);
        let mut read = Vec::new();
        for entry in entries {
            match serde_json::from_slice(&entry.value) {
                Ok(it) => read.push(it),
                Err(error) => {
                    if before.get(&entry.key) != Some(&entry.modified) {
                        let (key, error) = (Excerpt(&entry.key), Excerpt(&error));
                        warn!(%key, %error, "not understood in etcd");
                    }
                    self.not_understood.insert(entry.key.clone(), entry.modified);
                }
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &[u8]) -> Entry {
        Entry { key: key.to_owned(), value: value.to_vec(), modified: 1, lease: 0 }
    }

    #[test]
    fn what_is_registered_comes_back_as_a_heartbeat() {
        let registered = Registered {
            instance: "a".parse().unwrap(),
            fleet: None,
            address: "127.0.0.1:9".parse().unwrap(),
            boot_id: "1".to_owned(),
            state: InstanceState::Serving,
            budget_bytes: 1 << 40,
            n_slots: 2,
        };
        let entries = [entry("a", &registered.encode())];
        let read: Vec<Registered> = Reader::default().read(entries.iter());
        assert_eq!(Registered::of(&read[0].to_heartbeat()), registered);
    }

    #[test]
    fn what_is_not_understood_keeps_no_other_from_being_read() {
        let record = RouterRecord { url: "http://a:1".to_owned() };
        let entries = [entry("a", b"{}"), entry("b", &record.encode())];
        let mut reader = Reader::default();
        for _ in 0..2 {
            assert_eq!(reader.read::<RouterRecord>(entries.iter()), std::slice::from_ref(&record));
        }
        assert_eq!(reader.not_understood.len(), 1);
        assert_eq!(reader.read::<RouterRecord>([].iter()), []);
        assert_eq!(reader.not_understood.len(), 0, "what is gone is forgotten");
    }
}
