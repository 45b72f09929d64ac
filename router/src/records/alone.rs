//! The control plane's records where nobody else writes: in a file of this router.

use super::{Ledger, Records, RecordsError, Table, Write};
use std::sync::Arc;
use tokio::sync::watch;

/// Records that are this router's alone.
#[derive(Debug)]
pub struct OwnLedger(pub Arc<dyn Records>);

impl Ledger for OwnLedger {
    fn copy(&self) -> Result<Vec<Write>, RecordsError> {
        let mut all = Vec::new();
        for table in Table::CATALOG {
            let entries = self.0.all(table)?.into_iter();
            all.extend(entries.map(|(key, value)| Write { table, key, value: Some(value) }));
        }
        Ok(all)
    }

    fn refresh(&self) -> Result<Vec<Write>, RecordsError> {
        Ok(Vec::new())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError> {
        self.0.commit(writes)
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}
