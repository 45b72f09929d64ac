//! Random and mutated archives: whatever they are, nothing panics and nothing gets out.

use super::*;
use proptest::prelude::*;

fn archives() -> Vec<Vec<u8>> {
    let tar = tar_of(&[
        entry(b"sub/", tar::EntryType::Directory, b""),
        entry(b"x", tar::EntryType::XHeader, b"18 path=sub/long\n\n"),
        file("sub/model.pt", &[5; 700]),
        entry(b"x", tar::EntryType::GNULongName, b"sub/longer\0"),
        file("labels.txt", b"cat\n"),
    ]);
    let zip = zip_of(&[("sub/model.pt", &[5; 700]), ("labels.txt", b"cat\n")]);
    vec![gzip(&tar), zstd(&tar), tar, zip, torchscript()]
}

/// Small, so that a mutation that asks for much is refused soon.
const LIMITS: Limits = Limits {
    max_total_bytes: 1 << 20,
    max_file_bytes: 1 << 19,
    max_entries: 20,
    ..Limits::DEFAULT
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_harmless(
        magic in prop::sample::select(vec![
            &b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        // `unpacked` itself asserts that nothing was written outside, and only plain files.
        let _ = unpacked(&[magic, &bytes].concat(), &LIMITS);
    }

    #[test]
    fn mutated_archives_are_harmless(
        which in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut archive = archives().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        if let Some(cut) = cut {
            archive.truncate(cut.index(archive.len()));
        }
        let _ = unpacked(&archive, &LIMITS);
    }

    /// Headers with right checksums get further than mutated ones.
    #[test]
    fn hostile_tar_entries_are_harmless(
        entries in prop::collection::vec(
            ("[a./\\\\:~\0]{0,12}", any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)),
            0..6,
        ),
    ) {
        let entry = |(name, kind, content): &(String, u8, Vec<u8>)| {
            let kinds = b"0123456LKxgS5\x00";
            let kind = kinds[usize::from(*kind) % kinds.len()];
            super::entry(name.as_bytes(), tar::EntryType::new(kind), content)
        };
        let archive = tar_of(&entries.iter().map(entry).collect::<Vec<_>>());
        let _ = unpacked(&archive, &LIMITS);
    }
}
