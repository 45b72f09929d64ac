//! What the router must remember over a restart: the control plane's records and accepted work.
//!
//! [`Records`] is a small, durable map of tables; [`database`] is the one in a file. [`Ledger`] is the
//! control plane's part, which other routers may write too: [`alone`] is in that file, [`etcd`] in the
//! cluster's etcd. Whoever writes decides first and tells the world after, so that nothing was ever
//! said that a crash takes back.

pub mod catalog;
pub mod database;
pub mod alone;
pub mod etcd;

use shared::etcd::EtcdError;
use std::{fmt, sync::Arc};
use tokio::sync::watch;

/// Durable tables of small values. Blocks: call it from a thread that may wait for a disk.
pub trait Records: fmt::Debug + Send + Sync {
    /// Returns every entry of a table, in the order of its keys.
    fn all(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, RecordsError>;

    /// Makes all writes or none, durable before it returns.
    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError>;
}

/// The control plane's records, which others may write, too. Blocks.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Returns all that is known, also where it may be old.
    fn copy(&self) -> Result<Vec<Write>, RecordsError>;

    /// Brings the copy to what the records are now, and returns what that changed.
    fn refresh(&self) -> Result<Vec<Write>, RecordsError>;

    /// Makes all writes or none, durable before it returns. [`RecordsError::Conflict`]: somebody else
    /// wrote since the last refresh, and none was made.
    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError>;

    /// The same, for what every router has in a file and puts there again if it is not there: it may be
    /// lost.
    fn seed(&self, writes: &[Write]) -> Result<(), RecordsError> {
        self.commit(writes)
    }

    /// Returns what tells that somebody else may have written; `None`: nobody else does.
    fn news(&self) -> Option<watch::Receiver<u64>>;
}

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Models,
    EndpointConfigs,
    Endpoints,
    /// Invocations that were accepted and are not answered yet.
    AsyncInvocations,
    /// Of which generation of a cluster's records this file is a copy.
    Cluster,
}

impl Table {
    pub const ALL: [Self; 5] = [
        Self::Models,
        Self::EndpointConfigs,
        Self::Endpoints,
        Self::AsyncInvocations,
        Self::Cluster,
    ];

    /// The control plane's.
    pub const CATALOG: [Self; 3] = [Self::Models, Self::EndpointConfigs, Self::Endpoints];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::EndpointConfigs => "endpoint-configs",
            Self::Endpoints => "endpoints",
            Self::AsyncInvocations => "async-invocations",
            Self::Cluster => "cluster",
        }
    }
}

/// One change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub table: Table,
    pub key: String,
    /// `None` removes the entry.
    pub value: Option<Vec<u8>>,
}

/// Why records could not be read or written. `Clone`, because many may wait for one write.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("cannot open the records {0}")]
    Open(String, #[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error("cannot read or write the records")]
    Storage(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("etcd could not be asked a moment ago")]
    Unreachable,
    #[error("etcd has lost the records; the newest copy is given back")]
    Lost,
    /// Decide again, on what is there now.
    #[error("another router has changed the records")]
    Conflict,
    #[error("etcd did not say whether the change was made")]
    Unknown,
    #[error("record `{key}` of {} cannot be read: {reason}", table.as_str())]
    Malformed { table: Table, key: String, reason: String },
}

impl RecordsError {
    /// Whether it would be the same if it were tried again, until somebody changes something.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Open(..) | Self::Malformed { .. } => true,
            Self::Etcd(error) => error.is_definite(),
            Self::Storage(_) | Self::Unreachable | Self::Lost | Self::Conflict | Self::Unknown => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_is_away_is_no_mistake_of_the_configuration() {
        let away = EtcdError::Unreachable("a".to_owned(), None);
        let denied = EtcdError::Denied("a".to_owned(), "no".to_owned());
        assert!(!RecordsError::from(away).is_definite() && !RecordsError::Lost.is_definite());
        assert!(RecordsError::from(denied).is_definite());
    }
}
