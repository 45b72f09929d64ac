//! What can be wrong with an archive, each in words that its author can act on.

use std::io;

/// Longer names are cut in errors.
const MAX_SHOWN_CHARS: usize = 120;

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("entry `{name}` {flaw}")]
    Entry { name: String, flaw: EntryFlaw },
    #[error("it is {0}, not a tar (plain, gzip or zstd), a zip or a TorchScript file")]
    UnknownFormat(&'static str),
    #[error("its {0} stream holds no tar")]
    NoTarInside(&'static str),
    #[error("it is a {inner} inside {outer}: upload the {inner} itself")]
    Nested { outer: &'static str, inner: &'static str },
    #[error("it holds only another archive, `{0}`: upload that one itself")]
    OnlyAnArchive(String),
    #[error("it holds no file")]
    Empty,
    #[error("it is truncated")]
    Truncated,
    #[error("it is corrupt: {0}")]
    Corrupt(String),
    #[error("something follows the end of its {0}")]
    TrailingGarbage(&'static str),
    #[error("it holds more than {0} files and folders")]
    TooManyEntries(usize),
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("it unpacks to more than {0} times its size, like a decompression bomb")]
    Bomb(u64),
    #[error("its headers and names take more than {0} bytes at once")]
    TooMuchMetadata(u64),
    #[error("two of its entries have the same name")]
    DuplicateNames,
    #[error("two of its entries share the same bytes")]
    Overlap,
    #[error("it cannot be read here: {0}")]
    Unsupported(String),
}

/// What is wrong with one entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFlaw {
    #[error("has an absolute path")]
    Absolute,
    #[error("climbs out with `..`")]
    Climbs,
    #[error("has a backslash in its path, which separates folders on Windows")]
    Backslash,
    #[error("names a Windows drive")]
    Drive,
    #[error("has a control character in its path")]
    ControlCharacter,
    #[error("has a path that is not UTF-8")]
    NotUtf8,
    #[error("has no name")]
    Nameless,
    #[error("has a path longer than {0} bytes")]
    PathTooLong(usize),
    #[error("has a name longer than 255 bytes")]
    NameTooLong,
    #[error("is nested more than {0} deep")]
    TooDeep(usize),
    #[error("is a symbolic link")]
    Symlink,
    #[error("is a hard link")]
    HardLink,
    #[error("is a device")]
    Device,
    #[error("is a named pipe")]
    Fifo,
    #[error("is a socket")]
    Socket,
    #[error("is a sparse file")]
    Sparse,
    #[error("is of unknown type `{}`", char::from(*.0).escape_default())]
    UnknownType(u8),
    #[error("occurs twice")]
    Duplicate,
    #[error("is both a file and a folder")]
    FileAndFolder,
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("is encrypted")]
    Encrypted,
}

impl Flaw {
    pub(super) fn entry(name: &[u8], flaw: EntryFlaw) -> Self {
        let name = String::from_utf8_lossy(name);
        let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
        let dots = if shown.len() < name.len() { "…" } else { "" };
        Self::Entry { name: format!("{}{dots}", shown.escape_debug()), flaw }
    }

    /// What an error while reading an archive means.
    ///
    /// A failure of the store comes here too; [`Packed`](super::Packed) remembers that one, and it
    /// wins over whatever the archive then looks like.
    #[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
    pub(super) fn of_read(error: io::Error) -> Self {
        if let Some(flaw) = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return flaw.clone();
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::Unsupported => Self::Unsupported(error.to_string()),
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

/// So that a reader in the middle of a chain can refuse.
impl From<Flaw> for io::Error {
    fn from(flaw: Flaw) -> Self {
        Self::other(flaw)
    }
}
