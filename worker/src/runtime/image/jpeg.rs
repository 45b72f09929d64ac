//! A walk over a JPEG's markers, before it is decoded.
//!
//! The decoder fills what is missing with grey and says nothing, as browsers do. A classification of
//! half a picture is a wrong answer, so the end marker must be there; and the color models that the
//! decoder does not convert as Pillow does are named here.

/// Markers: the second byte, after 0xFF.
const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;

/// Says why the JPEG in `body` is refused; its text follows "the JPEG ".
pub(super) fn check(body: &[u8]) -> Result<(), &'static str> {
    const TRUNCATED: &str = "is truncated: its end marker is missing";
    let mut rest = body.strip_prefix(&[0xFF, START]).ok_or("does not begin with its marker")?;
    loop {
        let marker;
        (marker, rest) = next_marker(rest).ok_or(TRUNCATED)?;
        match marker {
            END => return Ok(()),
            // Markers without a segment: restarts and a reserved one.
            0x01 | 0xD0..=0xD7 => continue,
            _ => {}
        }
        let segment = segment(rest).ok_or(TRUNCATED)?;
        if is_frame_header(marker) && segment.get(7).is_some_and(|n_colors| *n_colors == 4) {
            return Err("has four colors (CMYK), which is not served: send RGB or grey");
        }
        rest = &rest[segment.len()..];
        if marker == SCAN {
            rest = skip_scan(rest).ok_or(TRUNCATED)?;
        }
    }
}

/// Finds the next marker, over fill bytes and over garbage, which decoders skip as well.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|byte| *byte == 0xFF)?;
        rest = &rest[at + 1..];
        match rest {
            [0xFF, ..] => {}
            [0, after @ ..] => rest = after,
            [marker, after @ ..] => return Some((*marker, after)),
            [] => return None,
        }
    }
}

/// Returns a marker's segment with its length (two bytes, big-endian, itself included).
fn segment(bytes: &[u8]) -> Option<&[u8]> {
    let [high, low, ..] = bytes else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    bytes.get(..len.max(2))
}

/// Skips the picture's data: up to a marker that is no restart. Data has 0xFF 0x00 for 0xFF.
fn skip_scan(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
        match bytes.get(at + 1)? {
            0 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return bytes.get(at..),
        }
    }
}

/// Start of frame: baseline, progressive and the rarer kinds; not the three tables among them.
fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}
