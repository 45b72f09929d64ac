//! Programs that only tests need: on the PATH, or where `scripts/setup.py debian` unpacked them.

use crate::skipping;
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Returns where a program is; `None`: this machine has none.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = Path::new("/usr/sbin").to_owned();
    let ours = ["usr/bin", "usr/sbin"].map(|folder| unpacked().join(folder));
    let folders = env::split_paths(&path).chain([servers]).chain(ours);
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

/// Where libraries are that programs from there may need, as `LD_LIBRARY_PATH` has it.
pub fn libraries() -> OsString {
    let known = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::fs::read_dir(unpacked().join("usr/lib"));
    let folders = folders.into_iter().flatten().flatten().map(|it| it.path());
    let all = env::split_paths(&known).chain(folders);
    env::join_paths(all).expect("what was split can be joined")
}

fn unpacked() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    root.join(".debian")
}
