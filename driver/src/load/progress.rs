//! How a run goes while it goes, a few times a second.

use super::{record::Recorder, result::Totals};
use std::{fmt::Write as _, time::Duration};
use tokio::sync::watch;

/// What has come of a run so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub elapsed: Duration,
    /// Of the invocations that have ended.
    pub totals: Totals,
    pub n_in_flight: usize,
    /// Good answers a second, lately.
    pub rate: f64,
    /// Lately.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Tells those who watch.
#[derive(Debug)]
pub(super) struct Progresses {
    sender: watch::Sender<Progress>,
    last: Progress,
}

impl Progresses {
    /// Often enough to see it move.
    pub(super) const EVERY: Duration = Duration::from_millis(200);

    /// Over which rate and latencies are taken, so that they can be read.
    const LATELY: Duration = Duration::from_secs(1);

    pub(super) fn new(sender: watch::Sender<Progress>) -> Self {
        Self { sender, last: Progress::default() }
    }

    pub(super) fn publish(
        &mut self,
        elapsed: Duration,
        n_in_flight: usize,
        recorder: &mut Recorder,
    ) {
        let totals = recorder.totals;
        let since_last = elapsed.saturating_sub(self.last.elapsed);
        if since_last >= Self::LATELY || self.last.elapsed.is_zero() {
            let (p50_ms, p99_ms) = recorder.take_recent();
            let n_ok = totals.n_ok - self.last.totals.n_ok;
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
            let rate = n_ok as f64 / since_last.as_secs_f64().max(1e-3);
            self.last = Progress { elapsed, totals, n_in_flight, rate, p50_ms, p99_ms };
        }
        self.sender.send_replace(Progress { elapsed, totals, n_in_flight, ..self.last.clone() });
    }
}

impl Progress {
    /// One line for people.
    pub fn line(&self) -> String {
        let totals = &self.totals;
        let mut line = format!(
            "{:>6.1} s  {:>9} /s  p50 {}  p99 {}  ok {}  errors {}",
            self.elapsed.as_secs_f64(),
            thousands(rounded(self.rate)),
            millis(self.p50_ms),
            millis(self.p99_ms),
            thousands(totals.n_ok),
            thousands(totals.n_failed + totals.n_not_sent),
        );
        // Writing into a string cannot fail.
        if totals.n_unavailable > 0 {
            let _ = write!(line, "  503 {}", thousands(totals.n_unavailable));
        }
        let (hits, misses) = (thousands(totals.n_hits), thousands(totals.n_misses));
        let _ = write!(line, "  hits {hits}  misses {misses}  in flight {}", self.n_in_flight);
        line
    }
}

/// A number as people read it: `12,345`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency with three digits that say something: `0.412 ms`, `41.2 ms`, `4.12 s`.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.3} ms"),
        ms if ms < 100.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.1} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

/// A rate as a whole number.
#[expect(clippy::cast_possible_truncation, reason = "no rate comes near 2^53")]
#[expect(clippy::cast_sign_loss, reason = "rates are positive")]
pub(super) fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [0, 999, 1_000, 123_456, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "123,456", "1,234,567"]);
        let latencies = [0.0412, 9.9, 41.23, 412.3, 4_123.0].map(millis);
        assert_eq!(latencies, ["0.041 ms", "9.900 ms", "41.23 ms", "412.3 ms", "4.12 s"]);
    }

    #[test]
    fn line_tells_rate_latency_errors_hits_and_misses() {
        let totals =
            Totals { n_ok: 5_000, n_hits: 4_990, n_misses: 10, n_failed: 2, ..Totals::default() };
        let progress = Progress {
            elapsed: Duration::from_millis(1_500),
            totals,
            n_in_flight: 8,
            rate: 3_333.3,
            p50_ms: 0.5,
            p99_ms: 12.0,
        };
        assert_eq!(
            progress.line(),
            "   1.5 s      3,333 /s  p50 0.500 ms  p99 12.00 ms  ok 5,000  errors 2  hits 4,990  \
             misses 10  in flight 8"
        );
    }
}
