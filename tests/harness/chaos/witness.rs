//! When the machine ran nobody: a byte that goes through other processes and back all the time.
//!
//! They are as many as an invocation passes, and no part of the cluster. If it is late, what invocations wait for meanwhile is
//! the machine, which is shared with compilers and other tests.

use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

const PERIOD: Duration = Duration::from_millis(10);

/// A byte that comes back sooner is not late. On a machine with a core to spare it takes less than a
/// millisecond or two.
const LATE: Duration = Duration::from_millis(30);

/// Looks until it is told to end.
#[derive(Debug)]
pub(super) struct Witness {
    is_over: watch::Sender<bool>,
    task: JoinHandle<Stalls>,
}

/// When the machine ran nobody, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls(Vec<(Instant, Instant)>);

impl Witness {
    pub(super) fn start() -> Self {
        let (is_over, over) = watch::channel(false);
        // All end with their input.
        let echo = Command::new("sh")
            .args(["-c", "cat | cat | cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("every machine has a shell");
        Self { is_over, task: tokio::spawn(look(echo, over)) }
    }

    pub(super) async fn end(self) -> Stalls {
        self.is_over.send_replace(true);
        self.task.await.expect("the witness does not panic")
    }
}

async fn look(mut echo: Child, over: watch::Receiver<bool>) -> Stalls {
    let mut there = echo.stdin.take().expect("it is piped");
    let mut back = echo.stdout.take().expect("it is piped");
    let mut stalls = Stalls::default();
    let mut due = Instant::now();
    while !*over.borrow() {
        // A late byte is not made up for by two at once.
        due = (due + PERIOD).max(Instant::now());
        sleep_until(due).await;
        there.write_all(b".").await.expect("`cat` reads");
        back.read_exact(&mut [0]).await.expect("`cat` writes what it reads");
        let now = Instant::now();
        if now - due > LATE {
            stalls.0.push((due, now));
        }
    }
    stalls
}

impl Stalls {
    #[cfg(test)]
    pub(super) fn of(stalls: &[(Instant, Instant)]) -> Self {
        Self(stalls.to_vec())
    }

    /// How long of this time the machine ran nobody.
    pub(super) fn within(&self, from: Instant, until: Instant) -> Duration {
        let first = self.0.partition_point(|(_, end)| *end <= from);
        let meanwhile = self.0[first..].iter().take_while(|(start, _)| *start < until);
        meanwhile.map(|(start, end)| *end.min(&until) - *start.max(&from)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_part_of_a_time_is_what_overlaps() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let stalls = Stalls::of(&[(at(100), at(200)), (at(300), at(350))]);
        for (from, until, expected_ms) in
            [(0, 100, 0), (0, 1000, 150), (150, 310, 60), (200, 300, 0), (120, 130, 10)]
        {
            let seen = stalls.within(at(from), at(until));
            assert_eq!(seen, Duration::from_millis(expected_ms), "{from}..{until}");
        }
    }

    #[tokio::test]
    async fn a_witness_sees_that_nobody_runs() {
        let witness = Witness::start();
        tokio::task::yield_now().await;
        let start = Instant::now();
        // Nothing else runs on this runtime of one thread: it is the machine that stands still.
        std::thread::sleep(Duration::from_millis(200));
        let stalls = witness.end().await;
        assert!(stalls.within(start, Instant::now()) >= Duration::from_millis(100));
    }
}
