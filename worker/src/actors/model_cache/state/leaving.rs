//! How replicas leave that nobody evicts: unloaded by name or prefix, or after a single use.

use super::{Held, Slot, State};
use crate::{
    actors::{
        model_cache::{Below, Message, resident::Resident},
        replica::Replica,
    },
    lease::Leases,
};
use ractor::RpcReplyPort;
use shared::address::ArtifactAddress;
use std::{mem, sync::Arc};
use tokio::sync::Notify;
use tracing::{debug, info};

impl State {
    pub(in crate::actors::model_cache) fn unload(
        &mut self,
        address: &ArtifactAddress,
        reply: RpcReplyPort<()>,
    ) {
        let replica = match self.slots.get_mut(address) {
            Some(Slot::Loading(waiting)) => return waiting.unloads.push(reply),
            Some(Slot::Resident(held)) if held.leases().close_unless_pinned() => {
                held.resident.replica.clone()
            }
            // Absent, or somebody else needs it still. Who asked may be gone.
            Some(Slot::Resident(_)) | None => return reply.send(()).unwrap_or(()),
        };
        self.forget(address, &replica);
        self.retire(replica, Some(reply));
    }

    /// Lets go of every replica that is meant and that nobody has pinned, and of their files; answers
    /// how many go.
    pub(in crate::actors::model_cache) fn unload_below(
        &mut self,
        below: Below,
        reply: RpcReplyPort<usize>,
    ) {
        let meant: Vec<_> = self.slots.keys().filter(|it| below.has(it)).cloned().collect();
        let mut n_unloaded = 0;
        for address in meant {
            let replica = match self.slots.get_mut(&address) {
                Some(Slot::Loading(waiting)) => {
                    waiting.leaves = true;
                    n_unloaded += 1;
                    continue;
                }
                Some(Slot::Resident(held)) if held.leases().close_unless_pinned() => {
                    held.resident.replica.clone()
                }
                Some(Slot::Resident(_)) | None => continue,
            };
            self.forget(&address, &replica);
            self.retire(replica, None);
            n_unloaded += 1;
        }
        info!(prefix = below.prefix, except = ?below.except, n_unloaded, "unloaded by prefix");
        self.context.parts.fetcher.discard(move |address, _| below.has(address));
        // Who asked may be gone; the models go all the same.
        let _ = reply.send(n_unloaded);
    }

    /// Lets an artifact go, from memory and disk, as soon as no invocation holds it. Whoever comes
    /// before that may share it.
    pub(in crate::actors::model_cache) fn discard(&mut self, address: ArtifactAddress) {
        let resident = match self.slots.get_mut(&address) {
            Some(Slot::Loading(waiting)) => return waiting.leaves = true,
            Some(Slot::Resident(held)) if held.leases().is_pinned() => return,
            Some(Slot::Resident(held)) => {
                if mem::replace(&mut held.is_leaving, true) {
                    return;
                }
                Arc::clone(&held.resident)
            }
            None => return self.discard_files(&address),
        };
        self.leave_when_idle(address, resident);
    }

    /// A replica that shall leave was idle a moment ago.
    pub(in crate::actors::model_cache) fn was_idle(
        &mut self,
        address: ArtifactAddress,
        resident: Arc<Resident>,
    ) {
        if self.held(&address, &resident).is_none() {
            // It went another way. Who loads it anew decides about the files.
            if !self.slots.contains_key(&address) {
                self.discard_files(&address);
            }
        } else if resident.replica.leases().close_if_idle() {
            debug!(%address, "left after its use");
            self.forget(&address, &resident.replica);
            self.retire(resident.replica.clone(), None);
            self.discard_files(&address);
        } else {
            self.leave_when_idle(address, resident);
        }
    }

    fn leave_when_idle(&self, address: ArtifactAddress, resident: Arc<Resident>) {
        let (cache, idle) = (self.context.cache.clone(), Arc::clone(&self.context.idle));
        tokio::spawn(async move {
            wait_until_idle(resident.replica.leases(), &idle).await;
            // A stopping cache lets everything go.
            let _ = cache.cast(Message::WasIdle { address, resident });
        });
    }

    /// Unloads a closed replica in a task of its own, when its last lease is returned.
    pub(super) fn retire(&mut self, replica: Replica, reply: Option<RpcReplyPort<()>>) {
        self.retire_then(replica, move || {
            if let Some(reply) = reply {
                // Who asked may have hung up.
                let _ = reply.send(());
            }
        });
    }

    /// The same, and then does something.
    pub(super) fn retire_then(&mut self, replica: Replica, then: impl FnOnce() + Send + 'static) {
        let size_bytes = replica.footprint().resident_bytes;
        self.leaving_bytes += size_bytes;
        let (cache, idle) = (self.context.cache.clone(), Arc::clone(&self.context.idle));
        tokio::spawn(async move {
            wait_until_idle(replica.leases(), &idle).await;
            replica.unload().await;
            // A stopping cache need not know.
            let _ = cache.cast(Message::UnloadFinished { size_bytes });
            then();
        });
    }

    pub(super) fn discard_files(&self, address: &ArtifactAddress) {
        let gone = address.clone();
        self.context.parts.fetcher.discard(move |address, _| *address == gone);
    }

    /// What is kept of a replica, if it is still the one that serves the address.
    pub(super) fn held(
        &mut self,
        address: &ArtifactAddress,
        resident: &Arc<Resident>,
    ) -> Option<&mut Held> {
        match self.slots.get_mut(address) {
            Some(Slot::Resident(held)) if Arc::ptr_eq(&held.resident, resident) => Some(held),
            _ => None,
        }
    }
}

async fn wait_until_idle(leases: &Leases, idle: &Notify) {
    loop {
        let notified = idle.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if leases.count() == 0 {
            return;
        }
        notified.await;
    }
}
