//! Puts records into an etcd that has lost them, or never had any: by the router with the newest copy.
//!
//! Whoever would do it says so, under a lease, and waits for the others to say so too; then the one
//! with the newest copy does. Every write is guarded by there being no generation, which is written
//! last: what is there without one is no records.

use super::{copy::Entries, generation::Generation};
use shared::etcd::{Etcd, EtcdError, Guard, Operation, Page, Transaction};
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// How long the others have: twice the longest wait between attempts to reach etcd.
const SETTLE: Duration = Duration::from_secs(2);

/// How long who would restore is believed to live.
const LEASE: Duration = Duration::from_secs(10);

/// Operations in one transaction: etcd takes 128 by default.
const MAX_OPERATIONS: usize = 100;

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
        let candidates = etcd.address().restorers();
        let own = format!("{candidates}{}", self.router);
        let value = serde_json::to_vec(&self.known).expect("a number can be written");
        let operations = vec![Operation::Put { key: own.clone(), value, lease }];
        etcd.transact(Transaction { guards: Vec::new(), operations }).await?;
        sleep(SETTLE).await;
        let listed = etcd.list(&candidates, Page::default()).await?;
        let newest = listed.entries.iter().max_by_key(|it| {
            let known: Option<u64> = serde_json::from_slice(&it.value).unwrap_or_default();
            (known, &it.key)
        });
        if newest.is_none_or(|it| it.key != own) {
            return Ok(false);
        }
        if self.known.is_some() {
            let n_records = self.entries.len();
            warn!(
                n_records,
                number = self.generation.number(),
                "etcd has lost records; giving them back"
            );
        }
        let is_mine = Guard::Leased(own, lease);
        let generation = etcd.address().generation();
        let unchanged = Guard::Unchanged(generation.clone(), self.replaces);
        let empty = vec![Operation::DeleteAll(etcd.address().records())];
        let guards = vec![is_mine.clone(), unchanged];
        if !etcd.transact(Transaction { guards, operations: empty }).await?.is_done {
            return Ok(false);
        }
        let guards = vec![is_mine, Guard::Absent(generation)];
        for operations in self.parts(etcd) {
            if !etcd.transact(Transaction { guards: guards.clone(), operations }).await?.is_done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All puts, the generation last.
    fn parts(&self, etcd: &Etcd) -> Vec<Vec<Operation>> {
        let address = etcd.address();
        let put = |key, value| Operation::Put { key, value, lease: 0 };
        let mut puts: Vec<_> = self
            .entries
            .iter()
            .map(|((table, key), value)| {
                put(format!("{}{}/{key}", address.records(), table.as_str()), value.clone())
            })
            .collect();
        let generation = serde_json::to_vec(&self.generation).expect("text and numbers");
        puts.push(put(address.generation(), generation));
        puts.chunks(MAX_OPERATIONS).map(<[Operation]>::to_vec).collect()
    }
}
