//! Each kind of hostile or broken archive, and the exact words with which it is refused.

use super::*;
use tar::EntryType;

#[track_caller]
fn refused_with(archive: &[u8], limits: &Limits, expected: &str) {
    assert_eq!(unpacked(archive, limits), Err(expected.to_owned()));
}

#[track_caller]
fn refused(archive: &[u8], expected: &str) {
    refused_with(archive, &Limits::DEFAULT, expected);
}

/// A tar with a good file before and after a bad entry.
fn with(bad: Vec<u8>) -> Vec<u8> {
    tar_of(&[file("a", b"good"), bad, file("z", b"good")])
}

#[track_caller]
fn name_refused(name: &str, expected: &str) {
    refused(&with(file(name, b"x")), expected);
    refused(&gzip(&with(file(name, b"x"))), expected);
    refused(&zip_of(&[("a", b"good"), (name, b"x")]), expected);
}

#[track_caller]
fn type_refused(kind: EntryType, expected: &str) {
    refused(&with(entry(b"bad", kind, b"")), expected);
}

/// A zip whose bytes `from` are replaced by `to`, in the local header and in the table.
fn edited(zip: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut zip = zip.to_vec();
    for at in 0..=zip.len() - from.len() {
        if &zip[at..at + from.len()] == from {
            zip[at..at + from.len()].copy_from_slice(to);
        }
    }
    zip
}

#[test]
fn paths_that_lead_outside() {
    name_refused("/etc/passwd", "entry `/etc/passwd` has an absolute path");
    name_refused("../x", "entry `../x` climbs out with `..`");
    name_refused("a/../../x", "entry `a/../../x` climbs out with `..`");
    name_refused(
        "..\\x",
        "entry `..\\\\x` has a backslash in its path, which separates folders on Windows",
    );
    name_refused("C:x", "entry `C:x` names a Windows drive");
}

#[test]
fn names_that_are_none() {
    name_refused("a\nb", "entry `a\\nb` has a control character in its path");
    refused(&with(file("", b"x")), "entry `` has no name");
    refused(&with(file("./", b"x")), "entry `./` has no name");
    let latin = with(entry(b"mod\xe8le", EntryType::Regular, b""));
    refused(&latin, "entry `mod\u{fffd}le` has a path that is not UTF-8");
    let nul = with(entry(b"x", EntryType::GNULongName, b"a\0b\0"));
    refused(&nul, "entry `a\\0b` has a control character in its path");
}

#[test]
fn entries_that_are_neither_file_nor_folder() {
    type_refused(EntryType::Symlink, "entry `bad` is a symbolic link");
    type_refused(EntryType::Link, "entry `bad` is a hard link");
    type_refused(EntryType::Char, "entry `bad` is a device");
    type_refused(EntryType::Block, "entry `bad` is a device");
    type_refused(EntryType::Fifo, "entry `bad` is a named pipe");
    type_refused(EntryType::Continuous, "entry `bad` is of unknown type `7`");
    type_refused(EntryType::new(b'V'), "entry `bad` is of unknown type `V`");
    type_refused(EntryType::new(1), "entry `bad` is of unknown type `\\u{1}`");
}

#[test]
fn special_files_in_a_zip() {
    let of_mode = |mode: u32| {
        let zip = zip_of(&[("bad", b"/etc/passwd")]);
        // The external attributes of a regular file, as the writer sets them: the upper half of
        // four bytes is the Unix mode.
        edited(&zip, &(0o100_644_u32 << 16).to_le_bytes(), &(mode << 16).to_le_bytes())
    };
    refused(&of_mode(0o120_777), "entry `bad` is a symbolic link");
    refused(&of_mode(0o020_644), "entry `bad` is a device");
    refused(&of_mode(0o060_644), "entry `bad` is a device");
    refused(&of_mode(0o010_644), "entry `bad` is a named pipe");
    refused(&of_mode(0o140_644), "entry `bad` is a socket");
}

