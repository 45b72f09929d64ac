//! Decides which instances are in service: who may register, who has been silent for too long.

pub mod refusals;
mod registry;

use self::registry::Registry;
use shared::{
    api::membership::{Heartbeat, InstanceState},
    etcd::members::Registered,
    id::InstanceId,
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// Every registered instance, by id.
#[derive(Debug)]
pub struct Roster {
    lease: Duration,
    max_instances: usize,
    members: BTreeMap<InstanceId, Member>,
    registry: Registry,
    /// Instances that report, but did not answer when they were asked. At most as many as members.
    doubted: BTreeMap<InstanceId, Doubted>,
}

/// An instance whose word is not enough: what it says gets through, what is said to it may not.
#[derive(Debug)]
struct Doubted {
    heartbeat: Heartbeat,
    heard_at: Instant,
    /// Whether it is being asked.
    is_asked: bool,
}

#[derive(Debug)]
pub struct Member {
    pub heartbeat: Heartbeat,
    heard_at: Instant,
    /// When a probe explained why it is not heard.
    vouched_at: Option<Instant>,
    /// The process that this one replaced. Its late heartbeats must not bring it back.
    replaced_boot: Option<String>,
}

/// What a heartbeat meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Joined,
    /// The same process as before.
    Renewed,
    /// Another process under the same id.
    Restarted,
    /// It is to be asked before it may join; `false`: it is being asked already.
    Doubted {
        is_to_be_asked: bool,
    },
}

/// Why a heartbeat was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    #[error("another process has taken the instance id")]
    Replaced,
    #[error("there are as many instances as this router allows")]
    Full,
    #[error("no router can reach port 0, an unspecified address or one in an IPv6 zone")]
    Address,
    #[error("no instance has that many slots or invocations")]
    Figures,
}

/// More compute slots than any machine has cores, and more invocations than it has sockets: what
/// claims to have more is mistaken. Sums and products of all instances' figures stay far from the
/// end of an integer.
const MAX_SLOTS: usize = 1 << 16;
const MAX_IN_FLIGHT: usize = 1 << 24;

impl Roster {
    pub fn new(lease: Duration, max_instances: usize) -> Self {
        let (registry, doubted) = (Registry::default(), BTreeMap::new());
        Self { lease, max_instances, members: BTreeMap::new(), registry, doubted }
    }

    pub fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> Result<Heard, Refused> {
        if leads_nowhere(heartbeat.address) {
            return Err(Refused::Address);
        }
        if heartbeat.n_slots > MAX_SLOTS || heartbeat.n_in_flight > MAX_IN_FLIGHT {
            return Err(Refused::Figures);
        }
        if let Some(doubted) = self.doubted.get_mut(&heartbeat.instance)
            && doubted.heartbeat.boot_id == heartbeat.boot_id
        {
            let is_to_be_asked = !std::mem::replace(&mut doubted.is_asked, true);
            (doubted.heartbeat, doubted.heard_at) = (heartbeat, now);
            return Ok(Heard::Doubted { is_to_be_asked });
        }
        // Another process: nothing is known against it.
        let replaced_boot = self.doubted.remove(&heartbeat.instance).map(|it| it.heartbeat.boot_id);
        let Some(member) = self.members.get_mut(&heartbeat.instance) else {
            if self.members.len() >= self.max_instances {
                return Err(Refused::Full);
            }
            let member = Member { heartbeat, heard_at: now, vouched_at: None, replaced_boot };
            self.members.insert(member.heartbeat.instance.clone(), member);
            return Ok(Heard::Joined);
        };
        if member.replaced_boot.as_ref() == Some(&heartbeat.boot_id) {
            return Err(Refused::Replaced);
        }
        let is_restart = member.heartbeat.boot_id != heartbeat.boot_id;
        let before = std::mem::replace(&mut member.heartbeat, heartbeat);
        member.heard_at = now;
        if is_restart {
            member.replaced_boot = Some(before.boot_id);
            return Ok(Heard::Restarted);
        }
        Ok(Heard::Renewed)
    }

    /// Removes and returns the instances whose lease is over.
    pub fn expire(&mut self, now: Instant) -> Vec<InstanceId> {
        let lease = self.lease;
        self.doubted.retain(|_, doubted| now - doubted.heard_at <= lease);
        let gone = self.members.extract_if(.., |_, member| now - member.evidence() > lease);
        gone.map(|(instance, _)| instance).collect()
    }

