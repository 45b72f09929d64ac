//! Zip: an archive of its own, or a bare TorchScript file. Read from disk, by its table of contents.

use super::{
    BARE_MODEL, Limits, UnpackError,
    flaw::{EntryFlaw, Flaw},
    format::{BLOCK, Format},
    intake::{Intake, Keep, in_blocks},
    metered::{Meter, Metered},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};
use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config},
    result::ZipError,
};

/// The table's own bytes per entry: 46 and the name, with room for extra fields.
const MAX_TABLE_BYTES_PER_ENTRY: u64 = 512;
/// The end record and the longest comment after it.
const MAX_END_BYTES: u64 = 22 + 0xffff;
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";

type Zip = ZipArchive<Metered<BufReader<File>>>;

/// What a zip was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Archive,
    /// TorchScript: checked like any zip, but kept packed, as LibTorch loads it.
    BareModel,
}

pub(super) fn unpack(spool: &Path, intake: &mut Intake<'_>) -> Result<Content, UnpackError> {
    let mut file = File::open(spool).map_err(UnpackError::Disk)?;
    check_end(&mut file)?;
    let (mut zip, meter) = open(file, intake.limits())?;
    meter.allow_all();
    if zip.has_overlapping_entries().map_err(flaw_of)? {
        return Err(Flaw::Overlap.into());
    }
    let content = if is_bare_model(&zip) { Content::BareModel } else { Content::Archive };
    for index in 0..zip.len() {
        take(&mut zip, index, intake, content)?;
    }
    Ok(content)
}

/// Moves a checked TorchScript file to where it belongs and returns its bytes on disk.
pub(super) fn keep_bare_model(spool: &Path, artifact: &Path) -> Result<u64, UnpackError> {
    let keep = || {
        let size_bytes = fs::metadata(spool)?.len();
        fs::create_dir(artifact)?;
        fs::rename(spool, artifact.join(BARE_MODEL))?;
        Ok(in_blocks(size_bytes))
    };
    keep().map_err(UnpackError::Disk)
}

/// Returns what the entries of the zip at `path` unpack to, by its table of contents alone.
///
/// For a model within an archive: nobody has looked into that one yet.
pub fn contents_bytes(path: &Path, limits: &Limits) -> Result<u64, UnpackError> {
    let mut file = File::open(path).map_err(UnpackError::Disk)?;
    let packed_bytes = file.metadata().map_err(UnpackError::Disk)?.len();
    let mut head = Vec::with_capacity(BLOCK);
    file.by_ref().take(BLOCK as u64).read_to_end(&mut head).map_err(UnpackError::Disk)?;
    match Format::sniff(&head)? {
        Format::Zip => check_end(&mut file)?,
        other => return Err(Flaw::UnknownFormat(other.name()).into()),
    }
    let (zip, _) = open(file, limits)?;
    let mut unpacked_bytes = 0_u64;
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(flaw_of)?;
        unpacked_bytes = unpacked_bytes.saturating_add(entry.size());
    }
    limits.check_unpacked(unpacked_bytes, packed_bytes)?;
    Ok(unpacked_bytes)
}

/// Reads the table of contents; only what is allowed by the meter is read after that.
fn open(file: File, limits: &Limits) -> Result<(Zip, Meter), Flaw> {
    let meter = Meter::default();
    let reader = Metered::new(BufReader::new(file), meter.clone());
    // The crate reads the whole table into memory, as long as the zip says it is.
    let n_entries = limits.max_entries as u64;
    meter.allow(MAX_END_BYTES * 4 + n_entries.saturating_mul(MAX_TABLE_BYTES_PER_ENTRY));
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let zip = ZipArchive::with_config(config, reader).map_err(flaw_of)?;
    if zip.len() > limits.max_entries {
        return Err(Flaw::TooManyEntries(limits.max_entries));
    }
    if zip.has_duplicate_names() {
        return Err(Flaw::DuplicateNames);
    }
    Ok((zip, meter))
}

fn take(
    zip: &mut Zip,
    index: usize,
    intake: &mut Intake<'_>,
    content: Content,
) -> Result<(), UnpackError> {
    let entry = zip.by_index_data(index).map_err(flaw_of)?;
    let (name, mode) = (entry.name_raw().to_owned(), entry.unix_mode().unwrap_or(0));
    let refuse = |flaw| Err(Flaw::entry(&name, flaw).into());
    if entry.encrypted() {
        return refuse(EntryFlaw::Encrypted);
    }
    let keep = match content {
        Content::Archive => Keep::Write,
        Content::BareModel => Keep::CheckOnly,
    };
    // The file type bits of a Unix mode.
    match mode & 0o170_000 {
        0o120_000 => return refuse(EntryFlaw::Symlink),
        0o060_000 | 0o020_000 => return refuse(EntryFlaw::Device),
        0o010_000 => return refuse(EntryFlaw::Fifo),
        0o140_000 => return refuse(EntryFlaw::Socket),
        _ => {}
    }
    if name.ends_with(b"/") {
        return intake.folder(&name, keep);
    }
    let mut file = zip.by_index(index).map_err(flaw_of)?;
    let size_bytes = file.size();
    intake.file(&name, size_bytes, &mut file, keep)
}

/// TorchScript's own layout: everything in one folder, with `data.pkl` and what only it has.
fn is_bare_model(zip: &Zip) -> bool {
    let names: BTreeSet<&str> =
        zip.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let has = |name: String| names.contains(name.as_str());
    names.iter().filter_map(|name| name.strip_suffix("/data.pkl")).any(|top| {
        let code = format!("{top}/code/");
        let has_code = names.range(code.as_str()..).next().is_some_and(|it| it.starts_with(&code));
        let is_marked = has(format!("{top}/constants.pkl")) || has(format!("{top}/version"));
        !top.contains('/') && (has_code || is_marked)
    })
}

/// A zip ends with its end record and that record's comment, or it is cut or has a tail.
fn check_end(file: &mut File) -> Result<(), UnpackError> {
    let read_tail = |file: &mut File| {
        let size_bytes = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(size_bytes.saturating_sub(MAX_END_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        file.rewind()?;
        Ok(tail)
    };
    let tail = read_tail(file).map_err(UnpackError::Disk)?;
    // The last one is what every reader takes, LibTorch's too: an earlier one that fits better
    // would let the two see different files.
    let mut ends = tail.windows(22).enumerate().rev();
    let end = ends.find(|(_, record)| record.starts_with(&END_SIGNATURE));
    let (at, record) = end.ok_or(Flaw::Truncated)?;
    let comment_bytes = usize::from(u16::from_le_bytes([record[20], record[21]]));
    if at + record.len() + comment_bytes == tail.len() {
        return Ok(());
    }
    Err(Flaw::TrailingGarbage("zip").into())
}

fn flaw_of(error: ZipError) -> Flaw {
    match error {
        ZipError::Io(error) => Flaw::of_read(error),
        error => Flaw::of_read(error.into()),
    }
}
