//! Tar, in one pass over the bytes as they arrive.

use super::{
    UnpackError,
    flaw::{EntryFlaw, Flaw},
    intake::{Intake, Keep},
    metered::{Meter, Metered},
};
use std::io::{self, Read};
use tar::{Archive, Entry, EntryType};

/// Writers fill their last record with zeros: 10 KiB by default, a megabyte where tapes are large.
const MAX_PADDING_BYTES: u64 = 1 << 20;

pub(super) fn unpack(stream: impl Read, intake: &mut Intake<'_>) -> Result<(), UnpackError> {
    let meter = Meter::default();
    let mut archive = Archive::new(Metered::new(intake.bounded(stream), meter.clone()));
    let mut entries = archive.entries().map_err(Flaw::of_read)?;
    loop {
        // Between two files stand headers and long names, which the crate reads into memory.
        meter.allow(intake.limits().max_metadata_bytes);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|error| broken(error, &meter))?;
        take(&mut entry, intake, &meter)?;
    }
    if meter.has_ended() {
        // The blocks of zeros that mark the end did not come.
        return Err(Flaw::Truncated.into());
    }
    meter.allow_all();
    Ok(expect_only_zeros(archive.into_inner())?)
}

fn take(
    entry: &mut Entry<'_, impl Read>,
    intake: &mut Intake<'_>,
    meter: &Meter,
) -> Result<(), UnpackError> {
    let name = entry.path_bytes().into_owned();
    let refuse = |flaw| Err(Flaw::entry(&name, flaw).into());
    match entry.header().entry_type() {
        // Still under the meter's allowance: attributes of the whole archive, none of them ours.
        EntryType::XGlobalHeader => {
            intake.count_entry()?;
            io::copy(entry, &mut io::sink()).map_err(|error| broken(error, meter))?;
            Ok(())
        }
        EntryType::Directory => intake.folder(&name, Keep::Write),
        // How the oldest tars write a folder.
        EntryType::Regular if name.ends_with(b"/") && entry.size() == 0 => {
            intake.folder(&name, Keep::Write)
        }
        EntryType::Regular if is_sparse(entry)? => refuse(EntryFlaw::Sparse),
        EntryType::Regular => {
            meter.allow_all();
            intake.file(&name, entry.size(), entry, Keep::Write)
        }
        EntryType::Symlink => refuse(EntryFlaw::Symlink),
        EntryType::Link => refuse(EntryFlaw::HardLink),
        EntryType::Char | EntryType::Block => refuse(EntryFlaw::Device),
        EntryType::Fifo => refuse(EntryFlaw::Fifo),
        EntryType::GNUSparse => refuse(EntryFlaw::Sparse),
        other => refuse(EntryFlaw::UnknownType(other.as_byte())),
    }
}

/// Whether extended attributes say that the file has holes: its bytes are then not its content.
fn is_sparse(entry: &mut Entry<'_, impl Read>) -> Result<bool, Flaw> {
    let Some(attributes) = entry.pax_extensions().map_err(Flaw::of_read)? else {
        return Ok(false);
    };
    for attribute in attributes {
        if attribute.map_err(Flaw::of_read)?.key_bytes().starts_with(b"GNU.sparse") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The crate has its own words for an early end, and several.
fn broken(error: io::Error, meter: &Meter) -> Flaw {
    match Flaw::of_read(error) {
        Flaw::Corrupt(_) if meter.has_ended() => Flaw::Truncated,
        flaw => flaw,
    }
}

/// Reads to the end, so that the checksum of what is around the tar is verified too.
fn expect_only_zeros(mut rest: impl Read) -> Result<(), Flaw> {
    let mut buffer = [0; 16 << 10];
    let mut n_total = 0;
    loop {
        let n_read = match rest.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(Flaw::of_read)?,
        };
        if n_read == 0 {
            return Ok(());
        }
        n_total += n_read as u64;
        if n_total > MAX_PADDING_BYTES || buffer[..n_read].iter().any(|byte| *byte != 0) {
            return Err(Flaw::TrailingGarbage("tar"));
        }
    }
}
