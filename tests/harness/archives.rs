//! Archives for tests, made in memory.

use flate2::{Compression, write::GzEncoder};
use std::path::{Path, PathBuf};

/// A model that answers with its input, and needs no LibTorch.
pub fn echo() -> Vec<u8> {
    of_files(&[("manifold.toml", b"[model]\nruntime = \"echo\"\n")])
}

/// An echo model whose archive takes room on disk and time to fetch: `n_bytes` that do not compress.
pub fn echo_with_padding(n_bytes: usize) -> Vec<u8> {
    let padding = noise(n_bytes);
    let manifest: &[u8] = b"[model]\nruntime = \"echo\"\n";
    of_files(&[("manifold.toml", manifest), ("padding.bin", &padding)])
}

/// An echo model that says first who it is, with as much padding.
pub fn echo_that_says(text: &str, n_bytes: usize) -> Vec<u8> {
    let padding = noise(n_bytes);
    let manifest: &[u8] = b"[model]\nruntime = \"echo\"\nfile = \"text\"\n";
    of_files(&[("manifold.toml", manifest), ("text", text.as_bytes()), ("padding.bin", &padding)])
}

/// A `.tar.gz` of these files.
pub fn of_files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).expect("memory takes any file");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("memory takes any archive")
}

/// Bytes that do not compress and are the same every time (xorshift).
fn noise(n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(n_bytes).collect()
}

/// Where `make models` puts real models.
pub fn zoo_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.manifold/models")
}

/// A real model that `make models` has made.
pub fn zoo(name: &str) -> Vec<u8> {
    let path = zoo_folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error} (make models)", path.display()))
}