#[test]
fn sparse_files() {
    let mut header = tar::Header::new_gnu();
    header.set_path("holes").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
    header.set_cksum();
    refused(&with(header.as_bytes().to_vec()), "entry `holes` is a sparse file");

    let posix = entry(b"x", EntryType::XHeader, b"22 GNU.sparse.major=1\n");
    refused(&with(posix), "entry `z` is a sparse file");
}

#[test]
fn one_name_for_two_things() {
    refused(&with(file("./a", b"x")), "entry `a` occurs twice");
    refused(&with(file("a/b", b"x")), "entry `a` is both a file and a folder");
    refused(&with(entry(b"a", EntryType::Directory, b"")), "entry `a` is both a file and a folder");
    refused(&tar_of(&[file("d/a", b""), file("d", b"")]), "entry `d` is both a file and a folder");
    let zip = zip_of(&[("same", b"1"), ("sbme", b"2")]);
    refused(&edited(&zip, b"sbme", b"same"), "two of its entries have the same name");
}

#[test]
fn sizes_beyond_their_bounds() {
    // Of a tar the headers count, and the two empty blocks at its end.
    let limits = Limits { max_file_bytes: 100, max_total_bytes: 3072, ..Limits::DEFAULT };
    let of = |sizes: &[usize]| {
        let names = ["a", "b", "c"];
        let content = |size: &usize| vec![7; *size];
        let contents: Vec<_> = sizes.iter().map(content).collect();
        let files: Vec<_> = names.iter().copied().zip(contents.iter().map(Vec::as_slice)).collect();
        let tar = tar_of(&files.iter().map(|(name, it)| file(name, it)).collect::<Vec<_>>());
        [zip_of(&files), gzip(&tar), zstd(&tar), tar]
    };
    for archive in of(&[100, 50]) {
        assert!(unpacked(&archive, &limits).is_ok());
    }
    for archive in of(&[101]) {
        refused_with(&archive, &limits, "entry `a` is larger than 100 bytes");
    }
    for archive in &of(&[100, 51, 0])[1..] {
        refused_with(archive, &limits, "it unpacks to more than 3072 bytes");
    }
    let zips = of(&[100, 100, 100]);
    let limits = Limits { max_total_bytes: 290, ..limits };
    refused_with(&zips[0], &limits, "it unpacks to more than 290 bytes");
}

#[test]
fn a_zip_that_lies_about_its_sizes() {
    // Deflated zeros, with a smaller size in all its headers.
    let zip = zip_of(&[("zeros", &[0; 5000])]);
    let lying = edited(&zip, &5000_u32.to_le_bytes(), &50_u32.to_le_bytes());
    refused(&lying, "it is corrupt: File is larger than its declared uncompressed size");
}

#[test]
fn decompression_bombs() {
    let limits = Limits { max_ratio: 20, ratio_floor_bytes: 100_000, ..Limits::DEFAULT };
    let bomb = |n_bytes| tar_of(&[file("zeros", &vec![0; n_bytes])]);
    let text = "it unpacks to more than 20 times its size, like a decompression bomb";
    refused_with(&gzip(&bomb(100_001)), &limits, text);
    refused_with(&zstd(&bomb(100_001)), &limits, text);
    refused_with(&zip_of(&[("zeros", &vec![0; 100_001])]), &limits, text);
    for harmless in [gzip(&bomb(98_000)), zstd(&bomb(98_000)), bomb(200_000)] {
        assert!(unpacked(&harmless, &limits).is_ok());
    }
    // Also where LibTorch would be the one to inflate it.
    let model = zip_of(&[("m/data.pkl", &vec![0; 100_001]), ("m/version", b"3")]);
    refused_with(&model, &limits, text);
}

