//! Reads request bodies whole: each within its size and time, all within one number of bytes.

use super::error::HttpError;
use actix_web::{
    HttpRequest,
    http::header::CONTENT_LENGTH,
    web::{Bytes, Payload},
};
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// What a semaphore counts here: its permits are too few to be bytes.
const UNIT_BYTES: usize = 1024;

/// How much of its memory an instance gives to request bodies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// Units that are free.
    room: Arc<Semaphore>,
    max_bytes: usize,
}

/// A body with the room that it takes, which returns with its last copy.
struct Held {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Bodies {
    /// `max_bytes` for one body, `budget_bytes` for all that are held at once.
    pub fn new(max_bytes: usize, budget_bytes: usize) -> Self {
        let n_units = (budget_bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(n_units)), max_bytes }
    }

    /// Reads a body until the deadline.
    pub(super) async fn read(
        &self,
        request: &HttpRequest,
        body: Payload,
        deadline: Instant,
    ) -> Result<Bytes, HttpError> {
        let announced = announced_bytes(request).unwrap_or(self.max_bytes);
        if announced > self.max_bytes {
            return Err(HttpError::TooLarge(self.max_bytes));
        }
        let mut room = self.reserve(announced)?;
        let body = timeout_at(deadline, body.to_bytes_limited(self.max_bytes)).await;
        let body = body
            .map_err(|_| HttpError::SlowBody)?
            .map_err(|_| HttpError::TooLarge(self.max_bytes))?
            .map_err(|error| {
                HttpError::BadRequest(format!("the body did not come whole: {error}"))
            })?;
        // What a body without an announced length did not need.
        drop(room.split(room.num_permits().saturating_sub(units(body.len()))));
        Ok(Bytes::from_owner(Held { body, _room: room }))
    }

    fn reserve(&self, n_bytes: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let n_units = u32::try_from(units(n_bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(n_units);
        room.map_err(|_| HttpError::BodiesFull)
    }
}

fn units(n_bytes: usize) -> usize {
    n_bytes.div_ceil(UNIT_BYTES)
}

fn announced_bytes(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{FromRequest as _, test::TestRequest};
    use std::time::Duration;

    static TWO_UNITS: [u8; 2 * UNIT_BYTES] = [7; 2 * UNIT_BYTES];

    async fn read(
        bodies: &Bodies,
        body: &'static [u8],
        announced: bool,
    ) -> Result<Bytes, HttpError> {
        let mut request = TestRequest::post().set_payload(body);
        if announced {
            request = request.insert_header((CONTENT_LENGTH, body.len()));
        }
        let (request, mut payload) = request.to_http_parts();
        let payload = Payload::from_request(&request, &mut payload).await.unwrap();
        bodies.read(&request, payload, Instant::now() + Duration::from_mins(1)).await
    }

    #[tokio::test]
    async fn bodies_hold_their_room_until_the_last_copy_is_gone() {
        let bodies = Bodies::new(2 * UNIT_BYTES, 3 * UNIT_BYTES);
        let first = read(&bodies, &TWO_UNITS, true).await.unwrap();
        assert_eq!(first, &TWO_UNITS[..]);

        let second = read(&bodies, &TWO_UNITS, true).await;
        assert!(matches!(second, Err(HttpError::BodiesFull)));
        let copy = first.clone();
        drop(first);
        assert!(matches!(read(&bodies, &TWO_UNITS, true).await, Err(HttpError::BodiesFull)));
        drop(copy);
        assert!(read(&bodies, &TWO_UNITS, true).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_gives_back_what_it_did_not_need() {
        let bodies = Bodies::new(2 * UNIT_BYTES, 2 * UNIT_BYTES);
        let small = read(&bodies, b"small", false).await.unwrap();
        let other = read(&bodies, b"other", true).await.unwrap();
        assert_eq!((&*small, &*other), (&b"small"[..], &b"other"[..]));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let bodies = Bodies::new(4, UNIT_BYTES);
        for announced in [true, false] {
            assert!(read(&bodies, b"four", announced).await.is_ok());
            let refused = read(&bodies, b"five!", announced).await;
            assert!(matches!(refused, Err(HttpError::TooLarge(4))));
        }
    }
}
