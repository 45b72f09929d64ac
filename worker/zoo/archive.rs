//! Packs files as `.tar.gz`, the same bytes for the same files.

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use std::{
    fs,
    io::{BufReader, Write},
    path::Path,
};

/// Stands in the gzip header of a finished archive. Raise the number when the zoo makes other
/// archives than before, so that old ones are made again.
const RECIPE: &str = "manifold zoo, recipe 1";

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Whether `path` is an archive of this recipe. Archives appear whole, by a rename.
pub(crate) fn is_complete(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let decoder = GzDecoder::new(BufReader::new(file));
    decoder.header().and_then(|it| it.comment()).is_some_and(|it| it == RECIPE.as_bytes())
}

pub(crate) fn write(path: &Path, files: &[File]) -> std::io::Result<()> {
    // Stored: weights shrink by a fourteenth at best, and the demo waits for this.
    let gzip = GzBuilder::new()
        .mtime(0)
        .comment(RECIPE)
        .write(fs::File::create(path)?, Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, &file.name, file.bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<File> {
        vec![
            File { name: "manifold.toml".to_owned(), bytes: b"[model]".to_vec() },
            File { name: "model.pt".to_owned(), bytes: vec![7; 100_000] },
        ]
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        write(&first, &files()).unwrap();
        write(&second, &files()).unwrap();
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        write(&path, &files()).unwrap();
        let mut archive =
            tar::Archive::new(GzDecoder::new(BufReader::new(fs::File::open(&path).unwrap())));
        let sizes: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|it| it.unwrap())
            .map(|it| (it.path().unwrap().display().to_string(), it.size()))
            .collect();
        assert_eq!(sizes, [("manifold.toml".to_owned(), 7), ("model.pt".to_owned(), 100_000)]);
    }

    #[test]
    fn only_an_archive_of_this_recipe_counts_as_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        assert!(!is_complete(&path));
        fs::write(&path, b"not gzip").unwrap();
        assert!(!is_complete(&path));
        let other = GzBuilder::new()
            .comment("manifold zoo, recipe 0")
            .write(Vec::new(), Compression::none());
        fs::write(&path, other.finish().unwrap()).unwrap();
        assert!(!is_complete(&path));
        write(&path, &files()).unwrap();
        assert!(is_complete(&path));
    }
}
