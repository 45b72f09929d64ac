//! The signals of a whole run: one listener from its first line to its last.
//!
//! A listener that is made anew for each wait would miss what comes between two waits, and a signal
//! before the first would end this process and leave its children to find out by themselves.

use crate::console;
use shared::shutdown;
use std::io;

/// SIGTERM and SIGINT (Ctrl-C), from when it was made: none is lost, wherever we are just then.
#[derive(Debug)]
pub struct Signals(shutdown::Signals);

impl Signals {
    /// Listens from now on. Must be called in a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        shutdown::Signals::listen().map(Self)
    }

    /// Waits for the next signal, or takes one that came before, and returns its name. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        self.0.next().await.name()
    }

    /// Does `work` unless a signal comes first: then says so, drops the work and returns `None`.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            name = self.next() => {
                console::say(&format!("{name}: stopping"));
                None
            }
            done = work => Some(done),
        }
    }
}
