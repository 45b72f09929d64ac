//! What a handler prints, as lines of the worker's log with the model's name.

use shared::task::Task;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader};
use tracing::info;

/// The longest line: a handler that prints an array must not fill the log or our memory with one.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Follows a pipe to its end.
pub(super) fn follow(
    pipe: impl AsyncRead + Unpin + Send + 'static,
    model: &str,
    stream: &'static str,
) -> Task {
    let model = model.to_owned();
    Task::spawn(async move {
        let mut pipe = BufReader::new(pipe);
        // A pipe that fails has ended: whoever wrote into it is gone.
        while let Ok(Some(line)) = line(&mut pipe).await {
            info!(target: "handler", model, stream, "{line}");
        }
    })
}

/// Reads a line, or as much of a longer one as is told at once; `None` at the end.
async fn line(pipe: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let read = pipe.fill_buf().await?;
        if read.is_empty() {
            return Ok((!line.is_empty()).then(|| text(&line)));
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let room = MAX_LINE_BYTES - line.len();
        let n_taken = end.unwrap_or(read.len()).min(room);
        line.extend_from_slice(&read[..n_taken]);
        let is_whole = end == Some(n_taken);
        pipe.consume(n_taken + usize::from(is_whole));
        if is_whole || line.len() == MAX_LINE_BYTES {
            return Ok(Some(text(&line)));
        }
    }
}

/// Whatever the bytes are: a terminal that shows the log must not be told what to do.
fn text(line: &[u8]) -> String {
    let shown = |it: char| if it.is_control() && it != '\t' { '\u{fffd}' } else { it };
    String::from_utf8_lossy(line).trim_end().chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_bounded_and_without_commands_to_a_terminal() {
        let long = "x".repeat(MAX_LINE_BYTES + 3);
        let printed = format!("one\r\n\n\u{1b}[31mred\n{long}\nend");
        let mut pipe = BufReader::new(printed.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = line(&mut pipe).await.unwrap() {
            lines.push(line);
        }
        let expected = ["one", "", "\u{fffd}[31mred", &long[..MAX_LINE_BYTES], "xxx", "end"];
        assert_eq!(lines, expected);
        let mut broken = BufReader::new(&b"\xff\xfe"[..]);
        assert_eq!(line(&mut broken).await.unwrap().as_deref(), Some("\u{fffd}\u{fffd}"));
    }
}
