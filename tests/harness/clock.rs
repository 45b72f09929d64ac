//! The clock of one process, set while it runs. The machine's own is never touched, and clocks that
//! nobody can set stay true.

use crate::{eventually, privilege::run, rig::Rig};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// What is preloaded: it has to be in C, because it stands in for the C library.
const SOURCE: &str = include_str!("clock.c");

const DAY_S: i64 = 86_400;

/// How far a clock may seem to be off that is right: what an answer takes, and a clock that a server
/// looks at now and then.
const TOLERANCE_S: i64 = 120;

/// A clock that can be set.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    offset_s: AtomicI64,
}

impl Clock {
    /// Makes a clock that shows the true time, or says why this machine cannot.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|it| it.to_string())?;
        let clock = Self { folder, offset_s: AtomicI64::new(0) };
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
        self.offset_s.store(seconds, Ordering::Relaxed);
    }

    /// Waits until the process that serves HTTP at `url` shows that it sees this clock.
    pub async fn is_shown_by(&self, url: &str) {
        let expected_s = self.offset_s.load(Ordering::Relaxed);
        eventually(async || {
            let off_by_s = shown_by(url).await.map(|shown| shown - now() - expected_s);
            // Of a date, the time of day is enough.
            off_by_s.is_some_and(|it| (it + TOLERANCE_S).rem_euclid(DAY_S) <= 2 * TOLERANCE_S)
        })
        .await;
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is before the end of time")
}

/// The time of day, in seconds, that a server dates its answers with:
/// `date: Mon, 23 Nov 2026 11:34:28 GMT`.
async fn shown_by(url: &str) -> Option<i64> {
    let answer = reqwest::get(format!("{url}/ping")).await.ok()?;
    let date = answer.headers().get("date")?.to_str().ok()?;
    let time = date.split(' ').nth_back(1)?;
    time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))
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
        let seen: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        assert!(seen.abs_diff(now() - 1_000_000_000) < 60, "{seen} beside {}", now());
    }
}
