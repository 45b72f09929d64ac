//! Logs: `tracing` to standard error, as text or JSON, filtered by `RUST_LOG`.

use std::{error::Error, fmt, str::FromStr};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected `text` or `json`".to_owned()),
        }
    }
}

/// A stranger's malformed request is no error of ours, but actix-http logs it as one.
const DEFAULT: &str = "info,actix_http=off";

/// Starts logging. Call it once, first in `main`.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Displays an error with its causes: `outer: middle: inner`.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Displays the beginning of what others may have made as long as they like: an error may quote all that
/// it does not understand.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<T>(pub T);

/// Characters of an excerpt: a line of a log on one screen.
const EXCERPT_CHARS: usize = 200;

impl<T: fmt::Display> fmt::Display for Excerpt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.char_indices().nth(EXCERPT_CHARS) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_of_garbage_is_a_line_of_log() {
        let garbage = format!("\"{}\"", "é".repeat(1 << 20));
        let error = serde_json::from_str::<u32>(&garbage).unwrap_err();
        assert!(error.to_string().len() > garbage.len(), "it quotes what it does not understand");
        let excerpt = Excerpt(&error).to_string();
        assert_eq!(excerpt.chars().count(), EXCERPT_CHARS + 1);
        assert!(error.to_string().starts_with(excerpt.trim_end_matches('…')), "{excerpt}");
        assert_eq!(Excerpt("short").to_string(), "short");
    }
}
