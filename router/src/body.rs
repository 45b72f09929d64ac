//! Request bodies: read whole, bounded in bytes and time, under a budget that all share.
//!
//! # Invariants
//!
//! - What a body occupies is reserved before it is allocated and given back when the body is
//!   dropped, however that happens.
//! - A client decides neither how long a read lasts nor how much is read: the slowest rate bounds
//!   the one, [`BodyConfig`] the other.

use crate::config::BodyConfig;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prometheus_client::metrics::gauge::Gauge;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The first allocation for a body that comes in pieces: what one read of a socket may give.
const FIRST_BYTES: u64 = 64 * 1024;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("body came too slowly")]
    TooSlow,
    #[error("no memory is left for bodies")]
    BudgetSpent,
    #[error("client stopped sending")]
    Broken(#[source] PayloadError),
}

/// A whole body, and its share of the budget.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    _reservation: Reservation,
}

/// Reads bodies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BodyReader {
    config: BodyConfig,
    budget: Arc<BodyBudget>,
}

impl BodyReader {
    pub fn new(config: BodyConfig, reserved_bytes: Gauge) -> Self {
        let max_bytes = i64::try_from(config.budget_bytes).unwrap_or(i64::MAX);
        Self { config, budget: Arc::new(BodyBudget { max_bytes, reserved_bytes }) }
    }

    /// Reads a body of at most the configured size, inclusive. `announced_bytes` is what the
    /// client says of its length; a body that comes in chunks says nothing.
    ///
    /// After an error, what is left of the body is in `stream`: see [`BodyReader::drain`].
    pub async fn read<S>(
        &self,
        stream: &mut S,
        announced_bytes: Option<u64>,
    ) -> Result<Body, BodyError>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        let max_bytes = self.config.max_bytes;
        if announced_bytes.is_some_and(|announced| announced > max_bytes) {
            return Err(BodyError::TooLarge(max_bytes));
        }
        let limit = announced_bytes.unwrap_or(max_bytes);
        let mut reservation = Reservation { budget: Arc::clone(&self.budget), n_bytes: 0 };
        let mut pace = Pace { started: Instant::now(), n_bytes: 0, config: &self.config };
        let mut whole = Vec::new();
        while let Some(chunk) = pace.next(stream).await? {
            if pace.n_bytes > max_bytes {
                return Err(BodyError::TooLarge(max_bytes));
            }
            if announced_bytes == Some(chunk.len() as u64) {
                // It came at once, as small bodies do: nothing to copy.
                reservation.grow_to(chunk.len() as u64)?;
                return Ok(Body { bytes: chunk, _reservation: reservation });
            }
            reserve(&mut whole, chunk.len(), limit, &mut reservation)?;
            whole.extend_from_slice(&chunk);
        }
        Ok(Body { bytes: Bytes::from(whole), _reservation: reservation })
    }

    /// Reads and throws away what is left, so that a client that sends all of it before it reads
    /// gets to read the answer. Gives up at the limits; the client then sees a closed connection.
    pub async fn drain<S>(&self, stream: &mut S)
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        let deadline = Instant::now() + self.config.drain_patience;
        let mut left_bytes = self.config.drain_bytes;
        while let Ok(Some(Ok(chunk))) = timeout_at(deadline, stream.next()).await {
            let Some(left) = left_bytes.checked_sub(chunk.len() as u64) else {
                return;
            };
            left_bytes = left;
        }
    }
}

/// Makes room for `n_more` bytes, reserving first. Doubles, but never beyond `limit`.
fn reserve(
    whole: &mut Vec<u8>,
    n_more: usize,
    limit: u64,
    reservation: &mut Reservation,
) -> Result<(), BodyError> {
    let needed = whole.len() + n_more;
    if needed <= whole.capacity() {
        return Ok(());
    }
    let doubled = (2 * whole.capacity() as u64).max(FIRST_BYTES).min(limit);
    let capacity = doubled.max(needed as u64);
    reservation.grow_to(capacity)?;
    whole.reserve_exact(usize::try_from(capacity).expect("a body fits") - whole.len());
    Ok(())
}

/// How much has come, and by when more must.
struct Pace<'a> {
    started: Instant,
    n_bytes: u64,
    config: &'a BodyConfig,
}

impl Pace<'_> {
    async fn next<S>(&mut self, stream: &mut S) -> Result<Option<Bytes>, BodyError>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        let earned =
            Duration::from_millis(self.n_bytes.saturating_mul(1000) / self.config.min_rate);
        let deadline = self.started + self.config.grace + earned;
        match timeout_at(deadline, stream.next()).await {
            Err(_) => Err(BodyError::TooSlow),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(BodyError::Broken(error)),
            Ok(Some(Ok(chunk))) => {
                self.n_bytes += chunk.len() as u64;
                Ok(Some(chunk))
            }
        }
    }
}

/// What all bodies together may occupy.
#[derive(Debug)]
struct BodyBudget {
    max_bytes: i64,
    /// The one count: what is exported is what is decided by.
    reserved_bytes: Gauge,
}

/// A share of the budget; given back on drop.
#[derive(Debug)]
struct Reservation {
    budget: Arc<BodyBudget>,
    n_bytes: u64,
}

impl Reservation {
    fn grow_to(&mut self, n_bytes: u64) -> Result<(), BodyError> {
        let BodyBudget { max_bytes, reserved_bytes } = &*self.budget;
        let more = n_bytes.saturating_sub(self.n_bytes);
        let grown = |reserved: i64| {
            reserved.checked_add_unsigned(more).filter(|reserved| reserved <= max_bytes)
        };
        let taken = reserved_bytes.inner().try_update(Relaxed, Relaxed, grown);
        taken.map_err(|_| BodyError::BudgetSpent)?;
        self.n_bytes += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved_bytes.dec_by(self.n_bytes.cast_signed());
    }
}

#[cfg(test)]
mod tests;
