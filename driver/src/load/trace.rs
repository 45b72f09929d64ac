//! Traces: which models were asked, and when, one line each.
//!
//! A line is a target model, or an offset in milliseconds from the start of the trace, blanks, and a
//! target model. Empty lines and those that begin with `#` say nothing.

use shared::id::{InvalidName, TargetModel};
use std::{collections::HashMap, io, io::BufRead, time::Duration};

/// Twelve bytes are kept of each.
pub const MAX_LINES: usize = 20_000_000;

/// More than a target model (1,024 characters) and an offset can take.
const MAX_LINE_BYTES: u64 = 8 * 1024;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Places in the list of targets.
    order: Vec<u32>,
    /// Microseconds, as many as `order` has, or none.
    offsets: Vec<u64>,
    n_targets: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("could not read the trace")]
    Read(#[from] io::Error),
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    Long { line: usize },
    #[error("line {line}: {source}")]
    Target { line: usize, source: InvalidName },
    #[error("line {line}: `{text}` is not an offset in milliseconds")]
    Offset { line: usize, text: String },
    #[error("line {line} is earlier than the one before")]
    Order { line: usize },
    #[error(
        "line {line} has an offset and others have none: give all of them one, or none of them"
    )]
    Mixed { line: usize },
    #[error("it has more than {MAX_LINES} lines")]
    TooLong,
    #[error("it names no target model")]
    Empty,
}

impl Trace {
    /// Reads a trace, and the target models it names, in the order in which they come first.
    pub fn read(mut text: impl BufRead) -> Result<(Self, Vec<TargetModel>), TraceError> {
        let mut reading = Reading::default();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let n_read = io::Read::take(&mut text, MAX_LINE_BYTES).read_until(b'\n', &mut bytes)?;
            if n_read == 0 {
                break;
            }
            if u64::try_from(n_read) == Ok(MAX_LINE_BYTES) && !bytes.ends_with(b"\n") {
                return Err(TraceError::Long { line });
            }
            let words = std::str::from_utf8(&bytes);
            let words = words.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            reading.line(line, words.trim())?;
        }
        let Reading { trace, targets, .. } = reading;
        if targets.is_empty() { Err(TraceError::Empty) } else { Ok((trace, targets)) }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn has_times(&self) -> bool {
        !self.offsets.is_empty()
    }

    pub fn n_targets(&self) -> usize {
        self.n_targets
    }

    /// The target of an entry.
    pub fn target(&self, entry: usize) -> Option<u32> {
        self.order.get(entry).copied()
    }

    /// How long it is, in whole seconds: its last entry is due before. `None` if it has no times.
    pub fn duration(&self) -> Option<Duration> {
        let last = Duration::from_micros(*self.offsets.last()?);
        Some(Duration::from_secs(last.as_secs() + 1))
    }

    /// When an entry is due.
    pub fn offset(&self, entry: usize) -> Option<Duration> {
        self.offsets.get(entry).copied().map(Duration::from_micros)
    }
}

#[derive(Default)]
struct Reading {
    trace: Trace,
    targets: Vec<TargetModel>,
    places: HashMap<TargetModel, u32>,
}

impl Reading {
    fn line(&mut self, line: usize, text: &str) -> Result<(), TraceError> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if self.trace.len() == MAX_LINES {
            return Err(TraceError::TooLong);
        }
        let (offset, target) = split(line, text)?;
        // Of the lines before, either all have an offset or none.
        if !self.trace.is_empty() && self.trace.has_times() != offset.is_some() {
            return Err(TraceError::Mixed { line });
        }
        if let Some(offset) = offset {
            if self.trace.offsets.last().is_some_and(|last| *last > offset) {
                return Err(TraceError::Order { line });
            }
            self.trace.offsets.push(offset);
        }
        let target: TargetModel =
            target.parse().map_err(|source| TraceError::Target { line, source })?;
        let place = self.place(target);
        self.trace.order.push(place);
        Ok(())
    }

    fn place(&mut self, target: TargetModel) -> u32 {
        if let Some(place) = self.places.get(&target) {
            return *place;
        }
        let place = u32::try_from(self.targets.len()).expect("a trace has fewer lines");
        self.trace.n_targets += 1;
        self.targets.push(target.clone());
        self.places.insert(target, place);
        place
    }
}

