//! Gzip: one or more members, and nothing after them.

use super::flaw::Flaw;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Decompresses all members of a gzip stream, as parallel writers make several.
///
/// flate2's own reader of many members cannot tell garbage after the last from a broken header.
#[derive(Debug)]
pub(super) struct Gzip<R> {
    /// Absent once the stream has ended.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { member: Some(GzDecoder::new(stream)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            // At its end a member checks its own length and CRC.
            let n_read = member.read(buffer)?;
            if n_read > 0 {
                return Ok(n_read);
            }
            self.next_member()?;
        }
        Ok(0)
    }
}

impl<R: BufRead> Gzip<R> {
    fn next_member(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.member.take().map(GzDecoder::into_inner) else {
            return Ok(());
        };
        match stream.fill_buf()?.first() {
            None => Ok(()),
            Some(0x1f) => {
                self.member = Some(GzDecoder::new(stream));
                Ok(())
            }
            Some(_) => Err(Flaw::TrailingGarbage("gzip").into()),
        }
    }
}
