//! Archives made here, good and bad, and what becomes of them.

mod hazards;
mod metadata;
mod mutations;

use super::*;
use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
};
use zip::{ZipWriter, write::SimpleFileOptions};

/// A disk of so many bytes.
struct Disk(u64);

impl Room for Disk {
    fn cover(&mut self, total_bytes: u64) -> Result<(), NoRoom> {
        let no_room = NoRoom { needed_bytes: total_bytes, in_use_bytes: 0, budget_bytes: self.0 };
        if total_bytes <= self.0 { Ok(()) } else { Err(no_room) }
    }
}

/// Unpacks an archive and returns path and content of all files, or the error's text.
fn unpacked(archive: &[u8], limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let packed = Packed::new(archive, archive.len() as u64);
    let outcome = unpack(&packed, &folder, &mut Disk(u64::MAX), limits, Layout::Unwrapped);
    let n_beside = fs::read_dir(outer.path()).unwrap().count();
    assert_eq!(n_beside, 1, "something was written outside");
    assert_plain(&folder);
    outcome.map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    collect(&folder.join(ARTIFACT), "", &mut files);
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
}

#[test]
fn what_shall_lie_as_it_was_packed_keeps_its_folder() {
    let archive = gzip(&tar_of(&[file("1/saved_model.pb", b"graph")]));
    let folder = tempfile::tempdir().unwrap();
    let packed = Packed::new(archive.as_slice(), archive.len() as u64);
    let (limits, layout) = (Limits::DEFAULT, Layout::AsPacked);
    unpack(&packed, folder.path(), &mut Disk(u64::MAX), &limits, layout).unwrap();
    let mut files = BTreeMap::new();
    collect(&folder.path().join(ARTIFACT), "", &mut files);
    assert_eq!(files.into_keys().collect::<Vec<_>>(), ["1/saved_model.pb"]);
}

/// Only folders and files that nobody can run, whatever the archive said.
fn assert_plain(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_dir() || metadata.is_file(), "{}", path.display());
        if metadata.is_dir() {
            assert_plain(&path);
        } else {
            assert_eq!(metadata.permissions().mode() & 0o7133, 0, "{}", path.display());
        }
    }
}

/// A tar entry as hostile as one likes: nothing of it is checked.
fn entry(name: &[u8], kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o4777);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name.as_bytes(), tar::EntryType::Regular, content)
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        if name.ends_with('/') {
            zip.add_directory(*name, SimpleFileOptions::default()).unwrap();
        } else {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

fn torchscript() -> Vec<u8> {
    zip_of(&[
        ("net/data.pkl", b"pickle"),
        ("net/code/__torch__.py", b"code"),
        ("net/constants.pkl", b"constants"),
        ("net/version", b"3\n"),
    ])
}

#[track_caller]
fn check(archive: &[u8], expected: &[(&str, &[u8])]) {
    let expected = expected.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec()));
    assert_eq!(unpacked(archive, &Limits::DEFAULT), Ok(expected.collect()));
}

#[test]
fn every_format_gives_the_same_files() {
    let files: [(&str, &[u8]); 2] = [("labels.txt", b"cat\n"), ("sub/model.pt", b"weights")];
    let tar = tar_of(&[
        entry(b"./", tar::EntryType::Directory, b""),
        file("./labels.txt", b"cat\n"),
        entry(b"sub/", tar::EntryType::Directory, b""),
        file("sub/model.pt", b"weights"),
    ]);
    check(&tar, &files);
    check(&gzip(&tar), &files);
    check(&zstd(&tar), &files);
    check(&zip_of(&[("sub/", b""), files[0], files[1]]), &files);
}

#[test]
fn many_gzip_members_and_zstd_frames_are_one_archive() {
    let tar = tar_of(&[file("model.pt", &[7; 3000])]);
    let (first, second) = tar.split_at(1000);
    let files: [(&str, &[u8]); 1] = [("model.pt", &[7; 3000])];
    check(&[gzip(first), gzip(b""), gzip(second)].concat(), &files);
    check(&[zstd(first), zstd(second)].concat(), &files);
}