/// Returns the offset in microseconds, if there is one, and the target.
fn split(line: usize, text: &str) -> Result<(Option<u64>, &str), TraceError> {
    let Some((first, rest)) = text.split_once([' ', '\t']) else { return Ok((None, text)) };
    // What begins like a number and is none is a mistake rather than a model with a blank.
    if !first.starts_with(|it: char| it.is_ascii_digit() || matches!(it, '-' | '+' | '.')) {
        return Ok((None, text));
    }
    let micros = first.parse::<f64>().ok().map(|ms| ms * 1e3).filter(|it| (0.0..1e18).contains(it));
    #[expect(clippy::cast_possible_truncation, reason = "its range was looked at")]
    #[expect(clippy::cast_sign_loss, reason = "its range was looked at")]
    match micros {
        Some(micros) => Ok((Some(micros.round() as u64), rest.trim_start())),
        None => Err(TraceError::Offset { line, text: first.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn read(text: &str) -> Result<(Trace, Vec<TargetModel>), TraceError> {
        Trace::read(text.as_bytes())
    }

    #[test]
    fn targets_alone_are_asked_in_their_order() {
        let (trace, targets) = read("# all\nb.tar.gz\n\na.tar.gz\r\nb.tar.gz").unwrap();
        assert_eq!(
            targets.iter().map(TargetModel::as_str).collect::<Vec<_>>(),
            ["b.tar.gz", "a.tar.gz"]
        );
        assert_eq!((trace.len(), trace.has_times(), trace.n_targets()), (3, false, 2));
        assert_eq!([0, 1, 2, 3].map(|it| trace.target(it)), [Some(0), Some(1), Some(0), None]);
        assert_eq!(trace.offset(0), None);
    }

    #[test]
    fn offsets_are_milliseconds() {
        let (trace, targets) = read("0 a\n12.5\tb\n12.5   a b\n").unwrap();
        assert_eq!(targets[2].as_str(), "a b");
        assert_eq!(trace.offset(1), Some(Duration::from_micros(12_500)));
        assert_eq!(trace.offset(3), None);
        assert_eq!(trace.duration(), Some(Duration::from_secs(1)));
        let (trace, _) = read("0 a\n2000 a\n").unwrap();
        assert_eq!(trace.duration(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let check = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            let text = shared::telemetry::Chain(&error).to_string();
            assert!(text.contains(expected), "{text}");
        };
        check("", "names no target model");
        check("#\n\n", "names no target model");
        check("a\n/b\n", "line 2: invalid target model");
        check("1 a\n0.5 b\n", "line 2 is earlier");
        check("1 a\nb\n", "line 2 has an offset and others have none");
        check("a\n1 b\n", "line 2 has an offset and others have none");
        check("1s a\n", "line 1: `1s` is not an offset");
        check("-1 a\n", "line 1: `-1` is not an offset");
        check("+inf a\n", "line 1: `+inf` is not an offset");
        check(&"x".repeat(9_000), "line 1 is longer");
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_breaks_it(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Trace::read(&*text);
        }

        #[test]
        fn what_looks_like_a_trace_is_read_or_refused(text in "([0-9.e+-]{0,6}[ \t]?[a-c/.]{0,4}\r?\n){0,20}") {
            if let Ok((trace, targets)) = read(&text) {
                prop_assert_eq!(trace.n_targets(), targets.len());
                for entry in 0..trace.len() {
                    prop_assert!((trace.target(entry).unwrap() as usize) < targets.len());
                    prop_assert_eq!(trace.offset(entry).is_some(), trace.has_times());
                    prop_assert!(entry == 0 || trace.offset(entry - 1) <= trace.offset(entry));
                }
            }
        }

        #[test]
        fn a_trace_that_was_written_is_read_again(
            lines in proptest::collection::vec((0..10_u32, 0..1_000_u32), 1..50),
        ) {
            let mut offset = 0;
            let mut text = String::new();
            for (model, step) in &lines {
                offset += step;
                writeln!(text, "{offset} model-{model}.tar.gz").unwrap();
            }
            let (trace, targets) = read(&text).unwrap();
            prop_assert_eq!(trace.len(), lines.len());
            for (entry, (model, _)) in lines.iter().enumerate() {
                let target = targets[trace.target(entry).unwrap() as usize].as_str().to_owned();
                prop_assert_eq!(target, format!("model-{model}.tar.gz"));
            }
        }
    }
}
