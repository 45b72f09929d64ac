//! What routers and workers keep in etcd, and how they talk to it: the only place that names its
//! client.
//!
//! etcd tells who exists ([`registration`], [`directory`]) and holds the control plane's records,
//! which the router writes by [`Etcd::transact`]. What lies where is said by [`keys`], once for all.
//!
//! # Invariants
//!
//! - Nothing here waits longer than it says: each call has [`CALL_PATIENCE`] per host, and whatever
//!   is tried again is tried with jitter and less and less often.
//! - One host is talked to at a time; when it fails, the next one is. Files of keys, certificates and
//!   passwords are read whenever a connection is made, so that a changed one is noticed.
//! - Whoever needs a connection waits for the same attempt; after every host failed, all are told so
//!   for [`RETRY`]'s first delay before there is another.
//! - Nothing that etcd says can panic.

pub mod address;
pub mod access;
pub mod flags;
pub mod keys;
pub mod members;
pub mod registration;
pub mod directory;
pub mod outage;
mod connection;
mod convert;

pub use access::{Access, AccessError};
pub use address::{ClusterAddress, InvalidClusterAddress};
pub use convert::{Entry, Guard, Listing, Operation, Page, Transacted, Transaction};
pub use flags::AccessFlags;

use crate::backoff::Backoff;
use connection::{Connection, Link};
use etcd_client::{Client, Error, GetOptions};
use std::{error, fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long one call to one host may take. A healthy etcd answers in milliseconds, one that elects a
/// leader in a second or two: who waits for it tries again.
pub const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// Between attempts of whatever must succeed in the end. A second at most, so that an etcd that
/// returns is noticed within the leases that it had given out.
pub const RETRY: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Largest answer. Records are listed in pages of [`PAGE`], each at most etcd's 1.5 MiB.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Entries in one answer.
const PAGE: i64 = 128;

/// An etcd cluster. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    access: Arc<Access>,
    connection: Arc<Connection>,
}

/// Why etcd did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file of ours that is needed to connect.
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("etcd at {0} does not answer")]
    Unreachable(String, #[source] Option<Arc<dyn error::Error + Send + Sync>>),
    /// Who we are, or what we may do: trying again changes nothing until somebody changes that.
    #[error("etcd at {0} refuses: {1}")]
    Denied(String, String),
    /// The request itself.
    #[error("etcd at {0} cannot do that: {1}")]
    Rejected(String, String),
}

impl EtcdError {
    /// Whether it would be the same if it were tried again.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Access(_) | Self::Denied(..) | Self::Rejected(..) => true,
            Self::Unreachable(..) => false,
        }
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects when it is first asked for something.
    pub fn new(access: Access) -> Self {
        let access = Arc::new(access);
        Self { connection: Arc::new(Connection::new(Arc::clone(&access))), access }
    }

    /// Returns where the cluster is, and under which prefix our keys lie.
    pub fn address(&self) -> &ClusterAddress {
        &self.access.address
    }

    /// Returns an entry as it is now: no older than the call.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, EtcdError> {
        let got = self.read(key, || None).await?;
        Ok(got.entries.into_iter().next())
    }

    /// Returns what lies below a prefix, all of it as it was at one moment, no older than the call.
    pub async fn list(&self, prefix: &str, page: Page) -> Result<Listing, EtcdError> {
        let mut from = prefix.as_bytes().to_vec();
        let end = convert::end_of(prefix);
        let mut listing = Listing { revision: page.revision, ..Listing::default() };
        loop {
            let (at, end) = (listing.revision, end.clone());
            let options = || {
                let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
                let options = options.with_revision(at).with_min_mod_revision(page.changed_since);
                Some(if page.keys_only { options.with_keys_only() } else { options })
            };
            let got = self.read(from.clone(), options).await?;
            if listing.revision == 0 {
                // The further pages are of this moment.
                listing.revision = got.revision;
                listing.n_in_all = got.n_in_all;
            }
            let is_last = !got.has_more || got.entries.is_empty();
            let n_wanted = page.max_entries.map_or(usize::MAX, |max| max - listing.entries.len());
            listing.entries.extend(got.entries.into_iter().take(n_wanted));
            let is_last = is_last || page.max_entries == Some(listing.entries.len());
            match listing.entries.last() {
                Some(last) if !is_last => from = [last.key.as_bytes(), b"\0"].concat(),
                _ => return Ok(listing),
            }
        }
    }

    /// Does everything or nothing. After an error that is not definite it may have been done.
    pub async fn transact(&self, transaction: Transaction) -> Result<Transacted, EtcdError> {
        let transaction = convert::transaction(&transaction);
        let call = self.call(move |mut client| async move { client.txn(transaction).await });
        let answer = call.await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Transacted { is_done: answer.succeeded(), revision })
    }

    /// Asks for a lease, which ends unless it is renewed.
    pub async fn grant(&self, ttl: Duration) -> Result<i64, EtcdError> {
        let ttl_s = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let call =
            self.call(move |mut client| async move { client.lease_grant(ttl_s, None).await });
        Ok(call.await?.id())
    }

    /// Renews a lease. Returns whether it was still there.
    pub(crate) async fn renew(&self, lease: i64) -> Result<bool, EtcdError> {
        let renewed = self.call(move |mut client| async move {
            match client.lease_keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(error) => Err(error),
            }
        });
        renewed.await
    }

    /// Ends a lease, and with it everything that was put under it.
    pub async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let call = self.call(move |mut client| async move { client.lease_revoke(lease).await });
        call.await.map(drop)
    }

    /// A read may be tried at each host: it changes nothing.
    async fn read(
        &self,
        key: impl Into<Vec<u8>>,
        options: impl Fn() -> Option<GetOptions>,
    ) -> Result<convert::Got, EtcdError> {
        let key = key.into();
        let mut n_left = self.access.address.hosts.len();
        loop {
            let (key, options) = (key.clone(), options());
            let call = self.call(move |client| async move {
                client
                    .kv_client()
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
                    .get(key, options)
                    .await
            });
            n_left -= 1;
            match call.await {
                Ok(answer) => return Ok(convert::got(answer)),
                Err(error) if error.is_definite() || n_left == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Does one call over the connection, and gives the connection up if it fails.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, EtcdError> {
        let Link { client, number, host } = self.connection.link().await?;
        let failed = match timeout(CALL_PATIENCE, work(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => convert::error(host, error),
            Err(_) => EtcdError::Unreachable(host, None),
        };
        if !matches!(failed, EtcdError::Rejected(..)) {
            self.connection.give_up(number);
        }
        Err(failed)
    }
}
