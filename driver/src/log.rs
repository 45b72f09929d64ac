//! The logs of child processes: how much of their end is shown.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Enough for a panic with its message; little enough to leave the reason on the screen.
const MAX_TAIL_LINES: usize = 20;

/// A line is rarely longer than a few hundred bytes.
const MAX_TAIL_BYTES: u64 = 16 * 1024;

/// Returns the last lines of a log, or why there are none.
pub(crate) fn tail(path: &Path) -> String {
    match read_end(path) {
        Ok(end) if end.trim().is_empty() => "  (the log is empty)".to_owned(),
        Ok(end) => last_lines(&end),
        Err(error) => format!("  (the log cannot be read: {error})"),
    }
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(MAX_TAIL_BYTES)))?;
    let mut end = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(MAX_TAIL_LINES)..];
    shown.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_the_last_lines() {
        let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let tail = last_lines(&lines.join("\n"));
        assert!(tail.starts_with("  line 80\n") && tail.ends_with("  line 99"), "{tail}");
    }

    #[test]
    fn missing_and_empty_logs_say_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(tail(&folder.path().join("none")).contains("cannot be read"));
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        assert!(tail(&folder.path().join("empty")).contains("is empty"));
    }
}