#[test]
fn too_many_entries() {
    let limits = Limits { max_entries: 3, ..Limits::DEFAULT };
    let text = "it holds more than 3 files and folders";
    let names = ["a", "b", "c", "d"].map(|name| (name, &b""[..]));
    let tar = |n: usize| tar_of(&names[..n].iter().map(|it| file(it.0, it.1)).collect::<Vec<_>>());
    assert!(unpacked(&tar(3), &limits).is_ok());
    refused_with(&tar(4), &limits, text);
    assert!(unpacked(&zip_of(&names[..3]), &limits).is_ok());
    refused_with(&zip_of(&names), &limits, text);
    // Folders that are only implied cost an inode too.
    refused_with(&tar_of(&[file("1/2/3/a", b"")]), &limits, text);
}

#[test]
fn paths_too_long_or_too_deep() {
    let limits = Limits { max_path_bytes: 20, max_depth: 3, ..Limits::DEFAULT };
    assert!(unpacked(&tar_of(&[file("1/2/3456789012345678", b"")]), &limits).is_ok());
    let long = tar_of(&[file("1/2/34567890123456789", b"")]);
    refused_with(&long, &limits, "entry `1/2/34567890123456789` has a path longer than 20 bytes");
    refused_with(
        &tar_of(&[file("1/2/3/4", b"")]),
        &limits,
        "entry `1/2/3/4` is nested more than 3 deep",
    );
    let name = "n".repeat(256);
    let text = format!("entry `{}…` has a name longer than 255 bytes", &name[..120]);
    refused(&with(entry(b"x", EntryType::GNULongName, name.as_bytes())), &text);
}

#[test]
fn metadata_without_end() {
    let limits = Limits { max_metadata_bytes: 8192, ..Limits::DEFAULT };
    let text = "its headers and names take more than 8192 bytes at once";
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::Directory,
    ] {
        refused_with(&with(entry(b"x", kind, &[b'x'; 9000])), &limits, text);
    }
    // A zip's table of contents may not be larger than so many entries need.
    let limits = Limits { max_entries: 2, ..Limits::DEFAULT };
    let names: Vec<_> = (0..2000).map(|n| format!("{n:0200}")).collect();
    let zip = zip_of(&names.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    let allowed = 4 * (22 + 0xffff) + 2 * 512;
    let text = format!("its headers and names take more than {allowed} bytes at once");
    refused_with(&zip, &limits, &text);
}

#[test]
fn truncation_anywhere() {
    let tar = tar_of(&[file("model.pt", &[1; 600]), file("b", b"x")]);
    // Within the header, the content, the padding, and where one entry ends.
    for cut in (512..tar.len() - 1023).step_by(64) {
        refused(&tar[..cut], "it is truncated");
    }
    let gzipped = gzip(&tar);
    for cut in 2..gzipped.len() {
        refused(&gzipped[..cut], "it is truncated");
    }
    let zstandard = zstd(&tar);
    for cut in 4..zstandard.len() {
        refused(&zstandard[..cut], "it is truncated");
    }
    let zip = zip_of(&[("model.pt", &[1; 600]), ("b", b"x")]);
    for cut in (4..zip.len()).step_by(5) {
        refused(&zip[..cut], "it is truncated");
    }
}

#[test]
fn wrong_checksums() {
    let tar = tar_of(&[file("model.pt", &[1; 600])]);
    let mut gzipped = gzip(&tar);
    let crc = gzipped.len() - 8;
    gzipped[crc] ^= 1;
    refused(&gzipped, "it is corrupt: corrupt gzip stream does not have a matching checksum");
    let mut zstandard = zstd(&tar);
    *zstandard.last_mut().unwrap() ^= 1;
    refused(&zstandard, "it is corrupt: Restored data doesn't match checksum");
    let zip = zip_of(&[("a", b"content")]);
    let crc = flate2::Crc::new();
    let crc = {
        let mut crc = crc;
        crc.update(b"content");
        crc.sum()
    };
    let zip = edited(&zip, &crc.to_le_bytes(), &(crc ^ 1).to_le_bytes());
    refused(&zip, "it is corrupt: Invalid checksum");
    let mut header = tar;
    header[0] ^= 1;
    refused(&header, "it is corrupt: archive header checksum mismatch");
}

