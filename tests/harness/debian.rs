//! Programs that only tests need: on the PATH, or where `scripts/setup.py debian` unpacked them.

use std::{
    env,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Returns where a program is; `None`: this machine has none.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([unpacked().join("usr/bin")]);
    let mut places = folders.map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}

/// Returns where a file below `/usr` is, of the system or unpacked: `lib/…/faketime/libfaketime.so.1`.
pub fn file(below_usr: &str) -> Option<PathBuf> {
    let mut roots = [PathBuf::from("/"), unpacked()].into_iter();
    roots.find_map(|root| Some(root.join("usr").join(below_usr)).filter(|place| place.is_file()))
}

/// Returns where a program is, or says loudly that the test is skipped.
pub fn program_or_skip(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        skipped(&format!("{name} is not here (python3 scripts/setup.py debian)"));
    }
    found
}

/// Says that the running test is skipped, and why. `scripts/run_tests.py` counts it: for the runner
/// itself, a test that returns has passed.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "!! SKIPPED: {name}: {why}");
    if let Some(file) = env::var_os("MANIFOLD_SKIPPED") {
        let file = File::options().create(true).append(true).open(file);
        let written =
            file.and_then(|mut file| file.write_all(format!("{name}: {why}\n").as_bytes()));
        written.expect("what counts the skipped tests can be written to");
    }
}

fn unpacked() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    root.join(".debian")
}
