//! Wakes at a time, to a tenth of a millisecond. Tokio's timers go by whole milliseconds, which is
//! more than a warm invocation takes: it would pass for the cluster's latency.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What tokio's timer is trusted with.
const COARSE: Duration = Duration::from_millis(3);

/// At most so many wake-ups a second: 10,000 take a tenth of a core.
const MIN_GAP: Duration = Duration::from_micros(100);

/// A thread that sleeps for us: the system's own sleep is exact to some 50 µs. It ends when the alarm
/// is dropped.
#[derive(Debug)]
pub(super) struct Alarm {
    times: mpsc::Sender<Instant>,
    wake: Arc<Notify>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let (times, received) = mpsc::channel::<Instant>();
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        thread::Builder::new().name("load-alarm".to_owned()).spawn(move || {
            // One time at a time comes, and none is far away.
            while let Ok(at) = received.recv() {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                waker.notify_one();
            }
        })?;
        Ok(Self { times, wake })
    }

    /// Waits until `at`, or a little longer. Not to be used again if dropped before it is through.
    pub(super) async fn until(&mut self, at: Instant) {
        let now = Instant::now();
        if at > now + COARSE {
            sleep_until(at - COARSE).await;
        }
        // The thread lives as long as its channel.
        if self.times.send(at.max(now + MIN_GAP)).is_ok() {
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alarm_never_wakes_early() {
        let mut alarm = Alarm::new().unwrap();
        for micros in [0, 50, 700, 5_300] {
            let at = Instant::now() + Duration::from_micros(micros);
            alarm.until(at).await;
            assert!(Instant::now() >= at, "{micros}");
        }
    }
}
