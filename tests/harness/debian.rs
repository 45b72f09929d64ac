//! Programs that only tests need: on the PATH, or where `scripts/setup.py debian` unpacked them.

use crate::skipping;
use std::{
    env,
    path::{Path, PathBuf},
};

/// Returns where a program is; `None`: this machine has none.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([unpacked().join("usr/bin")]);
    let mut places = folders.map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}

/// Returns where a program is, or says loudly that the test is skipped.
pub fn program_or_skip(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        skipping::skipped(&format!("{name} is not here (python3 scripts/setup.py debian)"));
    }
    found
}

fn unpacked() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    root.join(".debian")
}
