//! A reader that gives only as many bytes as it was allowed.
//!
//! The tar and zip crates read headers, long names and tables of contents into memory, as long as
//! the archive says they are. This bounds them from below, whatever the crates do.

use super::flaw::Flaw;
use std::{
    cell::Cell,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
};

/// How much may be read. Shared between a [`Metered`] reader and whoever knows what comes next.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Rc<State>);

#[derive(Debug, Default)]
struct State {
    allowed_bytes: Cell<u64>,
    /// The last allowance as a whole, for the error.
    allowance_bytes: Cell<u64>,
    has_ended: Cell<bool>,
}

impl Meter {
    /// Allows so many bytes from here on.
    pub(super) fn allow(&self, bytes: u64) {
        self.0.allowed_bytes.set(bytes);
        self.0.allowance_bytes.set(bytes);
    }

    /// Allows anything: the caller counts.
    pub(super) fn allow_all(&self) {
        self.allow(u64::MAX);
    }

    /// Whether a read met the end of the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.0.has_ended.get()
    }
}

#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &self.meter.0;
        let n_read = self.inner.read(buffer)?;
        state.has_ended.set(state.has_ended.get() || (n_read == 0 && !buffer.is_empty()));
        let left = state.allowed_bytes.get().checked_sub(n_read as u64);
        let left = left.ok_or(Flaw::TooMuchMetadata(state.allowance_bytes.get()))?;
        state.allowed_bytes.set(left);
        Ok(n_read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
