//! What lies in an unpacked archive, and which runtime that decides.
//!
//! Who loads a model by name may name its handler. Else `manifold.toml` decides if there is one; then a handler that is named, in the archive or for the whole
//! worker; else what lies there: an inference script, or one TorchScript file.

use super::{
    RuntimeError,
    handler::{self, HandlerConfig},
    manifest::{Manifest, RuntimeName},
    mxnet::Checkpoint,
};
use crate::artifact::unpack::{Limits, contents_bytes};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Entries of the archive's root that are looked at. A model has some ten.
const MAX_ENTRIES: usize = 10_000;
/// Names that an error text lists.
const MAX_SHOWN: usize = 8;

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// What precedes its answers, if anything.
    Echo(Option<PathBuf>),
    TorchScript(Box<TorchScript>),
    Handler(Box<handler::Found>),
    Mxnet(Box<Checkpoint>),
}

/// A TorchScript model on disk.
#[derive(Clone, Debug)]
pub(super) struct TorchScript {
    /// The archive's folder.
    pub(super) artifact: PathBuf,
    pub(super) file: PathBuf,
    /// What is in the file, unpacked: its records may be compressed.
    pub(super) contents_bytes: u64,
    pub(super) manifest: Manifest,
}

impl TorchScript {
    /// Returns how many bytes a load takes at its peak: the weights once (they are read straight
    /// into their tensors), a fifth for the graph and for kept scratch, a little for even the
    /// smallest model, and the first forward's input. The manifest may ask for more, not for less:
    /// it comes with the archive, and the reservation protects the other models.
    pub(super) fn estimate(&self) -> u64 {
        const SMALLEST: u64 = 1 << 20;
        let weights = self.contents_bytes.saturating_add(self.contents_bytes / 5);
        let guess = weights.saturating_add(SMALLEST + self.manifest.input.first_bytes());
        guess.max(self.manifest.memory_bytes.unwrap_or(0))
    }
}

/// Decides who serves the folder `artifact`.
pub(super) fn inspect(artifact: &Path, handlers: &HandlerConfig) -> Result<Found, RuntimeError> {
    let manifest = Manifest::read(artifact)?;
    if handlers.wanted.handler.is_some() {
        return python(artifact, &manifest.unwrap_or_default(), handlers);
    }
    match manifest.as_ref().map(|it| it.runtime) {
        Some(RuntimeName::Echo) => echo(artifact, &manifest.unwrap_or_default()),
        Some(RuntimeName::Python) => python(artifact, &manifest.unwrap_or_default(), handlers),
        Some(RuntimeName::Mxnet) => mxnet(artifact, &root_names(artifact)?, manifest),
        Some(RuntimeName::TorchScript) => torchscript(artifact, &root_names(artifact)?, manifest),
        None => {
            if let Some(found) = handler::Found::look(artifact, handlers)? {
                return Ok(Found::Handler(Box::new(found)));
            }
            let names = root_names(artifact)?;
            if Checkpoint::is_there(&names) {
                return mxnet(artifact, &names, None);
            }
            torchscript(artifact, &names, None)
        }
    }
}

fn python(
    artifact: &Path,
    manifest: &Manifest,
    handlers: &HandlerConfig,
) -> Result<Found, RuntimeError> {
    let found = handler::Found::named(artifact, &manifest.handler, handlers)?;
    Ok(Found::Handler(Box::new(found)))
}

fn mxnet(
    artifact: &Path,
    names: &[String],
    manifest: Option<Manifest>,
) -> Result<Found, RuntimeError> {
    Ok(Found::Mxnet(Box::new(Checkpoint::find(artifact, names, manifest)?)))
}

fn echo(artifact: &Path, manifest: &Manifest) -> Result<Found, RuntimeError> {
    let file = manifest.file.as_deref().map(|name| existing_file(artifact, name));
    Ok(Found::Echo(file.transpose()?))
}

fn torchscript(
    artifact: &Path,
    names: &[String],
    manifest: Option<Manifest>,
) -> Result<Found, RuntimeError> {
    let manifest = manifest.unwrap_or_default();
    let file = match &manifest.file {
        Some(name) => name.clone(),
        None => lone_torchscript(names)?,
    };
    let file = existing_file(artifact, &file)?;
    let contents_bytes = module_bytes(&file)?;
    let artifact = artifact.to_owned();
    Ok(Found::TorchScript(Box::new(TorchScript { artifact, file, contents_bytes, manifest })))
}

