//! How room is made: reservations, evictions, and what leaves.

use super::{MAX_KNOWN, Slot, State};
use crate::{
    actors::{
        model_cache::{
            Reason, ReserveReply,
            load::{NoRoom, Reservation},
            relief::{OVERSIZED_PATIENCE, Way},
            resident::Resident,
        },
        replica::Replica,
    },
    policy::{
        budget,
        eviction::{self, Candidate},
    },
    runtime::Footprint,
};
use ractor::RpcReplyPort;
use shared::address::ArtifactAddress;
use std::{
    iter,
    sync::{Arc, Weak},
};
use tokio::time::Instant;
use tracing::info;

impl State {
    pub(in crate::actors::model_cache) fn reserve(
        &mut self,
        expected: Footprint,
        reply: ReserveReply,
    ) {
        let reservation = Reservation::new(expected);
        self.reserved.retain(|it| it.strong_count() > 0);
        self.reserved.push(Arc::downgrade(&reservation));
        if self.evict(self.fits(), Reason::Room) {
            self.promised.push_back((reservation, reply));
            self.keep_promises();
        } else {
            let needed_bytes = budget::used_bytes(iter::once(expected), self.n_slots());
            let budget_bytes = self.budget_bytes;
            // What others have reserved is a guess, and mostly more than they take.
            let is_held = self.has_passing_leases() || self.reserved.len() > 1;
            let may_come = needed_bytes <= budget_bytes && is_held;
            // The load may have ended meanwhile; then nobody needs the answer.
            let _ = reply.send(Err(NoRoom { needed_bytes, budget_bytes, may_come }));
        }
    }

    /// Lets the longest unused model go for one that its backend has no room for, and answers when it has
    /// left.
    pub(in crate::actors::model_cache) fn make_way(
        &mut self,
        for_whom: &ArtifactAddress,
        reply: RpcReplyPort<Way>,
    ) {
        let oversized_at = self.oversized.get(for_whom);
        let is_oversized = oversized_at.is_some_and(|at| at.elapsed() < OVERSIZED_PATIENCE);
        let replica = if is_oversized { None } else { self.take_longest_unused(for_whom) };
        if let Some(replica) = replica {
            return self.retire_then(replica, move || {
                // A load that ended needs no answer.
                let _ = reply.send(Way::Made);
            });
        }
        let is_alone = self.slots.keys().all(|it| it == for_whom);
        if is_alone {
            if self.oversized.len() >= MAX_KNOWN {
                self.oversized.clear();
            }
            self.oversized.insert(for_whom.clone(), Instant::now());
        }
        // What comes has served once it is idle, and can go then.
        let is_coming = self.slots.len() > self.residents().count() + usize::from(is_alone);
        let may_come = !is_oversized && !is_alone && (is_coming || self.has_passing_leases());
        // A load that ended needs no answer.
        let _ = reply.send(if may_come { Way::MayCome } else { Way::Blocked });
    }

    fn take_longest_unused(&mut self, for_whom: &ArtifactAddress) -> Option<Replica> {
        loop {
            let others = self.candidates().into_iter().filter(|it| it.key != *for_whom);
            let victim = eviction::longest_unused(others.collect())?;
            // One that an invocation came for after all is no victim in the next round.
            if let Some(replica) = self.take_out(&victim, Reason::Backend) {
                return Some(replica);
            }
        }
    }

    pub(in crate::actors::model_cache) fn unload_finished(&mut self, size_bytes: u64) {
        self.leaving_bytes -= size_bytes;
        self.keep_promises();
    }

    pub(in crate::actors::model_cache) fn set_budget(&mut self, budget_bytes: u64) {
        if budget_bytes != self.budget_bytes {
            info!(budget_bytes, before_bytes = self.budget_bytes, "budget changed");
            self.budget_bytes = budget_bytes;
            self.context.parts.metrics.budget_bytes.set(budget_bytes.cast_signed());
            self.publish();
        }
        self.shed_surplus();
    }

    /// Sheds for the sake of the machine, whose count of bytes still has those that are leaving.
    pub(in crate::actors::model_cache) fn relieve(&mut self, bytes: u64) {
        let resident = |footprints: &[Footprint]| -> u64 {
            footprints.iter().map(|it| it.resident_bytes).sum()
        };
        let now: Vec<_> = self.residents().map(|(_, it)| it.replica.footprint()).collect();
        let max_bytes = (resident(&now) + self.leaving_bytes).saturating_sub(bytes);
        self.shed(|staying| resident(staying) <= max_bytes, Reason::Pressure);
    }

