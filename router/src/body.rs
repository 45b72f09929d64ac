//! Request bodies: read whole, bounded in bytes and time, under a budget that all share.
//!
//! # Invariants
//!
//! - What a body occupies is reserved before it is allocated and given back when the body is
//!   dropped, however that happens.
//! - A client decides neither how long a read lasts nor how much is read: the slowest rate bounds
//!   the one, [`BodyConfig`] the other.

use crate::{
    config::BodyConfig,
    policy::bodies::{Pace, SMALL_BYTES, room_for},
};
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prometheus_client::metrics::gauge::Gauge;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::time::{Instant, timeout_at};

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
        let BodyConfig { max_bytes: largest_bytes, budget_bytes: max_bytes, .. } = config;
        let budget = BodyBudget { largest_bytes, max_bytes, reserved: reserved_bytes };
        Self { config, budget: Arc::new(budget) }
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
        let mut reservation = Reservation::new(&self.budget, announced_bytes);
        let mut pace = Pace::new(Instant::now(), self.config.grace, self.config.min_rate);
        let mut whole = Vec::new();
        while let Some(chunk) = next(stream, &mut pace).await? {
            if (whole.len() + chunk.len()) as u64 > max_bytes {
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
    let doubled = (2 * whole.capacity() as u64).max(SMALL_BYTES).min(limit);
    let capacity = doubled.max(needed as u64);
    reservation.grow_to(capacity)?;
    whole.reserve_exact(usize::try_from(capacity).expect("a body fits") - whole.len());
    Ok(())
}

/// Returns the next piece, if it comes in time.
async fn next<S>(stream: &mut S, pace: &mut Pace) -> Result<Option<Bytes>, BodyError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let Ok(next) = timeout_at(pace.deadline(), stream.next()).await else {
        return Err(BodyError::TooSlow);
    };
    let chunk = next.transpose().map_err(BodyError::Broken)?;
    if let Some(chunk) = &chunk {
        pace.progress(chunk.len() as u64, Instant::now());
    }
    Ok(chunk)
}

/// What all bodies together may occupy.
#[derive(Debug)]
struct BodyBudget {
    /// What one may occupy.
    largest_bytes: u64,
    max_bytes: u64,
    /// The one count: what is exported is what is decided by.
    reserved: Gauge,
}

/// A share of the budget; given back on drop.
#[derive(Debug)]
struct Reservation {
    budget: Arc<BodyBudget>,
    n_bytes: u64,
    /// What the client says that it will be; 0 if it does not.
    announced_bytes: u64,
}

impl Reservation {
    fn new(budget: &Arc<BodyBudget>, announced_bytes: Option<u64>) -> Self {
        let announced_bytes = announced_bytes.unwrap_or(0);
        Self { budget: Arc::clone(budget), n_bytes: 0, announced_bytes }
    }

    fn grow_to(&mut self, n_bytes: u64) -> Result<(), BodyError> {
        let BodyBudget { largest_bytes, max_bytes, reserved } = &*self.budget;
        let room = room_for(n_bytes.max(self.announced_bytes), *largest_bytes, *max_bytes);
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let more = n_bytes.saturating_sub(self.n_bytes);
        let grown = |reserved: i64| {
            reserved.checked_add_unsigned(more).filter(|reserved| *reserved <= room)
        };
        let taken = reserved.inner().try_update(Relaxed, Relaxed, grown);
        taken.map_err(|_| BodyError::BudgetSpent)?;
        self.n_bytes += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved.dec_by(self.n_bytes.cast_signed());
    }
}

#[cfg(test)]
mod tests;
