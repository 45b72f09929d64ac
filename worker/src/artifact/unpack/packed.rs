//! The packed bytes as they arrive: counted, and complete or the store's failure.

use super::flaw::Flaw;
use std::{
    cell::{Cell, RefCell},
    io::{self, Read},
    rc::Rc,
};

/// Reads exactly the announced number of bytes, and remembers when the store failed to give them.
///
/// Read through `&Packed`, so that the failure can be asked for while decoders hold the reader.
#[derive(Debug)]
pub struct Packed<R> {
    inner: RefCell<R>,
    size_bytes: u64,
    progress: Rc<Cell<u64>>,
    failure: RefCell<Option<io::Error>>,
}

impl<R: Read> Packed<R> {
    pub fn new(inner: R, size_bytes: u64) -> Self {
        let (inner, failure) = (RefCell::new(inner), RefCell::new(None));
        Self { inner, size_bytes, progress: Rc::default(), failure }
    }

    /// Takes the failure of the store, if that is what ended the reading.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.failure.borrow_mut().take()
    }

    /// How many bytes have been read, now and later.
    pub(super) fn progress(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.progress)
    }

    fn advance(&self, n_read: usize, at_end: bool) -> io::Result<usize> {
        let n_total = self.progress.get() + n_read as u64;
        self.progress.set(n_total);
        if n_total > self.size_bytes || (at_end && n_total < self.size_bytes) {
            let (given, announced) = (n_total, self.size_bytes);
            return Err(io::Error::other(format!("{given} of {announced} announced bytes came")));
        }
        Ok(n_read)
    }
}

impl<R: Read> Read for &Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.borrow_mut().read(buffer);
        let outcome = match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Ok(n_read) => self.advance(n_read, n_read == 0 && !buffer.is_empty()),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| {
            // What the archive's reader makes of this does not matter: the failure is kept here.
            self.failure.borrow_mut().get_or_insert(error);
            Flaw::Truncated.into()
        })
    }
}
