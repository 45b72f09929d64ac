//! Decides which asynchronous jobs a router tells etcd of, claims, reads and removes there.
//!
//! # Invariants
//!
//! - A job is removed only if it is known to be done: what etcd shows and this router cannot explain
//!   is done once more, never thrown away. So a job that was accepted is done at least once, whatever
//!   answers are lost.
//! - A job of another router is claimed only after nobody claimed it for [`PATIENCE`] rounds in a row:
//!   a router that lives and lost its lease claims its own before.

use std::collections::{BTreeMap, BTreeSet};

/// Rounds, a second apart. A router that lives notices within a second that etcd has ended its lease,
/// has another within a tenth, and then claims its jobs at once: so before the third round of others.
pub const PATIENCE: u32 = 3;

/// The jobs that this router has to do with.
#[derive(Debug, Default)]
pub struct Jobs {
    states: BTreeMap<String, State>,
    /// Jobs of others that nobody claims: for how many rounds in a row.
    unclaimed: BTreeMap<String, u32>,
    round: u64,
}

/// What is known of a job. One that was accepted here is `Open` at once, whether or not etcd knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was tried to claim another router's. Whether that was done is what etcd shows.
    Claiming,
    /// In our own log, and not done.
    Open { is_taken: bool },
    /// Done, and perhaps still in etcd.
    Done { is_taken: bool, in_round: u64 },
}

/// A claim that etcd shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub lease: i64,
    /// Made by this router, in this life or a former one.
    pub is_own: bool,
}

/// What etcd shows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub jobs: BTreeSet<String>,
    pub claims: BTreeMap<String, Claim>,
}

/// What a round has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs that are done, each with the lease of its claim: they are removed while that stands.
    pub remove: Vec<(String, Option<i64>)>,
    /// Jobs of ours that etcd does not know.
    pub tell: Vec<String>,
    /// Jobs of ours whose claim was lost.
    pub claim: Vec<String>,
    /// Jobs that are claimed for us, and were never read.
    pub read: Vec<String>,
    /// Jobs that nobody does.
    pub take: Vec<String>,
}

impl Jobs {
    /// A job was written to our own log: accepted, left over from a former life, or taken over.
    pub fn open(&mut self, id: &str) {
        let is_taken = self.states.get(id) == Some(&State::Claiming);
        self.states.insert(id.to_owned(), State::Open { is_taken });
    }

    /// A job is about to be claimed, or its claim to be read: from now on it may be ours.
    pub fn claiming(&mut self, id: &str) {
        self.states.entry(id.to_owned()).or_insert(State::Claiming);
    }

    /// A job is done.
    pub fn done(&mut self, id: &str) {
        let state = State::Done { is_taken: self.is_taken(id), in_round: self.round };
        self.states.insert(id.to_owned(), state);
    }

    pub fn is_open(&self, id: &str) -> bool {
        matches!(self.states.get(id), Some(State::Open { .. }))
    }

    /// Whether a job is another router's, which may come back and look for it.
    pub fn is_taken(&self, id: &str) -> bool {
        let state = self.states.get(id);
        matches!(state, Some(State::Open { is_taken } | State::Done { is_taken, .. }) if *is_taken)
    }

    /// A round begins: what it sees of etcd is no older than this.
    pub fn begin(&mut self) {
        self.round += 1;
    }

    /// A round saw nothing: who seems to be gone may only have lost etcd, as we did.
    pub fn interrupted(&mut self) {
        self.unclaimed.clear();
    }

    /// Returns what is to be done about what etcd shows to a router under this lease.
    pub fn plan(&mut self, seen: &Seen, lease: i64) -> Plan {
        let mut plan = Plan::default();
        let (round, states) = (self.round, std::mem::take(&mut self.states));
        let stays = |(id, state): &(String, State)| plan.add(id, *state, seen, (lease, round));
        self.states = states.into_iter().filter(stays).collect();
        let is_strange = |id: &&String| !self.states.contains_key(*id);
        let ours = seen.claims.iter().filter(|(_, claim)| claim.lease == lease);
        let ours = ours.map(|(id, _)| id).filter(|id| seen.jobs.contains(*id));
        plan.read.extend(ours.filter(is_strange).cloned());
        let unclaimed = seen.jobs.iter().filter(|id| !seen.claims.contains_key(*id));
        let n_rounds = |id: &String| self.unclaimed.get(id).map_or(1, |n| n.saturating_add(1));
        self.unclaimed =
            unclaimed.filter(is_strange).map(|id| (id.clone(), n_rounds(id))).collect();
        let given_up = self.unclaimed.iter().filter(|(_, n_rounds)| **n_rounds >= PATIENCE);
        plan.take.extend(given_up.map(|(id, _)| id.clone()));
        plan
    }
}

impl Plan {
    /// Adds what is to be done about a job of ours. Returns whether it still is one.
    fn add(&mut self, id: &str, state: State, seen: &Seen, (lease, round): (i64, u64)) -> bool {
        let (is_there, claim) = (seen.jobs.contains(id), seen.claims.get(id));
        let id = id.to_owned();
        match (state, claim) {
            // What was on its way to etcd when this round looked may be there now.
            (State::Done { in_round, .. }, None) if !is_there => return in_round >= round,
            (State::Done { .. }, None) => self.remove.push((id, None)),
            (State::Done { .. }, Some(it)) if it.is_own => self.remove.push((id, Some(it.lease))),
            (State::Open { .. }, _) if !is_there => self.tell.push(id),
            (State::Open { .. }, None) => self.claim.push(id),
            // Somebody does it. If it is done here and another does it once more, that one removes it;
            // should it die, nobody needs to.
            (State::Done { .. } | State::Open { .. }, Some(_)) => {}
            (State::Claiming, _) if !is_there => return false,
            (State::Claiming, None) => self.take.push(id),
            (State::Claiming, Some(it)) if it.lease == lease => self.read.push(id),
            // Of our former life, until its lease ends; else another was faster.
            (State::Claiming, Some(it)) => return it.is_own,
        }
        true
    }
}

#[cfg(test)]
mod tests;
