//! Turns a packed artifact into a folder of plain files, or says exactly why not.
//!
//! The format is decided by content, never by name: tar (plain, gzip, zstd), zip, or a bare
//! TorchScript file, which is itself a zip. Tars are unpacked in one pass over the bytes as they
//! arrive; a zip has its table of contents at the end, so it is spooled first.
//!
//! # Invariants
//!
//! - Every archive is hostile. Nothing is written outside of the given folder; no link, device or
//!   executable file is ever made; every count and size has a bound in [`Limits`].
//! - Room on disk is asked for before it is used ([`Room`]).
//! - An archive is accepted only when its last byte has been read: a checksum at its end counts.

mod bounded;
mod flaw;
mod format;
mod gzip;
mod intake;
mod metered;
mod packed;
mod paths;
mod tarball;
mod zipped;

pub use flaw::{EntryFlaw, Flaw};
pub use packed::Packed;
pub use zipped::contents_bytes;

use format::Format;
use intake::Intake;
use std::{
    fs,
    io::{self, BufReader, Chain, Cursor, Read},
    path::Path,
};

/// The folder below the one given to [`unpack`] in which the artifact lies afterwards.
pub const ARTIFACT: &str = "artifact";
/// What a bare TorchScript file is called in its artifact.
pub const BARE_MODEL: &str = "model.pt";
const SPOOL: &str = "spool";

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// How much an archive may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all files, unpacked; of a tar with all its headers.
    pub max_total_bytes: u64,
    /// Of one file.
    pub max_file_bytes: u64,
    /// Files and folders, also those that an archive implies.
    pub max_entries: usize,
    /// Of one path.
    pub max_path_bytes: usize,
    /// Folders above a file, and the file itself.
    pub max_depth: usize,
    /// What may stand between two files: headers, long names, extended attributes.
    pub max_metadata_bytes: u64,
    /// Unpacked bytes per packed byte, beyond [`ratio_floor_bytes`](Self::ratio_floor_bytes).
    pub max_ratio: u64,
    /// Below this an archive may be as dense as it likes.
    pub ratio_floor_bytes: u64,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        // Larger than any model that fits into the memory of a machine for which this is made.
        // What one instance takes is bounded before by its disk budget.
        max_total_bytes: 64 * GIB,
        max_file_bytes: 64 * GIB,
        // A handler with its site-packages has some ten thousand files.
        max_entries: 50_000,
        // PATH_MAX is 4096, and the cache's own folder needs a part of that.
        max_path_bytes: 1024,
        // Python packages nest about ten deep.
        max_depth: 32,
        // A long name needs 4 KiB, extended attributes of a Mac some more.
        max_metadata_bytes: 256 * KIB,
        // Weights compress by less than 20; deflate cannot do more than 1032, zstd can.
        max_ratio: 200,
        // A model of zeros, made to try things out, is no bomb.
        ratio_floor_bytes: GIB,
    };

    /// Checks what `packed_bytes` of an archive have become so far.
    fn check_unpacked(&self, unpacked_bytes: u64, packed_bytes: u64) -> Result<(), Flaw> {
        if unpacked_bytes > self.max_total_bytes {
            return Err(Flaw::TooLarge(self.max_total_bytes));
        }
        let is_dense = unpacked_bytes > packed_bytes.saturating_mul(self.max_ratio);
        if is_dense && unpacked_bytes > self.ratio_floor_bytes {
            return Err(Flaw::Bomb(self.max_ratio));
        }
        Ok(())
    }
}

/// How an archive's files lie in its folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Without a folder around everything: people pack `model/` instead of what is in it.
    #[default]
    Unwrapped,
    /// As they were packed: to servers that are not ours, a lone folder is a version or a model's name.
    AsPacked,
}

/// Room on disk. Asked before each write, so that the budget is never exceeded first.
pub trait Room {
    /// Makes sure that `total_bytes` may be on disk for this artifact, or says why not.
    fn cover(&mut self, total_bytes: u64) -> Result<(), NoRoom>;
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed_bytes} more bytes do not fit into its budget of {budget_bytes} bytes, of which \
         {in_use_bytes} cannot go now"
)]
pub struct NoRoom {
    pub needed_bytes: u64,
    pub in_use_bytes: u64,
    pub budget_bytes: u64,
}

/// Why an artifact was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is broken, hostile or nothing that is known here.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// This instance could not write.
    #[error("writing failed")]
    Disk(#[source] io::Error),
}

/// Unpacks `packed` into `folder`/[`ARTIFACT`] and returns the bytes it takes on disk. Blocks.
///
/// `folder` must exist and be empty. After an error its content is undefined.
pub fn unpack<R: Read>(
    packed: &Packed<R>,
    folder: &Path,
    room: &mut dyn Room,
    limits: &Limits,
    layout: Layout,
) -> Result<u64, UnpackError> {
    let (head, stream) = peek(packed)?;
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    let mut intake = Intake::new(folder.join("unpacked"), room, limits, packed.progress());
    match Format::sniff(&head)? {
        Format::Tar => tarball::unpack(stream, &mut intake)?,
        Format::Gzip => unpack_compressed(gzip::Gzip::new(stream), "gzip", &mut intake)?,
        Format::Zstd => unpack_compressed(zstd_decoder(stream)?, "zstd", &mut intake)?,
        Format::Zip => {
            let spool = folder.join(SPOOL);
            intake.spool(&mut stream, &spool)?;
            if zipped::unpack(&spool, &mut intake)? == zipped::Content::BareModel {
                return zipped::keep_bare_model(&spool, &folder.join(ARTIFACT));
            }
            fs::remove_file(&spool).map_err(UnpackError::Disk)?;
        }
    }
    intake.settle(&folder.join(ARTIFACT), layout)
}

/// Unpacks the tar that a compressed stream must hold.
fn unpack_compressed(
    stream: impl Read,
    outer: &'static str,
    intake: &mut Intake<'_>,
) -> Result<(), UnpackError> {
    let (head, stream) = peek(stream)?;
    match Format::sniff(&head) {
        Ok(Format::Tar) => tarball::unpack(stream, intake),
        Ok(inner) => Err(Flaw::Nested { outer, inner: inner.name() }.into()),
        Err(_) => Err(Flaw::NoTarInside(outer).into()),
    }
}

fn zstd_decoder<R: io::BufRead>(
    stream: R,
) -> Result<zstd::stream::read::Decoder<'static, R>, UnpackError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stream).map_err(Flaw::of_read)?;
    // 128 MiB of window: what the zstd tool itself accepts unasked.
    decoder.window_log_max(27).map_err(Flaw::of_read)?;
    Ok(decoder)
}

/// A stream whose first bytes were looked at.
type Unread<R> = Chain<Cursor<Vec<u8>>, R>;

/// Returns the first bytes of a stream, up to one tar block, and the stream with them still in it.
fn peek<R: Read>(mut stream: R) -> Result<(Vec<u8>, Unread<R>), Flaw> {
    let mut head = Vec::with_capacity(format::BLOCK);
    let mut first = stream.by_ref().take(format::BLOCK as u64);
    first.read_to_end(&mut head).map_err(Flaw::of_read)?;
    Ok((head.clone(), Cursor::new(head).chain(stream)))
}

#[cfg(test)]
mod tests;