    /// Prolongs every lease: this process itself was not there to hear.
    pub fn forgive(&mut self, absence: Duration) {
        for member in self.members.values_mut() {
            member.heard_at += absence;
            member.vouched_at = member.vouched_at.map(|at| at + absence);
        }
    }

    /// Removes an instance that did not answer when it was asked. If it still reports, it is asked
    /// again before it may come back. Returns whether it was a member.
    pub fn doubt(&mut self, instance: &InstanceId) -> bool {
        let Some(Member { heartbeat, heard_at, .. }) = self.members.remove(instance) else {
            return false;
        };
        if self.doubted.len() < self.max_instances {
            let doubted = Doubted { heartbeat, heard_at, is_asked: false };
            self.doubted.insert(instance.clone(), doubted);
        }
        true
    }

    /// An instance under doubt was asked. One that answered joins with what it reported last.
    pub fn answered(
        &mut self,
        instance: &InstanceId,
        boot_id: &str,
        is_alive: bool,
    ) -> Option<Result<Heard, Refused>> {
        let is_asked = |it: &Doubted| it.is_asked && it.heartbeat.boot_id == boot_id;
        // It may have restarted or left meanwhile.
        let doubted = self.doubted.get_mut(instance).filter(|it| is_asked(it))?;
        doubted.is_asked = false;
        if !is_alive {
            return None;
        }
        let Doubted { heartbeat, heard_at, .. } = self.doubted.remove(instance)?;
        Some(self.hear(heartbeat, heard_at))
    }

    /// Takes what etcd says of instances. Nobody is a member for that alone, and nobody ceases to be.
    pub fn registered(&mut self, records: impl IntoIterator<Item = Registered>) {
        self.registry.replace(records);
    }

    /// Returns the registered instances that are to be probed now: those that are silent, and those
    /// that are not known.
    pub fn due(&mut self, now: Instant) -> Vec<Registered> {
        let members = &self.members;
        let evidence = |record: &Registered| {
            let member = members.get(&record.instance)?;
            let is_member = member.heartbeat.boot_id == record.boot_id;
            // Who has the id is known better by heartbeats: an entry may be older than a restart, and a
            // probe of its address may be answered by the new process.
            Some(if is_member { member.evidence() } else { now })
        };
        self.registry.due(evidence, self.lease, now)
    }

    /// A probe of a registered instance has ended. One that answered is a member, whether or not it
    /// was; returns what that meant, of one that is refused the first time only. One that did not answer
    /// is one only while other evidence lasts.
    pub fn probed(
        &mut self,
        record: &Registered,
        is_alive: bool,
        now: Instant,
    ) -> Option<Result<Heard, Refused>> {
        let record = self.registry.probed(record).filter(|_| is_alive)?.clone();
        match self.members.get_mut(&record.instance) {
            Some(member) if member.heartbeat.boot_id == record.boot_id => {
                member.vouched_at = Some(now);
                Some(Ok(Heard::Renewed))
            }
            Some(_) => None,
            None => {
                // It has just answered.
                self.doubted.remove(&record.instance);
                let heard = self.hear(record.to_heartbeat(), now);
                (heard.is_ok() || self.registry.refused(&record)).then_some(heard)
            }
        }
    }

    /// Removes an instance that says so itself.
    pub fn leave(&mut self, instance: &InstanceId) -> Option<Member> {
        if let Some(doubted) = self.doubted.remove(instance) {
            self.registry.left(instance, &doubted.heartbeat.boot_id);
        }
        let member = self.members.remove(instance)?;
        self.registry.left(instance, &member.heartbeat.boot_id);
        Some(member)
    }

    pub fn get(&self, instance: &InstanceId) -> Option<&Member> {
        self.members.get(instance)
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The instances that invocations go to. One that drains is among them until it says goodbye: it
    /// serves what it has not handed over yet, and says so of the rest.
    pub fn placed(&self) -> impl Iterator<Item = &Heartbeat> {
        let heartbeats = self.members.values().map(|member| &member.heartbeat);
        heartbeats.filter(|heartbeat| heartbeat.state != InstanceState::Joining)
    }
}

impl Member {
    /// When it was last known to live.
    fn evidence(&self) -> Instant {
        self.vouched_at.map_or(self.heard_at, |at| at.max(self.heard_at))
    }
}

/// A zone is a number of an interface on the machine that names it: it means nothing here.
fn leads_nowhere(address: SocketAddr) -> bool {
    let has_zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
    address.port() == 0 || address.ip().is_unspecified() || has_zone
}

#[cfg(test)]
mod tests;
