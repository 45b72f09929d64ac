//! The clock of one process, set while it runs. The machine's own is never touched, and clocks that
//! nobody can set stay true.

use crate::{privilege::run, rig::Rig};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};
use tempfile::TempDir;

/// What is preloaded: it has to be in C, because it stands in for the C library.
const SOURCE: &str = include_str!("clock.c");

/// A clock that can be set.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// Makes a clock that shows the true time, or says why this machine cannot.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|it| it.to_string())?;
        let clock = Self { folder };
        let source = clock.file("clock.c");
        fs::write(&source, SOURCE).map_err(|it| it.to_string())?;
        let [source, library] = [source, clock.file("clock.so")].map(|it| it.display().to_string());
        run("cc", &["-shared", "-fPIC", "-O1", "-o", &library, &source])?;
        clock.step(0);
        Ok(clock)
    }

    /// Lets a process see this clock.
    pub fn rig(&self) -> Rig {
        let variables = [("LD_PRELOAD", "clock.so"), ("TESTS_CLOCK_FILE", "offset")];
        let variables =
            variables.map(|(name, file)| (name.to_owned(), self.file(file).display().to_string()));
        Rig::new(move |mut spec| {
            spec.env.extend(variables.iter().cloned());
            spec
        })
    }

    /// Sets the clock so many seconds before or after the true time, at once.
    pub fn step(&self, seconds: i64) {
        // Not truncated: a process has it mapped.
        let offset =
            File::options().create(true).truncate(false).write(true).open(self.file("offset"));
        let offset = offset.expect("the folder takes a file");
        offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("there is room for eight bytes");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_sees_its_own_clock_and_nobody_else() {
        let clock = Clock::new().unwrap();
        clock.step(-1_000_000_000);
        let mut date = Command::new("date");
        date.arg("+%s").env("LD_PRELOAD", clock.file("clock.so"));
        let output = date.env("TESTS_CLOCK_FILE", clock.file("offset")).output().unwrap();
        let seen: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        let now = std::time::SystemTime::now().duration_since(epoch).unwrap().as_secs();
        assert!(seen.abs_diff(now - 1_000_000_000) < 60, "{seen} beside {now}");
    }
}