#[test]
fn bytes_after_the_end() {
    let tar = tar_of(&[file("a", b"x")]);
    let tailed = |bytes: &[u8]| [bytes, b"tail"].concat();
    refused(&tailed(&tar), "something follows the end of its tar");
    refused(&gzip(&tailed(&tar)), "something follows the end of its tar");
    refused(&tailed(&gzip(&tar)), "something follows the end of its gzip");
    refused(&tailed(&zstd(&tar)), "it is corrupt: Unknown frame descriptor");
    refused(&tailed(&zip_of(&[("a", b"x")])), "something follows the end of its zip");
    let padded = |n_bytes: usize| [tar.as_slice(), &vec![0; n_bytes]].concat();
    assert!(unpacked(&padded(1 << 20 >> 1), &Limits::DEFAULT).is_ok());
    refused(&padded(1 << 21), "something follows the end of its tar");
}

#[test]
fn encrypted_entries() {
    // The lowest bit of the flags, in the local header and in the table.
    let mut zip = zip_of(&[("secret", b"x")]);
    let table = zip.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
    zip[6] |= 1;
    zip[table + 8] |= 1;
    refused(&zip, "entry `secret` is encrypted");
}

#[test]
fn entries_of_a_zip_that_share_bytes() {
    let zip = zip_of(&[("a", b"one"), ("b", b"two")]);
    let tables: Vec<_> =
        zip.windows(4).enumerate().filter(|it| it.1 == b"PK\x01\x02").map(|it| it.0).collect();
    let mut overlapping = zip.clone();
    // The second entry's offset becomes that of the first.
    overlapping[tables[1] + 42..tables[1] + 46].copy_from_slice(&0_u32.to_le_bytes());
    refused(&overlapping, "two of its entries share the same bytes");
}

#[test]
fn methods_that_are_not_supported() {
    let mut zip = zip_of(&[("a", b"one")]);
    let table = zip.windows(4).position(|it| it == b"PK\x01\x02").unwrap();
    zip[8] = 12;
    zip[table + 10] = 12;
    refused(&zip, "it cannot be read here: compression method not supported: 12");
}

#[test]
fn archives_that_hold_nothing_or_only_another() {
    let empty = tar_of(&[]);
    refused(&empty, "it holds no file");
    refused(&gzip(&empty), "it holds no file");
    refused(&tar_of(&[entry(b"d/", EntryType::Directory, b"")]), "it holds no file");
    refused(&tar_of(&[file(".DS_Store", b"x")]), "it holds no file");
    refused(&zip_of(&[]), "it holds no file");

    let inner = tar_of(&[file("model.pt", b"x")]);
    let only =
        |name: &str| format!("it holds only another archive, `{name}`: upload that one itself");
    refused(&tar_of(&[file("m.tar.gz", &gzip(&inner))]), &only("m.tar.gz"));
    refused(&zip_of(&[("m.tar", &inner)]), &only("m.tar"));
    refused(&tar_of(&[file("m.zip", &zip_of(&[("x", b"x")]))]), &only("m.zip"));
    refused(&gzip(&gzip(&inner)), "it is a gzip inside gzip: upload the gzip itself");
    refused(&zstd(&torchscript()), "it is a zip inside zstd: upload the zip itself");
    refused(&gzip(b"weights"), "its gzip stream holds no tar");
}

#[test]
fn what_is_no_archive_at_all() {
    let text = |what| {
        format!("it is {what}, not a tar (plain, gzip or zstd), a zip or a TorchScript file")
    };
    refused(b"", &text("empty"));
    refused(b"hello", &text("something unknown"));
    refused(b"\x80\x02}", &text("a Python pickle"));
    refused(b"BZh9", &text("bzip2"));
}
