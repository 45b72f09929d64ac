//! A reader that bounds what leaves a decompressor, whatever becomes of it.
//!
//! Headers, long names and attributes of a tar are no file's bytes, so whoever counts files alone
//! misses an archive that is made of nothing else.

use super::Limits;
use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    limits: Limits,
    /// Packed bytes read so far.
    packed: Rc<Cell<u64>>,
    unpacked_bytes: u64,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R, limits: Limits, packed: Rc<Cell<u64>>) -> Self {
        Self { inner, limits, packed, unpacked_bytes: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_read = self.inner.read(buffer)?;
        self.unpacked_bytes += n_read as u64;
        self.limits.check_unpacked(self.unpacked_bytes, self.packed.get())?;
        Ok(n_read)
    }
}