/// Returns what a TorchScript file unpacks to, by its table of contents.
///
/// LibTorch inflates its records into memory unasked, and a file within an archive was only copied
/// so far. LibTorch believes the table too, so that no record can be longer than it says.
fn module_bytes(file: &Path) -> Result<u64, RuntimeError> {
    let bytes = contents_bytes(file, &Limits::DEFAULT);
    bytes.map_err(|error| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        bad(format!("`{name}` is not a TorchScript module: {error}"))
    })
}

/// Resolves a name from the manifest; a link that leads out of the archive is refused.
pub(super) fn existing_file(artifact: &Path, name: &str) -> Result<PathBuf, RuntimeError> {
    let root = artifact.canonicalize().map_err(|error| unreadable(&error))?;
    let missing = || bad(format!("there is no file `{name}` in the archive"));
    let path = root.join(name).canonicalize().map_err(|_| missing())?;
    if path.starts_with(&root) && path.is_file() { Ok(path) } else { Err(missing()) }
}

/// Returns the names in the archive's root, in order, folders with a slash.
fn root_names(artifact: &Path) -> Result<Vec<String>, RuntimeError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(artifact).map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            name.push('/');
        }
        names.push(name);
        if names.len() > MAX_ENTRIES {
            return Err(bad(format!("the archive's root has over {MAX_ENTRIES} entries")));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn lone_torchscript(names: &[String]) -> Result<String, RuntimeError> {
    let is_torchscript = |name: &&String| {
        let extension = Path::new(name.as_str()).extension();
        !name.ends_with('/') && extension.is_some_and(|it| it == "pt" || it == "pth")
    };
    let candidates: Vec<&String> = names.iter().filter(is_torchscript).collect();
    match candidates.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(bad(format!(
            "expected a TorchScript file (*.pt or *.pth) in the archive's root, found {}",
            listed(names)
        ))),
        several => Err(bad(format!(
            "found {} TorchScript files ({}): name one in manifold.toml, `[model] file = \"…\"`",
            several.len(),
            listed(&candidates)
        ))),
    }
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let shown = names.iter().take(MAX_SHOWN);
    let shown: Vec<String> = shown.map(|it| format!("`{}`", it.as_ref())).collect();
    let more = names.len().saturating_sub(MAX_SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &rest
}

fn unreadable(error: &std::io::Error) -> RuntimeError {
    bad(format!("its files cannot be read: {error}"))
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadArtifact(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// Writes `text` as it is, or as the one record of a module.
    fn write(path: &Path, text: &str) {
        let file = fs::File::create(path).expect("a file can be made");
        if path.extension().is_some_and(|it| it == "pt" || it == "pth") {
            let mut zip = zip::ZipWriter::new(file);
            zip.start_file("net/data.pkl", zip::write::SimpleFileOptions::default())
                .and_then(|()| Ok(zip.write_all(text.as_bytes())?))
                .and_then(|()| zip.finish())
                .expect("a zip can be written");
        } else {
            (&file).write_all(text.as_bytes()).expect("a file can be written");
        }
    }

    fn archive(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (name, text) in files {
            let path = folder.path().join(name);
            let parent = path.parent().expect("a file lies in a folder");
            fs::create_dir_all(parent).expect("a folder can be made");
            write(&path, text);
        }
        folder
    }

    #[track_caller]
    fn file_of(files: &[(&str, &str)]) -> String {
        let folder = archive(files);
        let found = inspect(folder.path(), &HandlerConfig::for_tests()).expect("it is a model");
        let Found::TorchScript(found) = found else {
            panic!("expected TorchScript");
        };
        let root = folder.path().canonicalize().expect("the folder exists");
        let name = found.file.strip_prefix(root).expect("the file lies inside");
        name.to_string_lossy().into_owned()
    }

    #[test]
    fn the_manifest_or_the_lone_file_decides() {
        assert_eq!(file_of(&[("net.pth", "x"), ("labels.txt", "cat")]), "net.pth");
        let named = ("manifold.toml", "[model]\nfile = 'sub/b.pt'");
        assert_eq!(file_of(&[named, ("a.pt", "x"), ("sub/b.pt", "x")]), "sub/b.pt");
        // The manifest outranks a handler that lies beside it.
        let silent = ("manifold.toml", "");
        assert_eq!(file_of(&[silent, ("a.pt", "x"), ("code/inference.py", "")]), "a.pt");
        let echo = archive(&[("manifold.toml", "[model]\nruntime = 'echo'")]);
        assert!(matches!(inspect(echo.path(), &HandlerConfig::for_tests()), Ok(Found::Echo(None))));
        let named = ("manifold.toml", "[model]\nruntime = 'echo'\nfile = 'a.txt'");
        let found =
            inspect(archive(&[named, ("a.txt", "x")]).path(), &HandlerConfig::for_tests()).unwrap();
        assert!(matches!(found, Found::Echo(Some(_))));
        assert!(inspect(archive(&[named]).path(), &HandlerConfig::for_tests()).is_err());
    }

    #[test]
    fn refusals_say_what_was_found_and_what_is_expected() {
        for (files, expected) in [
            (
                &[][..],
                "expected a TorchScript file (*.pt or *.pth) in the archive's root, found nothing",
            ),
            (&[("wrapped/model.pt", "x")], "found `wrapped/`"),
            (&[("a.pt", "x"), ("b.pth", "x")], "found 2 TorchScript files (`a.pt`, `b.pth`)"),
            (&[("MAR-INF/MANIFEST.json", "{}")], "names no handler"),
            (&[("MAR-INF/MANIFEST.json", "{")], "`MAR-INF/MANIFEST.json` cannot be read"),
            (&[("m-symbol.json", "{}")], "there is no `m-0000.params` beside `m-symbol.json`"),
            (&[("manifold.toml", "[model]\nfile = 'no.pt'")], "there is no file `no.pt`"),
            (&[("manifold.toml", "x = 1")], "unknown field `x`"),
        ] {
            let folder = archive(files);
            let why = inspect(folder.path(), &HandlerConfig::for_tests())
                .expect_err("it is no model")
                .to_string();
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn a_link_out_of_the_archive_is_not_followed() {
        let outside = archive(&[("secret.pt", "x")]);
        let folder = archive(&[("manifold.toml", "[model]\nfile = 'link.pt'")]);
        let target = outside.path().join("secret.pt");
        std::os::unix::fs::symlink(target, folder.path().join("link.pt")).unwrap();
        let why = inspect(folder.path(), &HandlerConfig::for_tests()).unwrap_err().to_string();
        assert!(why.contains("there is no file `link.pt`"), "{why}");
    }

    #[test]
    fn a_manifest_cannot_make_the_estimate_smaller() {
        let guess = |manifest: &str| {
            let (file, artifact) = (PathBuf::new(), PathBuf::new());
            let manifest = manifest.parse().expect("it is a manifest");
            TorchScript { artifact, file, contents_bytes: 10 << 20, manifest }.estimate()
        };
        assert_eq!(guess(""), 13 << 20);
        assert_eq!(guess("[model]\nmemory_bytes = 0"), 13 << 20);
        assert_eq!(guess("[model]\nmemory_bytes = 99000000"), 99_000_000);
        let image = "[input]\nkind = 'image'\nwidth = 1024\nheight = 1024";
        assert_eq!(guess(image), (13 << 20) + 2 * (12 << 20));
    }

    #[test]
    fn a_compressed_record_counts_as_what_it_becomes_in_memory() {
        let zeros = "0".repeat(5 << 20);
        let folder = archive(&[("model.pt", &zeros)]);
        let packed_bytes = fs::metadata(folder.path().join("model.pt")).unwrap().len();
        assert!(packed_bytes < 100_000, "{packed_bytes}");
        let found = inspect(folder.path(), &HandlerConfig::for_tests());
        let Ok(Found::TorchScript(found)) = found else {
            panic!("expected TorchScript");
        };
        assert_eq!(found.contents_bytes, 5 << 20);
    }

    #[test]
    fn a_module_that_is_no_zip_is_refused_before_it_is_loaded() {
        let folder = archive(&[]);
        for (content, what) in [
            (&b"weights"[..], "something unknown"),
            (b"\x80\x02}", "a Python pickle"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"", "empty"),
            (b"PK\x03\x04 half a zip", "truncated"),
        ] {
            fs::write(folder.path().join("model.pt"), content).unwrap();
            let why = inspect(folder.path(), &HandlerConfig::for_tests()).unwrap_err().to_string();
            let expected = format!("`model.pt` is not a TorchScript module: it is {what}");
            assert!(why.contains(&expected), "{why}");
        }
    }
}
