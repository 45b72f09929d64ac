//! What etcd says of instances, and what probes said of those that are silent.
//!
//! Heartbeats tell who is well. An entry in etcd tells who exists: an instance that is registered but
//! not heard is probed, and its answer is as good as a heartbeat. Silence and a failed probe end a
//! member although its entry is there.

use shared::{etcd::members::Registered, id::InstanceId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Probes in the length of a lease: the first silence is looked into while there is time for a verdict.
const PROBES: u32 = 2;

/// The entries of etcd, as far as they matter here.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: BTreeMap<InstanceId, Entry>,
}

#[derive(Debug)]
struct Entry {
    record: Registered,
    probed_at: Option<Instant>,
    is_being_probed: bool,
    /// It said goodbye: that it can still be reached is no reason to take it back.
    has_left: bool,
}

impl Registry {
    /// Takes what etcd says now. What was known of a process stays known.
    pub(super) fn replace(&mut self, records: impl IntoIterator<Item = Registered>) {
        let mut before = std::mem::take(&mut self.entries);
        for record in records {
            let known = before.remove(&record.instance);
            let entry = match known.filter(|known| is_same(&known.record, &record)) {
                Some(known) => Entry { record, ..known },
                None => Entry { record, probed_at: None, is_being_probed: false, has_left: false },
            };
            self.entries.insert(entry.record.instance.clone(), entry);
        }
    }

    /// The process said goodbye.
    pub(super) fn left(&mut self, instance: &InstanceId, boot_id: &str) {
        let entry = self.entries.get_mut(instance);
        if let Some(entry) = entry.filter(|it| it.record.boot_id == boot_id) {
            entry.has_left = true;
        }
    }

    /// Returns whom to probe now, and takes it that they are. `evidence` is when a registered process
    /// was last known to live; `None`: it is no member and may become one.
    pub(super) fn due(
        &mut self,
        evidence: impl Fn(&Registered) -> Option<Instant>,
        lease: Duration,
        now: Instant,
    ) -> Vec<Registered> {
        let mut due = Vec::new();
        for entry in self.entries.values_mut() {
            let is_recent =
                |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < lease / PROBES);
            let is_well = is_recent(evidence(&entry.record)) || is_recent(entry.probed_at);
            if !is_well && !entry.is_being_probed && !entry.has_left {
                (entry.is_being_probed, entry.probed_at) = (true, Some(now));
                due.push(entry.record.clone());
            }
        }
        due
    }

    /// A probe of a process has ended. Returns what etcd says of it now, if it still does.
    pub(super) fn probed(&mut self, record: &Registered) -> Option<&Registered> {
        let entry = self.entries.get_mut(&record.instance)?;
        if !is_same(&entry.record, record) {
            return None;
        }
        entry.is_being_probed = false;
        (!entry.has_left).then_some(&entry.record)
    }
}

fn is_same(a: &Registered, b: &Registered) -> bool {
    a.boot_id == b.boot_id && a.address == b.address
}
