//! What an artifact in the cache is: a small JSON file beside its folder.

use super::state::Artifact;
use crate::artifact::{ArtifactVersion, unpack::ARTIFACT};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::address::ArtifactAddress;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

const RECORD: &str = "record.json";
/// Counts up when artifacts are unpacked differently: older ones are then fetched again.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    address: ArtifactAddress,
    etag: String,
    packed_bytes: u64,
    pub(super) unpacked_bytes: u64,
}

impl Record {
    pub(super) fn new(
        address: &ArtifactAddress,
        version: &ArtifactVersion,
        unpacked_bytes: u64,
    ) -> Self {
        Self {
            format: FORMAT,
            address: address.clone(),
            etag: version.etag.clone(),
            packed_bytes: version.size_bytes,
            unpacked_bytes,
        }
    }

    /// Waits until the artifact in `folder` is on disk, then writes the record beside it.
    pub(super) fn write_beside(&self, folder: &Path) -> io::Result<()> {
        sync_tree(folder)?;
        let above = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let fresh = above.join("record.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        // The kernel's own stamps are of its last tick, which several records may share.
        file.set_modified(SystemTime::now())?;
        file.sync_all()?;
        fs::rename(&fresh, above.join(RECORD))?;
        File::open(above)?.sync_all()
    }

    pub(super) fn artifact(&self) -> Artifact {
        Artifact { address: self.address.clone(), version: self.version() }
    }

    fn version(&self) -> ArtifactVersion {
        ArtifactVersion { etag: self.etag.clone(), size_bytes: self.packed_bytes }
    }
}

/// Names an artifact in the cache: SHA-256 of what makes it unique, in hex.
pub(super) fn digest(address: &ArtifactAddress, version: &ArtifactVersion) -> String {
    let unique = format!("{address}\0{}\0{}", version.etag, version.size_bytes);
    Sha256::digest(unique).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing into a string cannot fail");
        hex
    })
}

/// Reads the record of the artifact below `path`: its digest, itself and when it was last used.
pub(super) fn read(path: &Path) -> Option<(String, Record, SystemTime)> {
    let name = path.file_name()?.to_str()?;
    let text = fs::read(path.join(RECORD)).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    let is_whole = record.format == FORMAT
        && digest(&record.address, &record.version()) == name
        && path.join(ARTIFACT).is_dir();
    let used = fs::metadata(path.join(RECORD)).and_then(|it| it.modified()).ok()?;
    is_whole.then(|| (name.to_owned(), record, used))
}

/// Notes that the artifact in `folder` was used now.
pub(super) fn touch(folder: &Path) -> io::Result<()> {
    let above = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::options().append(true).open(above.join(RECORD))?.set_modified(SystemTime::now())
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            _ => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(folder)?.sync_all()
}
