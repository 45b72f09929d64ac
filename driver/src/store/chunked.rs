//! Takes `aws-chunked` framing off an upload.
//!
//! SDKs frame a body so that signatures or a checksum can follow it: `size[;chunk-signature=…]`,
//! data, …, a chunk of size 0, trailers, an empty line. Signatures are skipped (the store trusts the
//! machine), trailers are kept.

use bytes::{Buf as _, Bytes, BytesMut};

/// A chunk's size and signature take about 100 bytes, a trailer with the longest checksum as many.
const MAX_LINE_BYTES: usize = 1024;

/// A checksum and a signature. The rest is room for what may come.
const MAX_TRAILERS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkedError {
    #[error("a line of the aws-chunked body is too long")]
    LongLine,
    #[error("a chunk of the aws-chunked body has no valid size")]
    Size,
    #[error("a chunk of the aws-chunked body is not as long as it says")]
    Length,
    #[error("a trailer of the aws-chunked body is malformed")]
    Trailer,
    #[error("the aws-chunked body has more trailers than the store takes")]
    ManyTrailers,
    #[error("the aws-chunked body ends early")]
    Truncated,
    #[error("something follows the end of the aws-chunked body")]
    Surplus,
}

/// Names in lower case, in the order of arrival.
pub(super) type Trailers = Vec<(String, String)>;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    state: State,
    trailers: Trailers,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many bytes of the chunk are still to come.
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

impl Decoder {
    /// Takes framed bytes as they come and appends what they hold to `data`.
    pub(super) fn push(
        &mut self,
        framed: &[u8],
        data: &mut Vec<Bytes>,
    ) -> Result<(), ChunkedError> {
        self.buffer.extend_from_slice(framed);
        while self.step(data)? {}
        Ok(())
    }

    /// Returns the trailers of a body that came whole.
    pub(super) fn finish(self) -> Result<Trailers, ChunkedError> {
        match self.state {
            State::Done => Ok(self.trailers),
            // Some clients leave out the empty line after the last trailer, or after the last chunk.
            State::Trailers if self.buffer.is_empty() => Ok(self.trailers),
            _ => Err(ChunkedError::Truncated),
        }
    }

    /// Returns whether there may be more to do with what is buffered.
    fn step(&mut self, data: &mut Vec<Bytes>) -> Result<bool, ChunkedError> {
        match self.state {
            State::Size => {
                let Some(line) = self.line()? else { return Ok(false) };
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| ChunkedError::Size)?;
                self.state = if size == 0 { State::Trailers } else { State::Data(size) };
            }
            State::Data(left) => {
                if self.buffer.is_empty() {
                    return Ok(false);
                }
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                data.push(self.buffer.split_to(n).freeze());
                let left = left - n as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
            }
            State::DataEnd => match self.line()? {
                None => return Ok(false),
                Some(line) if line.is_empty() => self.state = State::Size,
                Some(_) => return Err(ChunkedError::Length),
            },
            State::Trailers => match self.line()? {
                None => return Ok(false),
                Some(line) if line.is_empty() => self.state = State::Done,
                Some(line) => self.trailer(&line)?,
            },
            // One more empty line is harmless.
            State::Done if self.buffer.iter().all(|byte| b"\r\n".contains(byte)) => {
                self.buffer.clear();
                return Ok(false);
            }
            State::Done => return Err(ChunkedError::Surplus),
        }
        Ok(true)
    }

    fn trailer(&mut self, line: &str) -> Result<(), ChunkedError> {
        if self.trailers.len() == MAX_TRAILERS {
            return Err(ChunkedError::ManyTrailers);
        }
        let (name, value) = line.split_once(':').ok_or(ChunkedError::Trailer)?;
        self.trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(())
    }

    /// Takes a line, without its end, if it has come whole.
    fn line(&mut self) -> Result<Option<String>, ChunkedError> {
        let window = &self.buffer[..self.buffer.len().min(MAX_LINE_BYTES)];
        let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
            let is_full = self.buffer.len() >= MAX_LINE_BYTES;
            return if is_full { Err(ChunkedError::LongLine) } else { Ok(None) };
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(1);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `framed`, cut into pieces of `step` bytes.
    fn decode(framed: &[u8], step: usize) -> Result<(Vec<u8>, Trailers), ChunkedError> {
        let mut decoder = Decoder::default();
        let mut data = Vec::new();
        for piece in framed.chunks(step) {
            decoder.push(piece, &mut data)?;
        }
        Ok((data.concat(), decoder.finish()?))
    }

    #[test]
    fn every_framing_decodes_however_it_is_cut() {
        let bodies: [(&[u8], &[u8], usize); 4] = [
            (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", b"hello", 1),
            (
                b"5;chunk-signature=ab\r\nhel\r\n\r\n1;chunk-signature=c\r\n!\r\n0;c=d\r\n\r\n",
                b"hel\r\n!",
                0,
            ),
            (b"0\r\n\r\n", b"", 0),
            (
                b"A\r\n0123456789\r\n0\r\na: b\r\nx-amz-trailer-signature:c\r\n\r\n\r\n",
                b"0123456789",
                2,
            ),
        ];
        for (framed, expected, n_trailers) in bodies {
            for step in 1..=framed.len() {
                let (data, trailers) = decode(framed, step).unwrap();
                assert_eq!((data.as_slice(), trailers.len()), (expected, n_trailers), "{step}");
            }
        }
    }

    #[track_caller]
    fn refused(framed: &[u8], expected: ChunkedError) {
        for step in [1, 7, framed.len()] {
            assert_eq!(decode(framed, step).unwrap_err(), expected);
        }
    }

    #[test]
    fn broken_framing_is_refused() {
        refused(b"zz\r\n", ChunkedError::Size);
        refused(b"-5\r\nhello\r\n0\r\n\r\n", ChunkedError::Size);
        refused(b"11111111111111111\r\n", ChunkedError::Size);
        refused(b"3\r\nhello\r\n0\r\n\r\n", ChunkedError::Length);
        refused(b"5\r\nhel", ChunkedError::Truncated);
        refused(b"5\r\nhello\r\n", ChunkedError::Truncated);
        refused(b"0\r\nno colon\r\n\r\n", ChunkedError::Trailer);
        refused(b"0\r\n\r\nmore", ChunkedError::Surplus);
        refused(&[b'1'; 5000], ChunkedError::LongLine);
        refused(&[b"0\r\n".as_slice(), &b"a:b\r\n".repeat(9)].concat(), ChunkedError::ManyTrailers);
    }
}
