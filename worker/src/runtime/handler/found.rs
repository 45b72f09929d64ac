//! What an archive says about its handler.

use super::{Batching, HandlerConfig, requirements::Requirements};
use crate::runtime::{RuntimeError, manifest::HandlerSection};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Read as _,
    num::NonZeroUsize,
    path::Path,
    time::Duration,
};

/// The manifest of archives of Multi Model Server and `TorchServe`.
const MANIFEST: &str = "MAR-INF/MANIFEST.json";
/// A megabyte of user data is more than any has.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// The handler of inference scripts.
const TOOLKIT: &str = "manifold_handler.toolkit.service";
/// Where a script lies, by the toolkit's default.
const SCRIPTS: [&str; 2] = ["code/inference.py", "inference.py"];
/// An interpreter with `NumPy` holds 30 MiB, most of them its own.
const INTERPRETER_BYTES: u64 = 32 << 20;
/// Files that are counted for the estimate. An archive with more is larger than it says, and is measured.
const MAX_COUNTED: usize = 10_000;

/// A model that a handler serves.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) struct Found {
    /// `[path/]module[.py][:function]`.
    pub(super) handler: String,
    /// [`MANIFEST`], if there is one.
    pub(super) manifest: Option<Value>,
    pub(super) n_processes: usize,
    pub(super) batching: Batching,
    /// How long a batch may take.
    pub(super) timeout: Duration,
    /// What is to be installed first.
    pub(super) requirements: Option<Requirements>,
    contents_bytes: u64,
}

impl Found {
    /// What `manifold.toml` says is a handler's.
    pub(in crate::runtime) fn named(
        artifact: &Path,
        section: &HandlerSection,
        config: &HandlerConfig,
    ) -> Result<Self, RuntimeError> {
        let mar = read_manifest(artifact)?;
        let named = config.wanted.handler.clone().or_else(|| section.name.clone());
        let named = named.or_else(|| handler_of(mar.as_ref()));
        let named = named.or_else(|| config.default_handler.clone()).or_else(|| script(artifact));
        let missing =
            "manifold.toml has no `handler` in [model], and there is no code/inference.py";
        let handler = named.ok_or_else(|| bad(missing.to_owned()))?;
        Self::new(artifact, handler, mar, section, config)
    }

    /// Looks for a handler in an archive without `manifold.toml`.
    pub(in crate::runtime) fn look(
        artifact: &Path,
        config: &HandlerConfig,
    ) -> Result<Option<Self>, RuntimeError> {
        let mar = read_manifest(artifact)?;
        let named = handler_of(mar.as_ref()).or_else(|| config.default_handler.clone());
        let Some(handler) = named.or_else(|| script(artifact)) else {
            let nameless = format!("`{MANIFEST}` names no handler; see --handler");
            return mar.map_or(Ok(None), |_| Err(bad(nameless)));
        };
        Self::new(artifact, handler, mar, &HandlerSection::default(), config).map(Some)
    }

    fn new(
        artifact: &Path,
        handler: String,
        manifest: Option<Value>,
        section: &HandlerSection,
        config: &HandlerConfig,
    ) -> Result<Self, RuntimeError> {
        let (n_processes, batching) = over(section, config);
        let timeout = config.wanted.timeout.unwrap_or(config.timeout);
        let wanted = requirements_of(manifest.as_ref());
        let look = || Requirements::look(artifact, wanted);
        let requirements = config.installs_requirements.then(look).transpose()?.flatten();
        let contents_bytes = contents_bytes(artifact);
        Ok(Self { handler, manifest, n_processes, batching, timeout, requirements, contents_bytes })
    }

    /// Returns how many bytes the processes take at first: what an archive becomes in memory, only the
    /// handler knows.
    pub(in crate::runtime) fn estimate(&self) -> u64 {
        let each = INTERPRETER_BYTES.saturating_add(self.contents_bytes);
        each.saturating_mul(self.n_processes as u64)
    }
}

/// What is wanted of this load, then what the archive says, and for the rest the worker's configuration.
fn over(section: &HandlerSection, config: &HandlerConfig) -> (usize, Batching) {
    let wanted = &config.wanted;
    let calls = wanted.batch_size.map(NonZeroUsize::get).or(section.batch_size);
    let delay = wanted.max_batch_delay.or(section.max_batch_delay);
    let n_processes = wanted.n_processes.map(NonZeroUsize::get).or(section.n_processes);
    let batching = Batching {
        max_calls: calls.unwrap_or(config.batching.max_calls),
        max_delay: delay.unwrap_or(config.batching.max_delay),
    };
    (n_processes.unwrap_or(config.n_processes), batching)
}

fn script(artifact: &Path) -> Option<String> {
    SCRIPTS.iter().any(|it| artifact.join(it).is_file()).then(|| TOOLKIT.to_owned())
}

fn handler_of(manifest: Option<&Value>) -> Option<String> {
    named_of(manifest, "handler").map(str::to_owned)
}

/// What `TorchServe`'s archiver writes.
fn requirements_of(manifest: Option<&Value>) -> Option<&str> {
    named_of(manifest, "requirementsFile")
}

fn named_of<'a>(manifest: Option<&'a Value>, what: &str) -> Option<&'a str> {
    let named = manifest?.get("model")?.get(what)?.as_str()?;
    (!named.is_empty()).then_some(named)
}

fn read_manifest(artifact: &Path) -> Result<Option<Value>, RuntimeError> {
    let path = artifact.join(MANIFEST);
    if !path.is_file() {
        return Ok(None);
    }
    let unreadable = |why: String| bad(format!("`{MANIFEST}` cannot be read: {why}"));
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text);
    read.map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(unreadable(format!("it is larger than {MAX_MANIFEST_BYTES} bytes")));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(error.to_string()))
}

/// Adds up the files, as far as they can be read.
fn contents_bytes(artifact: &Path) -> u64 {
    let (mut folders, mut bytes, mut n_counted) = (vec![artifact.to_owned()], 0_u64, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            n_counted += 1;
            if n_counted > MAX_COUNTED {
                return bytes;
            }
            match entry.metadata() {
                Ok(it) if it.is_dir() => folders.push(entry.path()),
                Ok(it) => bytes = bytes.saturating_add(it.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadArtifact(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &[(&str, &str)], default_handler: Option<&str>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let default_handler = default_handler.map(str::to_owned);
        let config = HandlerConfig { default_handler, ..HandlerConfig::for_tests() };
        Found::look(folder.path(), &config).unwrap().map(|it| it.handler)
    }

    #[test]
    fn the_archive_s_own_handler_goes_before_the_worker_s() {
        let manifest = (MANIFEST, r#"{"model": {"handler": "service:handle"}}"#);
        let script = ("code/inference.py", "");
        let configured = Some("/home/model-server/model_handler.py:handle");
        assert_eq!(look(&[manifest, script], configured).as_deref(), Some("service:handle"));
        assert_eq!(look(&[script], configured).as_deref(), configured);
        assert_eq!(look(&[("model.pt", "x")], configured).as_deref(), configured);
        assert_eq!(look(&[script], None).as_deref(), Some(TOOLKIT));
        assert_eq!(look(&[("model.pt", "x")], None), None);
    }
}
