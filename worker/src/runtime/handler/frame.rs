//! The frames between the worker and a handler process: length-checked, each of one call.
//!
//! ```text
//! u8  kind                 what the frame is
//! u8 0, u16 0              reserved
//! u32 call                 which call it belongs to; 0: none
//! u32 head length          bytes of JSON
//! u32 body length          bytes that the head says the parts of
//! ```
//!
//! Numbers are big-endian. The other side is `worker/python/manifold_handler/frames.py`. What comes from
//! there is a user's process: nothing of it is believed.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// What a frame's head may take: a batch of answers with their headers.
const MAX_HEAD_BYTES: u32 = 4 << 20;

const PREFIX_BYTES: usize = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Handler → worker: it runs, and speaks this version.
    Hello,
    /// Worker → handler: which model.
    Load,
    /// Handler → worker: the model can serve.
    Loaded,
    /// Worker → handler: a batch of requests.
    Predict,
    /// Handler → worker: its answers.
    Answer,
    /// Handler → worker: the model did not load.
    Failed,
    /// Worker → handler: nobody waits for the call any more.
    Cancel,
    /// Handler → worker: a call did not begin, because nobody waits for it.
    Skipped,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Load,
        Self::Loaded,
        Self::Predict,
        Self::Answer,
        Self::Failed,
        Self::Cancel,
        Self::Skipped,
    ];

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) call: u32,
    /// JSON.
    pub(super) head: Bytes,
    pub(super) body: Body,
}

/// What follows the head: parts, which come back as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body(pub(super) Vec<Bytes>);

/// Why the stream of a handler process makes no sense.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("a frame with a head of {0} bytes")]
    Head(u32),
    #[error("a frame with a body of {0} bytes, where {1} are allowed")]
    Body(u32, u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads and writes frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec {
    /// The longest body that is taken.
    pub(super) max_body_bytes: u32,
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(mut prefix) = read.get(..PREFIX_BYTES) else { return Ok(None) };
        let code = prefix.get_u8();
        let kind = Kind::of_code(code).ok_or(FrameError::Kind(code))?;
        prefix.advance(3);
        let (call, head_bytes, body_bytes) = (prefix.get_u32(), prefix.get_u32(), prefix.get_u32());
        if head_bytes > MAX_HEAD_BYTES {
            return Err(FrameError::Head(head_bytes));
        }
        if body_bytes > self.max_body_bytes {
            return Err(FrameError::Body(body_bytes, self.max_body_bytes));
        }
        let (head_bytes, body_bytes) = (size(head_bytes), size(body_bytes));
        let frame_bytes = PREFIX_BYTES + head_bytes + body_bytes;
        if read.len() < frame_bytes {
            read.reserve(frame_bytes - read.len());
            return Ok(None);
        }
        read.advance(PREFIX_BYTES);
        let head = read.split_to(head_bytes).freeze();
        let body = Body(vec![read.split_to(body_bytes).freeze()]);
        Ok(Some(Frame { kind, call, head, body }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = FrameError;

    /// What we send ourselves is within the bounds: heads have some headers, bodies were read within
    /// theirs.
    fn encode(&mut self, frame: Frame, written: &mut BytesMut) -> Result<(), FrameError> {
        let body_bytes: usize = frame.body.0.iter().map(Bytes::len).sum();
        let too_long = |_| FrameError::Body(u32::MAX, self.max_body_bytes);
        let body_length = u32::try_from(body_bytes).map_err(too_long)?;
        let head_length =
            u32::try_from(frame.head.len()).map_err(|_| FrameError::Head(u32::MAX))?;
        written.reserve(PREFIX_BYTES + frame.head.len() + body_bytes);
        written.put_u8(frame.kind.code());
        written.put_bytes(0, 3);
        written.put_u32(frame.call);
        written.put_u32(head_length);
        written.put_u32(body_length);
        written.put(frame.head);
        for part in frame.body.0 {
            written.put(part);
        }
        Ok(())
    }
}

fn size(length: u32) -> usize {
    usize::try_from(length).expect("a bounded length fits into any usize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODEC: Codec = Codec { max_body_bytes: 1 << 20 };

    fn frame(kind: Kind, head: &[u8], body: &[u8]) -> Frame {
        let head = Bytes::copy_from_slice(head);
        Frame { kind, call: 7, head, body: Body(vec![Bytes::copy_from_slice(body)]) }
    }

    fn encoded(frame: &Frame) -> BytesMut {
        let mut written = BytesMut::new();
        CODEC.clone().encode(frame.clone(), &mut written).unwrap();
        written
    }

    #[test]
    fn both_sides_have_one_layout() {
        let written = encoded(&frame(Kind::Answer, b"{}", b"abc"));
        assert_eq!(&written[..], b"\x05\0\0\0\0\0\0\x07\0\0\0\x02\0\0\0\x03{}abc");
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused_before_it_is_read() {
        for (prefix, why) in [
            (*b"\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a frame of the unknown kind 9"),
            (*b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a frame of the unknown kind 0"),
            (*b"\x05\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0", "a frame with a head of 4278190080 bytes"),
            (
                *b"\x05\0\0\0\0\0\0\0\0\0\0\0\xff\0\0\0",
                "a frame with a body of 4278190080 bytes, where 1048576 are allowed",
            ),
        ] {
            let error = CODEC.clone().decode(&mut BytesMut::from(&prefix[..])).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec(
                (0..8_usize, prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..400)),
                0..6,
            ),
            cuts in prop::collection::vec(1..50_usize, 1..40),
        ) {
            let frames: Vec<Frame> =
                frames.iter().map(|(kind, head, body)| frame(Kind::ALL[*kind], head, body)).collect();
            let mut wire = BytesMut::new();
            for frame in &frames {
                wire.extend_from_slice(&encoded(frame));
            }
            let (mut read, mut came) = (BytesMut::new(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                while let Some(frame) = CODEC.clone().decode(&mut read).unwrap() {
                    came.push(frame);
                }
                if wire.is_empty() {
                    break;
                }
                read.extend_from_slice(&wire.split_to(cut.min(wire.len())));
            }
            prop_assert_eq!(came, frames);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut read = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = CODEC.clone().decode(&mut read) {}
        }
    }
}
