//! Promise: a hostile archive is refused with what is wrong with it, and leaves nothing behind.
//!
//! What each of the many hazards answers is tested beside the code that unpacks; here, that such an
//! answer reaches the client, whatever the hazard is.

use flate2::{Compression, write::GzEncoder};
use std::{fs, io::Write as _};
use tar::{EntryType, Header};
use tests::{Cluster, archives};

/// A tar of one entry whose name and type no honest tool would write.
fn entry(name: &[u8], kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    if !link.is_empty() {
        header.set_link_name(link).expect("the link fits");
    }
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, content).expect("memory takes any file");
    archive.into_inner().expect("memory takes any archive")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).expect("memory takes any bytes");
    gzip.finish().expect("memory takes any bytes")
}

fn flip(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 0xff;
    bytes
}

/// Each hazard, and what the client is told of it.
fn hazards() -> Vec<(Vec<u8>, &'static str)> {
    let good = archives::echo();
    let half = good[..good.len() / 2].to_vec();
    let file = |name: &[u8]| gzip(&entry(name, EntryType::Regular, "", b"x"));
    let special = |kind, link| gzip(&entry(b"x", kind, link, b""));
    vec![
        (file(b"../escape"), "entry `../escape` climbs out with `..`"),
        (file(b"/etc/escape"), "entry `/etc/escape` has an absolute path"),
        (
            file(b"a\\b"),
            "entry `a\\\\b` has a backslash in its path, which separates folders on Windows",
        ),
        (special(EntryType::Symlink, "/etc/passwd"), "entry `x` is a symbolic link"),
        (special(EntryType::Link, "y"), "entry `x` is a hard link"),
        (special(EntryType::Char, ""), "entry `x` is a device"),
        (special(EntryType::Fifo, ""), "entry `x` is a named pipe"),
        (half, "it is truncated"),
        (flip(good, 5), "it is corrupt: corrupt gzip stream does not have a matching checksum"),
        (
            b"\x00\x01\x02 not an archive".to_vec(),
            "it is something unknown, not a tar (plain, gzip or zstd), a zip or a TorchScript file",
        ),
        (archives::of_files(&[]), "it holds no file"),
    ]
}

#[tokio::test]
async fn hostile_archives_are_refused_by_name_and_leave_nothing() {
    let cluster = Cluster::builder().start().await;
    for (hazard, (archive, expected)) in hazards().into_iter().enumerate() {
        let model = format!("hazard-{hazard}.tar.gz");
        cluster.publish(&model, archive).await;

        let answer = cluster.client().invoke(&model, b"x").await;

        answer.expect_error(424, "ModelError");
        assert_eq!(answer.json()["OriginalStatusCode"], 400, "{}", answer.text());
        let address = format!("s3://manifold-test/models/{model}");
        let expected = format!("artifact `{address}` is refused: {expected}");
        assert_eq!(answer.json()["OriginalMessage"], expected);
    }
    for folder in ["artifacts", "incoming"] {
        let left = fs::read_dir(cluster.cache_folder(0).join(folder));
        let left = left.expect("a worker makes its folders as it starts");
        assert_eq!(left.count(), 0, "{folder}");
    }
    cluster.publish("good.tar.gz", archives::echo()).await;
    assert_eq!(cluster.client().invoke("good.tar.gz", b"x").await.status, 200);
}

#[tokio::test]
async fn an_archive_that_is_no_model_says_what_is_expected() {
    let cluster = Cluster::builder().start().await;
    cluster.publish("text.tar.gz", archives::of_files(&[("readme.txt", b"hello")])).await;
    cluster.publish("broken.tar.gz", archives::of_files(&[("model.pt", b"no TorchScript")])).await;

    let models = [
        (
            "text.tar.gz",
            "expected a TorchScript file (*.pt or *.pth) in the archive's root, found `readme.txt`",
        ),
        (
            "broken.tar.gz",
            "`model.pt` is not a TorchScript module: it is something unknown, not a tar (plain, gzip \
             or zstd), a zip or a TorchScript file",
        ),
    ];
    for (model, expected) in models {
        let answer = cluster.client().invoke(model, b"x").await;
        answer.expect_error(424, "ModelError");
        assert_eq!(answer.json()["OriginalStatusCode"], 400, "{model}");
        let expected = format!("artifact is not a servable model: {expected}");
        assert_eq!(answer.json()["OriginalMessage"], expected);
    }
}
