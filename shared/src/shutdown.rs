//! When a process ends: a signal, or the end of the process that started it.

use std::io::Read as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, from when it was made: none is lost between two waits.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How a process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM: by whoever runs it, in order.
    Terminate,
    /// SIGINT: by a person at a terminal, who waits.
    Interrupt,
}

impl Request {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

impl Signals {
    /// Listens from now on. Must be called in a tokio runtime.
    pub fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.interrupt.recv() => Request::Interrupt,
        }
    }
}

/// Waits for SIGTERM or SIGINT and returns its name.
pub async fn requested() -> std::io::Result<&'static str> {
    Ok(Signals::listen()?.next().await.name())
}

/// Ends this process now, with an exit code, without the destructors of C++ libraries.
///
/// For a process whose threads may still compute: a library that is taken down under them aborts.
/// The kernel releases memory, locks and connections; what matters must be on disk before.
pub fn exit_now(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

/// Ends this process when its standard input closes.
///
/// A parent that keeps the other end of the pipe open thus takes its children with it even when
/// it is killed: the kernel closes the pipe. Meant for `--exit-with-parent` alone.
pub fn exit_with_parent() {
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        // Whatever comes is ignored; the end or an error means that the parent is gone.
        while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        tracing::warn!("parent is gone, exiting");
        exit_now(0);
    });
}
