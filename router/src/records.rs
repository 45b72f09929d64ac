//! What the router must remember over a restart: the control plane's records and accepted work.
//!
//! [`Records`] is a small, durable map of tables; [`database`] is the one in a file. Whoever writes
//! decides first and tells the world after, so that nothing was ever said that a crash takes back.

pub mod catalog;
pub mod database;

use std::{fmt, sync::Arc};

/// Durable tables of small values. Blocks: call it from a thread that may wait for a disk.
pub trait Records: fmt::Debug + Send + Sync {
    /// Returns every entry of a table, in the order of its keys.
    fn all(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, RecordsError>;

    /// Makes all writes or none, durable before it returns.
    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError>;
}

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Models,
    EndpointConfigs,
    Endpoints,
    /// Invocations that were accepted and are not answered yet.
    AsyncInvocations,
}

impl Table {
    pub const ALL: [Self; 4] =
        [Self::Models, Self::EndpointConfigs, Self::Endpoints, Self::AsyncInvocations];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::EndpointConfigs => "endpoint-configs",
            Self::Endpoints => "endpoints",
            Self::AsyncInvocations => "async-invocations",
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
    #[error("record `{key}` of {} cannot be read: {reason}", table.as_str())]
    Malformed { table: Table, key: String, reason: String },
}
