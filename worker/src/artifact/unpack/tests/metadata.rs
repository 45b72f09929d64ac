//! What is in an archive beside its files, and a model's own table of contents.

use super::*;
use tar::EntryType;

#[track_caller]
fn refused_with(archive: &[u8], limits: &Limits, expected: &str) {
    assert_eq!(unpacked(archive, limits), Err(expected.to_owned()));
}

/// So many members that are no files, and a file.
fn of_metadata(n: usize, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut members = Vec::new();
    for nth in 0..n {
        members.push(entry(b"x", kind, content));
        if kind != EntryType::XGlobalHeader {
            members.push(file(&nth.to_string(), b""));
        }
    }
    members.push(file("model.pt", b"weights"));
    tar_of(&members)
}

#[test]
fn global_headers_without_end_are_entries_too() {
    let limits = Limits { max_entries: 10, ..Limits::DEFAULT };
    let headers = |n| of_metadata(n, EntryType::XGlobalHeader, b"19 comment=whatever\n");
    assert!(unpacked(&headers(9), &limits).is_ok());
    refused_with(&headers(10), &limits, "it holds more than 10 files and folders");
}

#[test]
fn a_tar_of_nothing_but_metadata_is_bounded_as_files_are() {
    let limits = Limits { max_entries: 10_000, max_depth: 300, ..Limits::DEFAULT };
    let total = Limits { max_total_bytes: 2_000_000, ..limits };
    let ratio = Limits { ratio_floor_bytes: 500_000, max_ratio: 5, ..limits };
    let comment = |n: usize| format!("{} comment={}\n", n + 16, "0".repeat(n)).into_bytes();
    for (kind, content) in [
        (EntryType::XGlobalHeader, comment(99_985)),
        (EntryType::XHeader, comment(99_985)),
        (EntryType::GNULongName, b"0/".repeat(200)),
    ] {
        let n = 3_000_000 / content.len().next_multiple_of(512);
        let tar = of_metadata(n, kind, &content);
        refused_with(&tar, &total, "it unpacks to more than 2000000 bytes");
        let bomb = "it unpacks to more than 5 times its size, like a decompression bomb";
        refused_with(&gzip(&tar), &ratio, bomb);
        refused_with(&zstd(&tar), &ratio, bomb);
    }
}

#[test]
fn the_table_of_a_model_within_an_archive_is_held_against_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let of = |zip: &[u8], limits: &Limits| {
        fs::write(&path, zip).unwrap();
        contents_bytes(&path, limits).map_err(|error| error.to_string())
    };
    let zip = zip_of(&[("m/data.pkl", &vec![0; 100_001]), ("m/version", b"3")]);
    assert_eq!(of(&zip, &Limits::DEFAULT), Ok(100_002));
    let limits = Limits { max_ratio: 20, ratio_floor_bytes: 100_000, ..Limits::DEFAULT };
    let bomb = "it unpacks to more than 20 times its size, like a decompression bomb";
    assert_eq!(of(&zip, &limits), Err(bomb.to_owned()));
    let limits = Limits { max_total_bytes: 100_001, ..Limits::DEFAULT };
    assert_eq!(of(&zip, &limits), Err("it unpacks to more than 100001 bytes".to_owned()));
    let limits = Limits { max_entries: 1, ..Limits::DEFAULT };
    assert_eq!(of(&zip, &limits), Err("it holds more than 1 files and folders".to_owned()));
    // A second end record in the comment of the first would be LibTorch's choice.
    let end = zip.len() - 22;
    let mut two = [zip.as_slice(), &zip[end..]].concat();
    two[zip.len() - 2] = 22;
    two[zip.len() + 20] = 1;
    let text = "something follows the end of its zip";
    assert_eq!(of(&two, &Limits::DEFAULT), Err(text.to_owned()));
}