#[test]
fn names_longer_than_a_header_are_read_in_gnus_and_in_posixs_way() {
    let name = format!("{}/model.pt", "n".repeat(200));
    let files: [(&str, &[u8]); 2] = [(&name, b"weights"), ("x", b"")];
    let mut gnu = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        gnu.append_data(&mut header, name, content).unwrap();
    }
    check(&gnu.into_inner().unwrap(), &files);

    let record = format!(" path={name}\n");
    let attributes = format!("{}{record}", record.len() + 3);
    let posix = tar_of(&[
        entry(b"x", tar::EntryType::XGlobalHeader, b"19 comment=whatever\n"),
        entry(b"x", tar::EntryType::XHeader, attributes.as_bytes()),
        file("short", b"weights"),
        file("x", b""),
    ]);
    check(&posix, &files);
}

#[test]
fn a_bare_torchscript_file_is_kept_packed() {
    let model = torchscript();
    check(&model, &[("model.pt", &model)]);
    let checkpoint = zip_of(&[("archive/data.pkl", b"pickle"), ("archive/version", b"3")]);
    check(&checkpoint, &[("model.pt", &checkpoint)]);
}

#[test]
fn a_zip_around_a_model_is_an_archive() {
    let model = torchscript();
    let files: [(&str, &[u8]); 2] = [("manifold.toml", b""), ("net.pt", &model)];
    check(&zip_of(&files), &files);
    check(&zip_of(&files[1..]), &files[1..]);
    check(&gzip(&tar_of(&[file("net.pt", &model)])), &files[1..]);
}

#[test]
fn one_folder_around_everything_is_left_out() {
    let wrapped = tar_of(&[
        entry(b"empty/", tar::EntryType::Directory, b""),
        file("model/model.pt", b"weights"),
        file("model/labels.txt", b"cat\n"),
    ]);
    check(&wrapped, &[("labels.txt", b"cat\n"), ("model.pt", b"weights")]);
    check(&zip_of(&[("code/inference.py", b"")]), &[("code/inference.py", b"")]);
}

#[test]
fn what_a_mac_adds_is_left_out() {
    let tar = tar_of(&[
        file("._model.pt", b"attributes"),
        file("model.pt", b"weights"),
        file(".DS_Store", b"x"),
        entry(b"__MACOSX/", tar::EntryType::Directory, b""),
    ]);
    check(&tar, &[("model.pt", b"weights")]);
}

#[test]
fn a_large_file_comes_out_whole() {
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    check(&gzip(&tar_of(&[file("model.pt", &content)])), &[("model.pt", &content)]);
}

#[test]
fn room_is_asked_for_in_blocks_before_it_is_used() {
    let room = |archive: &[u8], disk_bytes: u64| {
        let folder = tempfile::tempdir().unwrap();
        let packed = Packed::new(archive, archive.len() as u64);
        let unpacked = unpack(
            &packed,
            folder.path(),
            &mut Disk(disk_bytes),
            &Limits::DEFAULT,
            Layout::Unwrapped,
        );
        unpacked.map_err(|error| error.to_string())
    };
    // Two blocks for the file, one for its folder.
    let tar = tar_of(&[file("sub/a", &[1; 4097]), file("b", b"")]);
    assert_eq!(room(&tar, 4 * 4096), Ok(4 * 4096));
    let error = room(&tar, 4 * 4096 - 1).unwrap_err();
    assert_eq!(
        error,
        "16384 more bytes do not fit into its budget of 16383 bytes, of which 0 cannot go now"
    );
    // A zip lies there beside its files.
    let zip = zip_of(&[("a", &[1; 5000]), ("b", b"")]);
    assert_eq!(room(&zip, 4 * 4096), Ok(3 * 4096));
    assert!(room(&zip, 4 * 4096 - 1).is_err());
}

#[test]
fn a_store_that_breaks_off_is_not_the_archives_fault() {
    let archive = gzip(&tar_of(&[file("model.pt", &[1; 5000])]));
    for announced in [archive.len() as u64 + 1, archive.len() as u64 - 1] {
        let folder = tempfile::tempdir().unwrap();
        let packed = Packed::new(archive.as_slice(), announced);
        unpack(&packed, folder.path(), &mut Disk(u64::MAX), &Limits::DEFAULT, Layout::Unwrapped)
            .unwrap_err();
        let failure = packed.take_failure().unwrap().to_string();
        assert_eq!(failure, format!("{} of {announced} announced bytes came", archive.len()));
    }
}
