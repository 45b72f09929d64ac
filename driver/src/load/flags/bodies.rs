//! The flags that say what is sent.

use super::super::plan::Input;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// A little more than the router takes, so that it is the router who refuses.
const MAX_BODY_BYTES: u64 = 32 * 1024 * 1024;

/// A photograph of a cat, for models that look at pictures.
const CAT: &[u8] = include_bytes!("../../../assets/cat.jpg");

/// The bodies of invocations.
#[derive(Clone, Debug, Args)]
pub struct BodyFlags {
    /// File to send. Several are sent in turn [default: a photograph of a cat].
    #[arg(long = "body")]
    pub bodies: Vec<PathBuf>,

    /// Of all bodies [default: by the ending of the file].
    #[arg(long)]
    pub content_type: Option<String>,
}

impl BodyFlags {
    /// Whether the photograph is sent.
    pub(in super::super) fn is_default(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Reads what is sent: without a file, a photograph of a cat.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Input>> {
        if self.is_default() {
            let content_type = self.content_type.clone().or_else(|| Some("image/jpeg".to_owned()));
            let bytes = Bytes::from_static(CAT);
            return Ok(vec![Input { name: "cat.jpg".to_owned(), content_type, bytes }]);
        }
        self.bodies.iter().map(|path| self.input(path)).collect()
    }

    fn input(&self, path: &Path) -> anyhow::Result<Input> {
        let read = || {
            let mut bytes = Vec::new();
            let file = File::open(path)?;
            file.take(MAX_BODY_BYTES + 1).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = read().with_context(|| format!("could not read {}", path.display()))?;
        ensure!(
            bytes.len() as u64 <= MAX_BODY_BYTES,
            "{} is larger than {MAX_BODY_BYTES} bytes, which no router takes",
            path.display()
        );
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let content_type = self.content_type.clone();
        let content_type = content_type.unwrap_or_else(|| content_type_of(path).to_owned());
        Ok(Input { name, content_type: Some(content_type), bytes: bytes.into() })
    }
}

fn content_type_of(path: &Path) -> &'static str {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match &*ending {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "json" => "application/json",
        "jsonl" => "application/jsonlines",
        "csv" => "text/csv",
        "txt" => "text/plain",
        "npy" => "application/x-npy",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_that_is_too_large_is_refused_rather_than_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let file = File::create(&path).unwrap();
        let flags = BodyFlags { bodies: vec![path], content_type: None };
        file.set_len(MAX_BODY_BYTES).unwrap();
        assert_eq!(flags.read().unwrap()[0].bytes.len() as u64, MAX_BODY_BYTES);
        file.set_len(MAX_BODY_BYTES + 1).unwrap();
        let error = flags.read().unwrap_err().to_string();
        assert!(error.contains("x.json is larger than 33554432 bytes"), "{error}");
    }
}
