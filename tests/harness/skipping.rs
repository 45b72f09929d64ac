//! Tests that cannot run on this machine, for want of a program, of root or of what the kernel offers:
//! they say so, and are counted.

use std::{env, fs::File, io::Write as _};

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
