//! Decides which instances are in service: who may register, who has been silent for too long.

use shared::{
    api::membership::{Heartbeat, InstanceState},
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
}

#[derive(Debug)]
pub struct Member {
    pub heartbeat: Heartbeat,
    heard_at: Instant,
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
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("another process has taken the instance id")]
    Replaced,
    #[error("there are as many instances as this router allows")]
    Full,
    #[error("no router can reach port 0, an unspecified address or one in an IPv6 zone")]
    Address,
}

impl Roster {
    pub fn new(lease: Duration, max_instances: usize) -> Self {
        Self { lease, max_instances, members: BTreeMap::new() }
    }

    pub fn hear(&mut self, heartbeat: Heartbeat, now: Instant) -> Result<Heard, Refused> {
        if leads_nowhere(heartbeat.address) {
            return Err(Refused::Address);
        }
        let Some(member) = self.members.get_mut(&heartbeat.instance) else {
            if self.members.len() >= self.max_instances {
                return Err(Refused::Full);
            }
            let id = heartbeat.instance.clone();
            self.members.insert(id, Member { heartbeat, heard_at: now, replaced_boot: None });
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
        let gone = self.members.extract_if(.., |_, member| now - member.heard_at > lease);
        gone.map(|(instance, _)| instance).collect()
    }

    /// Prolongs every lease: this process itself was not there to hear.
    pub fn forgive(&mut self, absence: Duration) {
        for member in self.members.values_mut() {
            member.heard_at += absence;
        }
    }

    pub fn remove(&mut self, instance: &InstanceId) -> Option<Member> {
        self.members.remove(instance)
    }

    pub fn get(&self, instance: &InstanceId) -> Option<&Member> {
        self.members.get(instance)
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The instances that take new invocations.
    pub fn serving(&self) -> impl Iterator<Item = &Heartbeat> {
        let heartbeats = self.members.values().map(|member| &member.heartbeat);
        heartbeats.filter(|heartbeat| heartbeat.state == InstanceState::Serving)
    }
}

/// A zone is a number of an interface on the machine that names it: it means nothing here.
fn leads_nowhere(address: SocketAddr) -> bool {
    let has_zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
    address.port() == 0 || address.ip().is_unspecified() || has_zone
}

#[cfg(test)]
mod tests;
