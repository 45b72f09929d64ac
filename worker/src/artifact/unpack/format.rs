//! What kind of archive begins with these bytes.

use super::flaw::Flaw;

/// The block of a tar: as many bytes as are needed to know any format.
pub(super) const BLOCK: usize = 512;
/// Where a tar header keeps its checksum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tar,
    Gzip,
    Zstd,
    Zip,
}

impl Format {
    /// Recognizes a format by its first bytes, up to [`BLOCK`] of them.
    pub(super) fn sniff(head: &[u8]) -> Result<Self, Flaw> {
        match head {
            [] => Err(Flaw::UnknownFormat("empty")),
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a skippable frame, as parallel writers put first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            // The second is a zip without entries.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            _ if is_tar(head) => Ok(Self::Tar),
            _ => Err(Flaw::UnknownFormat(guess(head))),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }
}

/// What people upload by mistake.
fn guess(head: &[u8]) -> &'static str {
    match head {
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [b'7', b'z', 0xbc, 0xaf, ..] => "7z",
        [0x89, b'H', b'D', b'F', ..] => "HDF5",
        [0x80, 2..=5, ..] => "a Python pickle",
        [b'<', ..] => "a web page",
        _ => "something unknown",
    }
}

/// A tar header by its own checksum: old tars have no magic. Blocks of zeros alone are an empty tar.
fn is_tar(head: &[u8]) -> bool {
    if head.len() < BLOCK {
        return false;
    }
    let header = &head[..BLOCK];
    if header.iter().all(|byte| *byte == 0) {
        return true;
    }
    if header[257..].starts_with(b"ustar") {
        return true;
    }
    let rest = header[..CHECKSUM.start].iter().chain(&header[CHECKSUM.end..]);
    let sum = rest.fold(8 * u32::from(b' '), |sum, byte| sum + u32::from(*byte));
    let digits = header[CHECKSUM].iter().filter(|byte| (b'0'..=b'7').contains(*byte));
    let written = digits.fold(0_u32, |sum, digit| (sum << 3) | u32::from(digit - b'0'));
    sum == written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], expected: Result<Format, &'static str>) {
        assert_eq!(Format::sniff(head), expected.map_err(Flaw::UnknownFormat));
    }

    #[test]
    fn formats_are_told_by_their_content() {
        check(&[0x1f, 0x8b, 8], Ok(Format::Gzip));
        check(&[0x28, 0xb5, 0x2f, 0xfd], Ok(Format::Zstd));
        check(&[0x52, 0x2a, 0x4d, 0x18], Ok(Format::Zstd));
        check(b"PK\x03\x04", Ok(Format::Zip));
        check(b"PK\x05\x06", Ok(Format::Zip));
        check(&[0; 512], Ok(Format::Tar));
    }

    #[test]
    fn tars_are_known_with_and_without_magic() {
        for mut header in [tar::Header::new_gnu(), tar::Header::new_ustar(), tar::Header::new_old()]
        {
            header.set_path("model.pt").unwrap();
            header.set_size(7);
            header.set_cksum();
            check(header.as_bytes(), Ok(Format::Tar));
        }
    }

    #[test]
    fn what_is_uploaded_by_mistake_is_named() {
        check(b"", Err("empty"));
        check(b"BZh91AY", Err("bzip2"));
        check(b"\xfd7zXZ\0", Err("xz"));
        check(&[0x80, 2, b'}'], Err("a Python pickle"));
        check(b"<html>", Err("a web page"));
        check(&[b'x'; 512], Err("something unknown"));
        check(&[0; 511], Err("something unknown"));
    }
}
