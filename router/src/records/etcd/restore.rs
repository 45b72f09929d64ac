//! Puts records into an etcd that has lost them, or never had any: by the router with the newest copy.
//!
//! Whoever would do it says so, under a lease, and waits for the others to say so too; then the one
//! with the newest copy does:
//!
//! ```text
//! announce ─► settle ─► choose ─► claim: empties, and takes the claim ─► part ─► … ─► generation
//!                          └─ another's is newer          └─ somebody else did it, or took the claim
//! ```
//!
//! Those who come late may have a newer copy and claim again while the first still writes. The claim
//! guards every write, so that whose it was writes nothing more; the generation is written last, and
//! what is there without one is no records. So what is there with one is of one router, whole.
//!
//! What is decided here are plain functions, and [`Restoration::run`] is all that waits.

use super::{copy::Entries, generation::Generation};
use shared::etcd::{
    CALL_PATIENCE, Entry, Etcd, EtcdError, Guard, Operation, Page, RETRY, Transaction,
    address::ClusterAddress,
};
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// How long the others have to notice that etcd is back and to say what they have: twice what the
/// slowest of them takes, who has just begun to wait and then meets a host that does not answer.
const SETTLE: Duration = RETRY.max.saturating_add(CALL_PATIENCE).saturating_mul(2);

/// How long who would restore is believed to live: until all is written, which takes some seconds for
/// thousands of records. Who dies in the middle holds the others up for as long.
const LEASE: Duration = Duration::from_secs(20);

/// Operations in one transaction: etcd takes 128 by default.
const MAX_OPERATIONS: usize = 100;

/// Bytes of keys and values in one transaction, where etcd takes 1.5 MiB by default. One record may be
/// larger than this, because a call of the control plane may be 1 MiB: then it goes alone.
const MAX_PART_BYTES: usize = 1 << 20;

/// What is given back, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Restoration {
    pub(super) router: String,
    /// `None`: this router has never seen any records.
    pub(super) known: Option<u64>,
    pub(super) generation: Generation,
    pub(super) entries: Entries,
    /// When etcd last wrote the generation that is to be replaced; 0: there is none.
    pub(super) replaces: i64,
}

impl Restoration {
    /// Returns whether this router has done it. If not, another has, or does.
    pub(super) async fn run(&self, etcd: &Etcd) -> Result<bool, EtcdError> {
        let lease = etcd.grant(LEASE).await?;
        let done = self.run_under(etcd, lease).await;
        // It runs out by itself.
        let _ = etcd.revoke(lease).await;
        done
    }

    async fn run_under(&self, etcd: &Etcd, lease: i64) -> Result<bool, EtcdError> {
        let address = etcd.address();
        etcd.transact(self.announcement(address, lease)).await?;
        sleep(SETTLE).await;
        let candidates = etcd.list(&address.restorers(), Page::default()).await?.entries;
        if !is_chosen(&self.own_key(address), &candidates) {
            return Ok(false);
        }
        if self.known.is_some() {
            let (n_records, number) = (self.entries.len(), self.generation.number());
            warn!(n_records, number, "etcd has lost records; giving them back");
        }
        for transaction in self.writes(address, lease) {
            if !etcd.transact(transaction).await?.is_done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn own_key(&self, address: &ClusterAddress) -> String {
        format!("{}{}", address.restorers(), self.router)
    }

    fn announcement(&self, address: &ClusterAddress, lease: i64) -> Transaction {
        let value = serde_json::to_vec(&self.known).expect("a number can be written");
        let operations = vec![Operation::Put { key: self.own_key(address), value, lease }];
        Transaction { guards: Vec::new(), operations }
    }

    /// Everything that who is chosen writes, in this order, until one of them is not done.
    fn writes(&self, address: &ClusterAddress, lease: i64) -> Vec<Transaction> {
        let claim = address.restoring();
        let first = Transaction {
            guards: vec![
                Guard::Leased(self.own_key(address), lease),
                Guard::Unchanged(address.generation(), self.replaces),
            ],
            operations: vec![
                Operation::DeleteAll(address.records()),
                Operation::Put { key: claim.clone(), value: self.router.clone().into(), lease },
            ],
        };
        let guards = vec![Guard::Leased(claim, lease), Guard::Absent(address.generation())];
        let part = |operations| Transaction { guards: guards.clone(), operations };
        std::iter::once(first).chain(parts(self.puts(address)).into_iter().map(part)).collect()
    }

    /// All that shall be there, the generation last.
    fn puts(&self, address: &ClusterAddress) -> Vec<Operation> {
        let put = |key, value| Operation::Put { key, value, lease: 0 };
        let entries = self.entries.iter().map(|((table, key), value)| {
            put(format!("{}{}/{key}", address.records(), table.as_str()), value.clone())
        });
        let generation = serde_json::to_vec(&self.generation).expect("text and numbers");
        entries.chain([put(address.generation(), generation)]).collect()
    }
}

/// Whether it is up to who said so under `own`: nobody who lives says that they know more.
fn is_chosen(own: &str, candidates: &[Entry]) -> bool {
    // What is under no lease was written by hand, and would be there for ever.
    let living = candidates.iter().filter(|it| it.lease != 0);
    let newest = living.max_by_key(|it| {
        let known: Option<u64> = serde_json::from_slice(&it.value).unwrap_or_default();
        (known, &it.key)
    });
    newest.is_some_and(|it| it.key == own)
}

/// Cuts operations into parts that etcd takes, in their order.
fn parts(operations: Vec<Operation>) -> Vec<Vec<Operation>> {
    let mut parts: Vec<Vec<Operation>> = Vec::new();
    let mut n_bytes = 0;
    for operation in operations {
        let size = size_bytes(&operation);
        let has_room = |part: &&mut Vec<Operation>| {
            part.len() < MAX_OPERATIONS && n_bytes + size <= MAX_PART_BYTES
        };
        if let Some(part) = parts.last_mut().filter(has_room) {
            n_bytes += size;
            part.push(operation);
        } else {
            n_bytes = size;
            parts.push(vec![operation]);
        }
    }
    parts
}

fn size_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Put { key, value, .. } => key.len() + value.len(),
        Operation::Delete(key) | Operation::DeleteAll(key) => key.len(),
    }
}

#[cfg(test)]
mod tests;
