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

/// Probes at once: a connection each. One that is answered takes milliseconds, so that thousands fit
/// into a lease.
const MAX_PROBES: usize = 256;

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
    /// It was told that it cannot be a member.
    is_refused: bool,
}

impl Registry {
    /// Takes what etcd says now. What was known of a process stays known.
    pub(super) fn replace(&mut self, records: impl IntoIterator<Item = Registered>) {
        let mut before = std::mem::take(&mut self.entries);
        for record in records {
            let known = before.remove(&record.instance);
            let entry = match known.filter(|known| is_same(&known.record, &record)) {
                Some(known) => Entry { record, ..known },
                None => Entry::new(record),
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

    /// Returns whom to probe now, so many as may be at once, and takes it that they are. `evidence` is when a registered process
    /// was last known to live; `None`: it is no member and may become one.
    pub(super) fn due(
        &mut self,
        evidence: impl Fn(&Registered) -> Option<Instant>,
        lease: Duration,
        now: Instant,
    ) -> Vec<Registered> {
        let n_probed = self.entries.values().filter(|it| it.is_being_probed).count();
        let is_recent =
            |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < lease / PROBES);
        let mut due = Vec::new();
        for entry in self.entries.values_mut() {
            let evidence = evidence(&entry.record);
            let is_well = is_recent(evidence) || is_recent(entry.probed_at);
            if !is_well && !entry.is_being_probed && !entry.has_left {
                // Members first, whose leases run; then who has waited for longest.
                due.push(((evidence.is_none(), entry.probed_at), entry));
            }
        }
        due.sort_by_key(|(urgency, _)| *urgency);
        let now_probed = due.into_iter().take(MAX_PROBES.saturating_sub(n_probed));
        now_probed.map(|(_, entry)| entry.begin_probe(now)).collect()
    }

    /// A process cannot be a member. Returns whether that is news.
    pub(super) fn refused(&mut self, record: &Registered) -> bool {
        let entry = self.entries.get_mut(&record.instance);
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.is_refused, true))
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

impl Entry {
    fn new(record: Registered) -> Self {
        let (is_being_probed, has_left, is_refused) = (false, false, false);
        Self { record, probed_at: None, is_being_probed, has_left, is_refused }
    }

    fn begin_probe(&mut self, now: Instant) -> Registered {
        (self.is_being_probed, self.probed_at) = (true, Some(now));
        self.record.clone()
    }
}

fn is_same(a: &Registered, b: &Registered) -> bool {
    a.boot_id == b.boot_id && a.address == b.address
}
