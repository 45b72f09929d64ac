//! Between etcd's types and ours.

use super::EtcdError;
use crate::telemetry::Chain;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
};
use std::sync::Arc;

/// A key and what lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Vec<u8>,
    /// When it was last written, in etcd's count of writes.
    pub modified: i64,
    /// The lease it is under; 0: none.
    pub lease: i64,
}

/// What of a prefix is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Leaves the values out.
    pub keys_only: bool,
    /// Only what was written at this revision or later; 0: everything.
    pub changed_since: i64,
    /// As it was at this revision; 0: now.
    pub revision: i64,
    /// No more than these, the first ones; `None`: all.
    pub max_entries: Option<usize>,
}

/// What lies below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// When it was so.
    pub revision: i64,
    /// How many there are, also where not all were wanted; 0 where [`Page::revision`] was.
    pub n_in_all: usize,
}

/// Something that is done whole, if all its guards hold.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub guards: Vec<Guard>,
    pub operations: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing lies there.
    Absent(String),
    /// Something lies there.
    Present(String),
    /// It was last written at this revision; 0: it is not there.
    Unchanged(String, i64),
    /// It is under this lease.
    Leased(String, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: String,
        value: Vec<u8>,
        /// 0: none.
        lease: i64,
    },
    Delete(String),
    /// Everything below a prefix.
    DeleteAll(String),
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// Whether its guards held.
    pub is_done: bool,
    pub revision: i64,
}

pub(super) struct Got {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: i64,
    pub(super) has_more: bool,
    pub(super) n_in_all: usize,
}

pub(super) fn got(mut answer: GetResponse) -> Got {
    Got {
        revision: answer.header().map_or(0, etcd_client::ResponseHeader::revision),
        has_more: answer.more(),
        n_in_all: usize::try_from(answer.count()).unwrap_or(0),
        entries: answer.take_kvs().into_iter().map(entry).collect(),
    }
}

pub(super) fn entry(it: KeyValue) -> Entry {
    let (modified, lease) = (it.mod_revision(), it.lease());
    let (key, value) = it.into_key_value();
    // Whoever writes other keys below our prefix is not understood, but read.
    Entry { key: String::from_utf8_lossy(&key).into_owned(), value, modified, lease }
}

pub(super) fn transaction(it: &Transaction) -> Txn {
    let guards: Vec<Compare> = it.guards.iter().map(guard).collect();
    let operations: Vec<TxnOp> = it.operations.iter().map(operation).collect();
    Txn::new().when(guards).and_then(operations)
}

fn guard(it: &Guard) -> Compare {
    match it {
        Guard::Absent(key) => Compare::version(key.as_str(), CompareOp::Equal, 0),
        Guard::Present(key) => Compare::version(key.as_str(), CompareOp::Greater, 0),
        Guard::Unchanged(key, revision) => {
            Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision)
        }
        Guard::Leased(key, lease) => Compare::lease(key.as_str(), CompareOp::Equal, *lease),
    }
}

fn operation(it: &Operation) -> TxnOp {
    match it {
        Operation::Put { key, value, lease } => {
            let options = (*lease != 0).then(|| PutOptions::new().with_lease(*lease));
            TxnOp::put(key.as_str(), value.as_slice(), options)
        }
        Operation::Delete(key) => TxnOp::delete(key.as_str(), None),
        Operation::DeleteAll(prefix) => {
            TxnOp::delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix()))
        }
    }
}

/// The first key after all that begin with a prefix.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // A prefix of ours ends with a slash or a letter, so the last byte can always be raised.
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// gRPC's numbers of what may pass: cancelled, unknown, deadline exceeded, resource exhausted (no space,
/// too many requests), aborted, internal, unavailable.
const OUTAGES: [i32; 7] = [1, 2, 4, 8, 10, 13, 14];

/// gRPC's numbers of who may not: permission denied, unauthenticated.
const DENIALS: [i32; 2] = [7, 16];

/// How etcd words denials to which it gives the number of a mistake, and how rustls words a certificate
/// that one side does not take.
const DENIAL_TEXTS: [&str; 5] = [
    "authentication failed",
    "user name is empty",
    "authentication is not enabled",
    "invalid peer certificate",
    "received fatal alert",
];

pub(super) fn error(host: String, error: Error) -> EtcdError {
    match error {
        Error::GRpcStatus(status) => {
            let (code, text) = (status.code() as i32, status.message().to_owned());
            let chain = Chain(&status).to_string();
            if DENIALS.contains(&code) || is_denial(&text) || is_denial(&chain) {
                EtcdError::Denied(host, if is_denial(&chain) { chain } else { text })
            } else if OUTAGES.contains(&code) {
                EtcdError::Unreachable(host, Some(Arc::new(status)))
            } else {
                EtcdError::Rejected(host, text)
            }
        }
        // The client's own error hides its cause.
        Error::TransportError(error) if is_denial(&Chain(&error).to_string()) => {
            EtcdError::Denied(host, Chain(&error).to_string())
        }
        Error::TransportError(error) => EtcdError::Unreachable(host, Some(Arc::new(error))),
        error @ (Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::Utf8Error(_)) => {
            EtcdError::Rejected(host, error.to_string())
        }
        error => EtcdError::Unreachable(host, Some(Arc::new(error))),
    }
}

fn is_denial(text: &str) -> bool {
    DENIAL_TEXTS.iter().any(|it| text.contains(it))
}
