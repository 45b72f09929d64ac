//! A walk over a WebP's chunks, before it is decoded.
//!
//! The decoder believes what chunks say of their length: one that claims 4 GiB makes it allocate
//! them. So every chunk must end within the body, and what lies behind the picture is cut off.

use super::decode::{bad, check_size};
use crate::runtime::RuntimeError;

/// Name and length of a chunk, or of the whole.
const HEADER_BYTES: usize = 8;
/// Where the chunks begin: behind the header of the whole and its kind, `WEBP`.
const FIRST_CHUNK: usize = 12;
/// The animation flag of the extended format.
const ANIMATION: u8 = 0b10;

/// Checks what a WebP claims: its length, that of its chunks and, in the extended format alone,
/// animation and a size that can be absurd. Returns the picture without what follows it.
pub(super) fn check(body: &[u8]) -> Result<&[u8], RuntimeError> {
    let truncated = || bad("the WebP is truncated".to_owned());
    let whole = number(body, 4).and_then(|len| body.get(..len.checked_add(HEADER_BYTES)?));
    let body = whole.ok_or_else(truncated)?;
    let mut at = FIRST_CHUNK;
    while let Some(len) = number(body, at + 4) {
        let end = len.checked_add(at + HEADER_BYTES).filter(|end| *end <= body.len());
        let end = end.ok_or_else(|| bad("a chunk of the WebP ends beyond it".to_owned()))?;
        // Chunks begin at even places.
        at = end.next_multiple_of(2);
    }
    if body.get(FIRST_CHUNK..FIRST_CHUNK + 4) != Some(b"VP8X") {
        return Ok(body);
    }
    // Before the decoder, which reads all frames first and so may stumble over a broken one.
    if body.get(20).is_some_and(|flags| flags & ANIMATION != 0) {
        return Err(bad("animated WebPs are not served: send one picture".to_owned()));
    }
    // Width and height less one, 24 bits each.
    let side = |at: usize| {
        let bytes = body.get(at..at + 3)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1)
    };
    let (Some(width), Some(height)) = (side(24), side(27)) else { return Err(truncated()) };
    check_size((width, height))?;
    Ok(body)
}

fn number(body: &[u8], at: usize) -> Option<usize> {
    let bytes = body.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}