    fn shed(&mut self, is_enough: impl Fn(&[Footprint]) -> bool, reason: Reason) {
        if !self.evict(is_enough, reason) {
            // Not enough is idle: let go what is.
            let idle = self.candidates().into_iter().filter(|it| it.n_leases == 0);
            for address in idle.map(|it| it.key).collect::<Vec<_>>() {
                self.let_go(&address, reason);
            }
        }
    }

    /// Evicts idle replicas until `is_enough` says so of those that stay; or none, and says so.
    fn evict(&mut self, is_enough: impl Fn(&[Footprint]) -> bool, reason: Reason) -> bool {
        // A round that failed found an invocation on a victim, which is none in the next round.
        loop {
            let victims = eviction::victims(self.candidates(), &is_enough);
            let Some(victims) = victims else { return false };
            let n_gone = victims.iter().filter(|it| self.let_go(it, reason)).count();
            if n_gone == victims.len() {
                return true;
            }
        }
    }

    /// Unloads a replica in a task of its own, unless it is leased after all.
    fn let_go(&mut self, address: &ArtifactAddress, reason: Reason) -> bool {
        let Some(replica) = self.take_out(address, reason) else { return false };
        self.retire(replica, None);
        true
    }

    /// Closes and forgets a replica that is to be unloaded, unless it is leased after all.
    fn take_out(&mut self, address: &ArtifactAddress, reason: Reason) -> Option<Replica> {
        let Some(Slot::Resident(held)) = self.slots.get(address) else { return None };
        if !held.leases().close_if_idle() {
            return None;
        }
        let replica = held.resident.replica.clone();
        self.forget(address, &replica);
        let size_bytes = replica.footprint().resident_bytes;
        let metrics = &self.context.parts.metrics;
        metrics.evictions.get_or_create(&[("reason", reason)]).inc();
        info!(%address, size_bytes, ?reason, "evicted");
        Some(replica)
    }

    /// Grants promised room once what was evicted for it has left.
    fn keep_promises(&mut self) {
        while self.leaving_bytes == 0
            || self.used_bytes().saturating_add(self.leaving_bytes) <= self.budget_bytes
        {
            let Some((reservation, reply)) = self.promised.pop_front() else { return };
            // A load that ended drops the reservation.
            let _ = reply.send(Ok(reservation));
        }
    }

    pub(super) fn shed_surplus(&mut self) {
        self.shed(self.fits(), Reason::Budget);
    }

    /// Whether these replicas, with what loads have reserved, stay within the budget.
    fn fits(&self) -> impl Fn(&[Footprint]) -> bool + use<> {
        let reserved: Vec<_> = self.reservations().collect();
        let (n_slots, budget_bytes) = (self.n_slots(), self.budget_bytes);
        move |staying| {
            let all = staying.iter().chain(&reserved).copied();
            budget::used_bytes(all, n_slots) <= budget_bytes
        }
    }

    /// What resident models cost and loads have reserved.
    fn used_bytes(&self) -> u64 {
        let residents = self.residents().map(|(_, it)| it.replica.footprint());
        budget::used_bytes(residents.chain(self.reservations()), self.n_slots())
    }

    fn reservations(&self) -> impl Iterator<Item = Footprint> {
        self.reserved.iter().filter_map(Weak::upgrade).map(|it| *it)
    }

    fn n_slots(&self) -> usize {
        self.context.parts.compute.limits().n_slots
    }

    /// Whether some replica becomes idle by itself.
    fn has_passing_leases(&self) -> bool {
        let mut all_leases = self.residents().map(|(_, it)| it.replica.leases());
        all_leases.any(|leases| leases.n_passing() > 0 && !leases.is_pinned())
    }

    fn candidates(&self) -> Vec<Candidate<ArtifactAddress>> {
        let candidate = |(address, it): (&ArtifactAddress, &Arc<Resident>)| Candidate {
            key: address.clone(),
            footprint: it.replica.footprint(),
            last_used: it.replica.leases().last_used(),
            n_leases: it.replica.leases().count(),
        };
        self.residents().map(candidate).collect()
    }
}
