//! Takes in the entries of an archive one by one: checks each against the limits, writes files.

use super::{
    Layout, Limits, Room, UnpackError,
    bounded::Bounded,
    flaw::{EntryFlaw, Flaw},
    format::{BLOCK, Format},
    paths::{is_mac_litter, safe_path, wrapping_folder},
};
use std::{
    cell::Cell,
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

/// What file systems give out at least: a tiny file or a folder costs this on disk.
const DISK_BLOCK: u64 = 4096;
const BUFFER_BYTES: usize = 128 << 10;

/// What was taken in under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// What becomes of an entry's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Write,
    /// They are read for their size and checksum only.
    CheckOnly,
}

pub(super) struct Intake<'a> {
    /// Where files go. Made fresh, so that nothing in it can lead outside.
    target: PathBuf,
    room: &'a mut dyn Room,
    limits: &'a Limits,
    /// Packed bytes read so far.
    packed: Rc<Cell<u64>>,
    taken: HashMap<String, Kind>,
    n_entries: usize,
    unpacked_bytes: u64,
    /// Of what is written and finished, in whole blocks.
    disk_bytes: u64,
    /// Of a spooled archive beside it, in whole blocks.
    spool_bytes: u64,
    buffer: Box<[u8]>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        target: PathBuf,
        room: &'a mut dyn Room,
        limits: &'a Limits,
        packed: Rc<Cell<u64>>,
    ) -> Self {
        Self {
            target,
            room,
            limits,
            packed,
            taken: HashMap::new(),
            n_entries: 0,
            unpacked_bytes: 0,
            disk_bytes: 0,
            spool_bytes: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    pub(super) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Bounds a stream of everything that the archive unpacks to, files or not.
    pub(super) fn bounded<R: Read>(&self, stream: R) -> Bounded<R> {
        Bounded::new(stream, *self.limits, Rc::clone(&self.packed))
    }

    /// Takes in a folder.
    pub(super) fn folder(&mut self, name: &[u8], keep: Keep) -> Result<(), UnpackError> {
        self.count_entry()?;
        let path = safe_path(name, self.limits).map_err(|flaw| Flaw::entry(name, flaw))?;
        if path.is_empty() || is_mac_litter(&path) {
            return Ok(());
        }
        self.folders_down_to(&path, keep)
    }

    /// Takes in a file of `size_bytes` announced bytes.
    pub(super) fn file(
        &mut self,
        name: &[u8],
        size_bytes: u64,
        content: &mut dyn Read,
        keep: Keep,
    ) -> Result<(), UnpackError> {
        self.count_entry()?;
        let refuse = |flaw| Flaw::entry(name, flaw);
        let path = safe_path(name, self.limits).map_err(refuse)?;
        if path.is_empty() {
            return Err(refuse(EntryFlaw::Nameless).into());
        }
        if size_bytes > self.limits.max_file_bytes {
            return Err(refuse(EntryFlaw::TooLarge(self.limits.max_file_bytes)).into());
        }
        let keep = if is_mac_litter(&path) { Keep::CheckOnly } else { keep };
        let mut file = match keep {
            Keep::Write => Some(self.create(&path)?),
            Keep::CheckOnly => None,
        };
        let n_copied = self.copy(name, content, file.as_mut())?;
        if n_copied != size_bytes {
            return Err(Flaw::Truncated.into());
        }
        if file.is_some() {
            self.disk_bytes += in_blocks(n_copied);
            self.room.cover(self.spool_bytes + self.disk_bytes)?;
        }
        Ok(())
    }

    /// Writes the archive itself to disk, for a format that must be read from its end.
    pub(super) fn spool(&mut self, packed: &mut dyn Read, to: &Path) -> Result<(), UnpackError> {
        let mut file = create_file(to).map_err(UnpackError::Disk)?;
        let mut n_spooled = 0;
        loop {
            let n_read = read_some(packed, &mut self.buffer)?;
            if n_read == 0 {
                return Ok(());
            }
            n_spooled += n_read as u64;
            if n_spooled > self.limits.max_total_bytes {
                return Err(Flaw::TooLarge(self.limits.max_total_bytes).into());
            }
            self.spool_bytes = in_blocks(n_spooled);
            self.room.cover(self.spool_bytes)?;
            file.write_all(&self.buffer[..n_read]).map_err(UnpackError::Disk)?;
        }
    }

    /// Ends the intake: moves what was taken in to `artifact` and returns its bytes on disk.
    pub(super) fn settle(self, artifact: &Path, layout: Layout) -> Result<u64, UnpackError> {
        let files = || self.taken.iter().filter(|it| *it.1 == Kind::File).map(|it| it.0.as_str());
        let Some(first) = files().next() else {
            return Err(Flaw::Empty.into());
        };
        if files().nth(1).is_none() && is_archive(&self.target.join(first), first)? {
            return Err(Flaw::OnlyAnArchive(first.to_owned()).into());
        }
        let wrapping = wrapping_folder(files()).filter(|_| layout == Layout::Unwrapped);
        let moved = match wrapping {
            None => fs::rename(&self.target, artifact),
            Some(wrapping) => fs::rename(self.target.join(wrapping), artifact)
                // Empty folders may lie beside it.
                .and_then(|()| fs::remove_dir_all(&self.target)),
        };
        moved.map_err(UnpackError::Disk)?;
        Ok(self.disk_bytes)
    }

    /// Counts what an archive holds one by one, also what leaves nothing on disk.
    pub(super) fn count_entry(&mut self) -> Result<(), Flaw> {
        self.n_entries += 1;
        if self.n_entries > self.limits.max_entries {
            return Err(Flaw::TooManyEntries(self.limits.max_entries));
        }
        Ok(())
    }

    /// Makes a new file, and the folders above it.
    fn create(&mut self, path: &str) -> Result<File, UnpackError> {
        let refuse = |flaw| Flaw::entry(path.as_bytes(), flaw);
        self.folders_down_to(path.rsplit_once('/').map_or("", |(parent, _)| parent), Keep::Write)?;
        match self.taken.insert(path.to_owned(), Kind::File) {
            None => {}
            Some(Kind::File) => return Err(refuse(EntryFlaw::Duplicate).into()),
            Some(Kind::Folder) => return Err(refuse(EntryFlaw::FileAndFolder).into()),
        }
        create_file(&self.target.join(path)).map_err(|error| match error.kind() {
            // A file system that takes two spellings for the same name.
            io::ErrorKind::AlreadyExists => refuse(EntryFlaw::Duplicate).into(),
            _ => UnpackError::Disk(error),
        })
    }

    fn folders_down_to(&mut self, path: &str, keep: Keep) -> Result<(), UnpackError> {
        if keep == Keep::CheckOnly {
            return Ok(());
        }
        fs::create_dir_all(&self.target).map_err(UnpackError::Disk)?;
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for folder in ends.map(|end| &path[..end]).filter(|it| !it.is_empty()) {
            match self.taken.get(folder) {
                Some(Kind::Folder) => continue,
                Some(Kind::File) => {
                    return Err(Flaw::entry(folder.as_bytes(), EntryFlaw::FileAndFolder).into());
                }
                None => {}
            }
            self.count_entry()?;
            self.taken.insert(folder.to_owned(), Kind::Folder);
            self.disk_bytes += DISK_BLOCK;
            self.room.cover(self.spool_bytes + self.disk_bytes)?;
            fs::create_dir(self.target.join(folder)).map_err(UnpackError::Disk)?;
        }
        Ok(())
    }

    /// Copies an entry's bytes and returns their number.
    fn copy(
        &mut self,
        name: &[u8],
        content: &mut dyn Read,
        mut file: Option<&mut File>,
    ) -> Result<u64, UnpackError> {
        let mut n_copied = 0;
        loop {
            let n_read = read_some(content, &mut self.buffer)?;
            if n_read == 0 {
                return Ok(n_copied);
            }
            n_copied += n_read as u64;
            self.unpacked_bytes += n_read as u64;
            self.check_sizes(name, n_copied)?;
            if let Some(file) = &mut file {
                self.room.cover(self.spool_bytes + self.disk_bytes + in_blocks(n_copied))?;
                file.write_all(&self.buffer[..n_read]).map_err(UnpackError::Disk)?;
            }
        }
    }

    fn check_sizes(&self, name: &[u8], file_bytes: u64) -> Result<(), Flaw> {
        let max_file_bytes = self.limits.max_file_bytes;
        if file_bytes > max_file_bytes {
            return Err(Flaw::entry(name, EntryFlaw::TooLarge(max_file_bytes)));
        }
        self.limits.check_unpacked(self.unpacked_bytes, self.packed.get())
    }
}

/// What `bytes` of a file take on disk.
pub(super) fn in_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(DISK_BLOCK).max(1) * DISK_BLOCK
}

/// Makes a new file that is never executable, and follows nothing.
fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Flaw> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(Flaw::of_read),
        }
    }
}

/// Whether the only file of an archive is an archive again. A TorchScript file is a zip, so a zip
/// counts only by its name.
fn is_archive(file: &Path, name: &str) -> Result<bool, UnpackError> {
    let mut head = Vec::with_capacity(BLOCK);
    let file = File::open(file).map_err(UnpackError::Disk)?;
    file.take(BLOCK as u64).read_to_end(&mut head).map_err(UnpackError::Disk)?;
    let extension = Path::new(name).extension().and_then(|it| it.to_str());
    Ok(match Format::sniff(&head) {
        Ok(Format::Zip) => matches!(extension, Some("zip" | "mar")),
        Ok(Format::Tar) => head.iter().any(|byte| *byte != 0),
        Ok(Format::Gzip | Format::Zstd) => true,
        Err(_) => false,
    })
}
