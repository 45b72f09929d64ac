//! Reads files that hold secrets, if nobody else can read or change them.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0} can be read or changed by others (mode {1:03o}): chmod 600 {0}")]
    Exposed(PathBuf, u32),
    #[error("{0} is larger than {1} bytes")]
    TooLarge(PathBuf, u64),
}

/// Reads a text of at most `max_bytes` from a file that is its owner's alone. Small, so it may block.
///
/// One that belongs to root may also be read by its group: so orchestrators mount secrets for a
/// process that is not root.
pub fn read(path: &Path, max_bytes: u64) -> Result<String, PrivateFileError> {
    let failed = |error| PrivateFileError::Read(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    // Of the file that was opened: whatever takes its place now is another one.
    let metadata = file.metadata().map_err(failed)?;
    if is_exposed(&metadata) {
        return Err(PrivateFileError::Exposed(path.to_owned(), metadata.mode() & 0o777));
    }
    let mut text = String::new();
    file.take(max_bytes.saturating_add(1)).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > max_bytes {
        return Err(PrivateFileError::TooLarge(path.to_owned(), max_bytes));
    }
    Ok(text)
}

fn is_exposed(metadata: &Metadata) -> bool {
    const ROOT: u32 = 0;
    let forbidden = if metadata.uid() == ROOT { 0o037 } else { 0o077 };
    metadata.mode() & forbidden != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn only_what_nobody_else_can_read_or_change_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush").unwrap();
        let is_of_root = fs::metadata(file.path()).unwrap().uid() == 0;
        for (mode, may) in
            [(0o600, true), (0o400, true), (0o440, is_of_root), (0o604, false), (0o620, false)]
        {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(file.path(), 4).is_ok(), may, "{mode:o}");
        }
    }

    #[test]
    fn what_is_too_large_or_absent_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush!").unwrap();
        let error = read(file.path(), 4).unwrap_err().to_string();
        assert!(error.ends_with("is larger than 4 bytes"), "{error}");
        assert!(matches!(read(Path::new("absent"), 4), Err(PrivateFileError::Read(..))));
    }
}
