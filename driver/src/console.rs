//! What the tool says to the person in front of it: standard output, a line at a time.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};
use tokio::time::Instant;

/// Prints a line.
pub fn say(line: &str) {
    // Nobody is left to tell if the output is closed, and a cluster shall not die of it.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line to standard error.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints bytes as they are.
pub fn put(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// A step under way: says what at its end, and how long it took.
#[derive(Debug)]
pub struct Step {
    started: Instant,
}

impl Step {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub fn done(self, what: &str) {
        say(&format!("{:>8}  {what}", seconds(self.started.elapsed())));
    }
}

/// A line on standard error that is written over by the next, where that is a terminal.
#[derive(Debug)]
pub struct Ticker {
    is_terminal: bool,
    is_shown: bool,
}

impl Ticker {
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_shown: false }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub fn show(&mut self, line: &str) {
        if self.is_terminal {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
            self.is_shown = true;
        } else {
            complain(line);
        }
    }
}

impl Default for Ticker {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Ticker {
    /// What is printed next shall not begin within the line.
    fn drop(&mut self) {
        if self.is_shown {
            complain("");
        }
    }
}

/// Writes a duration in seconds: `0.25 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
