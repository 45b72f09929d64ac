//! A request's body on its way to the store: piece by piece, never whole.

use actix_web::{error::PayloadError, web::Payload};
use bytes::Bytes;
use futures_util::Stream;
use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// Sees every piece of a body, and decides at its end whether the store may have it: so the digest
/// that a signature covers can be checked without holding the body.
pub trait BodyVisitor {
    fn piece(&mut self, piece: &[u8]);

    /// The whole body has passed. An error keeps the store from completing it.
    fn end(&mut self) -> Result<(), RefusedBody>;
}

/// The body is not what its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not what was signed")]
pub struct RefusedBody;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("client stopped sending")]
    Broken(#[source] PayloadError),
    #[error(transparent)]
    Refused(#[from] RefusedBody),
}

/// The body of a request. What is left of it can still be read from the payload that it was made of.
pub struct Upload<S = Payload> {
    payload: Rc<RefCell<S>>,
    progress: Rc<Cell<Instant>>,
    visitor: Option<Box<dyn BodyVisitor>>,
    /// The latest piece, held back while there is a visitor: a body of known length is complete with
    /// its last byte, and the visitor speaks after it.
    held: Option<Bytes>,
    is_over: bool,
}

impl<S> fmt::Debug for Upload<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl<S> Upload<S> {
    pub fn new(payload: Rc<RefCell<S>>, visitor: Option<Box<dyn BodyVisitor>>) -> Self {
        let progress = Rc::new(Cell::new(Instant::now()));
        Self { payload, progress, visitor, held: None, is_over: false }
    }

    /// When a piece was last taken.
    pub fn progress(&self) -> Rc<Cell<Instant>> {
        Rc::clone(&self.progress)
    }
}

impl<S> Stream for Upload<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, UploadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            let item = ready!(Pin::new(&mut *this.payload.borrow_mut()).poll_next(cx));
            this.progress.set(Instant::now());
            let Some(visitor) = &mut this.visitor else {
                this.is_over = !matches!(item, Some(Ok(_)));
                return Poll::Ready(item.map(|item| item.map_err(UploadError::Broken)));
            };
            match item {
                Some(Ok(piece)) => {
                    visitor.piece(&piece);
                    if let Some(before) = this.held.replace(piece) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                }
                Some(Err(error)) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(UploadError::Broken(error))));
                }
                None => {
                    this.is_over = true;
                    let last = visitor.end().map(|()| this.held.take());
                    return Poll::Ready(last.map_err(UploadError::from).transpose());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _, stream};

    struct Expects(Vec<u8>, &'static [u8]);

    impl BodyVisitor for Expects {
        fn piece(&mut self, piece: &[u8]) {
            self.0.extend_from_slice(piece);
        }

        fn end(&mut self) -> Result<(), RefusedBody> {
            if self.0 == self.1 { Ok(()) } else { Err(RefusedBody) }
        }
    }

    #[track_caller]
    fn check(expected: Option<&'static [u8]>, passed: &[u8], is_whole: bool) {
        let pieces = [&b"one "[..], b"two ", b"three"].map(|it| Ok(Bytes::from_static(it)));
        let payload = Rc::new(RefCell::new(stream::iter(pieces)));
        let visitor = expected.map(|it| Box::new(Expects(Vec::new(), it)) as Box<dyn BodyVisitor>);
        let items: Vec<_> = Upload::new(payload, visitor).collect().now_or_never().unwrap();
        let (came, errors): (Vec<_>, Vec<_>) = items.into_iter().partition(Result::is_ok);
        let came: Vec<u8> = came.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!((&came[..], errors.is_empty()), (passed, is_whole));
    }

    #[test]
    fn a_body_passes_whole() {
        check(None, b"one two three", true);
        check(Some(b"one two three"), b"one two three", true);
    }

    #[test]
    fn a_body_that_is_refused_at_its_end_never_completes() {
        check(Some(b"another"), b"one two ", false);
    }
}
