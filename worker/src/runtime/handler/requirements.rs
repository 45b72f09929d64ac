//! What of Python's libraries an archive says that its handler needs.

use crate::runtime::{RuntimeError, archive::existing_file};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Where they lie unless the manifest says so: the toolkit's place first.
const FILES: [&str; 2] = ["code/requirements.txt", "requirements.txt"];
/// A file with every library that there is named has less than that.
const MAX_BYTES: u64 = 1 << 20;

/// A `requirements.txt` of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirements {
    file: PathBuf,
    /// The same for all that need the same.
    name: String,
}

impl Requirements {
    /// Looks for the archive's; `named` is what its manifest names.
    pub(super) fn look(artifact: &Path, named: Option<&str>) -> Result<Option<Self>, RuntimeError> {
        let usual = || FILES.into_iter().find(|it| artifact.join(it).is_file());
        let Some(name) = named.or_else(usual) else { return Ok(None) };
        let file = existing_file(artifact, name)?;
        let text = read(&file).map_err(|error| {
            RuntimeError::BadArtifact(format!("`{name}` cannot be read: {error}"))
        })?;
        let mut digest = Sha256::new();
        digest.update(&text);
        if names_files(&text) {
            // They are this archive's own.
            digest.update(file.as_os_str().as_encoded_bytes());
        }
        let name = digest.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing into a string cannot fail");
            hex
        });
        Ok(Some(Self { file, name }))
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// What an environment with these requirements is called: letters and digits.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Whether what is named may lie beside the file: everything but libraries by their names.
fn names_files(text: &str) -> bool {
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let mut named = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    named.any(|line| !line.starts_with(|it: char| it.is_ascii_alphanumeric()) || line.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn look(files: &[(&str, &str)], named: Option<&str>) -> Result<Option<String>, RuntimeError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Requirements::look(folder.path(), named).map(|it| it.map(|it| it.name))
    }

    #[test]
    fn archives_that_need_the_same_share_it_and_those_that_bring_files_do_not() {
        let shared = "# ours\nnumpy==1.26.4  # for arrays\n\nscikit-learn>=1\n";
        let one = look(&[("code/requirements.txt", shared)], None).unwrap();
        assert_eq!(one, look(&[("requirements.txt", shared)], None).unwrap());
        assert_ne!(one, look(&[("requirements.txt", "numpy")], None).unwrap());
        for own in ["./own.whl", "-r more.txt", "own @ file:///own.whl", "wheels/own.whl", "."] {
            let of = || look(&[("requirements.txt", own)], None).unwrap();
            assert_ne!(of(), of(), "{own}");
        }
        assert_eq!(look(&[("model.py", "")], None).unwrap(), None);
    }

    #[test]
    fn requirements_elsewhere_than_in_the_archive_are_refused() {
        for name in ["../requirements.txt", "/etc/hostname", "absent.txt"] {
            assert!(look(&[("a.txt", "")], Some(name)).is_err(), "{name}");
        }
        assert!(look(&[("a.txt", "numpy")], Some("a.txt")).unwrap().is_some());
    }
}
