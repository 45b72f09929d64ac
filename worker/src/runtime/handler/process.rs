//! One handler process: an interpreter with one model loaded.
//!
//! # Invariants
//!
//! - It never outlives the worker: the kernel kills it, and it ends when its socket closes.
//! - What it has started itself ends with it, unless the worker is killed: they are one process group.
//! - While it is waited for, what was sent goes out, too: no side waits for the other to read.

use super::{
    frame::{Body, Codec, Frame, FrameError, Kind},
    message::{Failed, Hello, VERSION},
    nursery::Nursery,
    output,
};
use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use shared::task::Task;
use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    pin::Pin,
    process::{ExitStatus, Stdio},
    task::Poll,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};
use tokio_util::codec::Framed;

/// How long a process may take to end by itself once its socket is closed: its `atexit` functions run.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the interpreter is told to do: nothing of ours goes before what it finds by itself.
const START: &str = "import sys; sys.path.append(sys.argv[1]); \
     from manifold_handler.main import main; main()";

/// How an interpreter is started.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    /// Its name, found on the path, or its file.
    pub(super) program: PathBuf,
    /// Where the Python half lies.
    pub(super) harness: PathBuf,
    pub(super) nursery: Nursery,
}

/// Why a process did not come to serve, or serves no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    #[error("cannot be started: {0}")]
    NotStarted(String),
    #[error("exited with code {0}")]
    Exited(i32),
    #[error("was killed by signal {0}")]
    Killed(i32),
    #[error("was killed because memory ran out")]
    OutOfMemory,
    #[error("did not answer within {0:?} and was killed")]
    TimedOut(Duration),
    #[error("speaks another protocol: {0}")]
    Protocol(String),
}

/// A running interpreter.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
    stream: Framed<UnixStream, Codec>,
    _output: [Option<Task>; 2],
}

impl Process {
    /// Starts an interpreter. `model_name` is for its log; frames from it have at most so many bytes.
    pub(super) async fn start(
        interpreter: &Interpreter,
        model_name: &str,
        max_body_bytes: u32,
    ) -> Result<Self, Ended> {
        let not_started = |error: io::Error| {
            let program = interpreter.program.display();
            Ended::NotStarted(format!("`{program}`: {error}; see --python"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(not_started)?;
        let theirs = theirs.into_std().and_then(|it| it.set_nonblocking(false).map(|()| it));
        let command = command(interpreter, theirs.map_err(not_started)?.into());
        let mut child = interpreter.nursery.spawn(command).await.map_err(not_started)?;
        let group = Group::of(&child);
        let stdout = child.stdout.take().map(|it| output::follow(it, model_name, "stdout"));
        let stderr = child.stderr.take().map(|it| output::follow(it, model_name, "stderr"));
        let stream = Framed::new(ours, Codec { max_body_bytes });
        Ok(Self { child, group, stream, _output: [stdout, stderr] })
    }

    /// Its number, as the system counts.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets a frame go out, from the next time on that the process is waited for.
    pub(super) fn send(
        &mut self,
        kind: Kind,
        call: u32,
        head: &impl Serialize,
        body: Vec<Bytes>,
    ) -> Result<(), FrameError> {
        let head = serde_json::to_vec(head).map_err(io::Error::from)?;
        let frame = Frame { kind, call, head: head.into(), body: Body(body) };
        // Not asked whether there is room: what is under way is bounded by the calls that are.
        Pin::new(&mut self.stream).start_send(frame)
    }

    /// Waits for a frame; `None` if the process has closed its end, which is when it dies. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Frame, FrameError>> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx)
                && !is_end(&error)
            {
                return Poll::Ready(Some(Err(error)));
            }
            Pin::new(&mut self.stream).poll_next(cx).map(|frame| match frame {
                Some(Err(error)) if is_end(&error) => None,
                frame => frame,
            })
        })
        .await
    }

    /// Waits for its hello.
    pub(super) async fn hello(&mut self) -> Result<(), Ended> {
        let frame = self.expect(Kind::Hello).await?;
        let hello: Hello = parsed(&frame.head)?;
        if hello.version == VERSION {
            Ok(())
        } else {
            Err(Ended::Protocol(format!("version {}, not {VERSION}", hello.version)))
        }
    }

    /// Waits for what came of a load: nothing, or why it failed.
    pub(super) async fn loaded(&mut self) -> Result<Result<(), Failed>, Ended> {
        let frame = self.expect_any().await?;
        match frame.kind {
            Kind::Loaded => Ok(Ok(())),
            Kind::Failed => Ok(Err(parsed(&frame.head)?)),
            kind => Err(Ended::Protocol(format!("{kind:?} came instead of Loaded"))),
        }
    }

    async fn expect(&mut self, wanted: Kind) -> Result<Frame, Ended> {
        let frame = self.expect_any().await?;
        let is_wanted = frame.kind == wanted;
        let kind = frame.kind;
        is_wanted
            .then_some(frame)
            .ok_or_else(|| Ended::Protocol(format!("{kind:?} came instead of {wanted:?}")))
    }

    async fn expect_any(&mut self) -> Result<Frame, Ended> {
        match self.next().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => Err(Ended::Protocol(error.to_string())),
            None => Err(self.exit().await),
        }
    }

    /// Says how a process ended that has closed its end.
    pub(super) async fn exit(&mut self) -> Ended {
        // It may be on its way out still.
        let status = if let Ok(status) = timeout(PATIENCE, self.child.wait()).await {
            status
        } else {
            self.group.kill();
            self.child.wait().await
        };
        self.group.kill();
        status.map_or_else(|error| Ended::NotStarted(error.to_string()), how)
    }

    /// Kills it with all that it has started, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        self.group.kill();
        // It is ours, so it can be waited for.
        let _ = self.child.wait().await;
    }

    /// Lets it end by itself: nothing is under way any more.
    pub(super) async fn end(mut self) {
        let ending = async {
            // One that has gone already needs not be told.
            let _ = self.stream.get_mut().shutdown().await;
            while let Some(Ok(_)) = self.next().await {}
        };
        // One that does not end in time is killed.
        let _ = timeout(PATIENCE, ending).await;
        self.kill().await;
    }
}

/// A process and all that it has started. Killed on drop.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// Of a process that was started as the leader of one.
    pub(super) fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn kill(&self) {
        if let Some(leader) = self.0 {
            // One that has ended is as wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How the interpreter is called. It imports nothing of the model's before the kernel knows that it shall
/// die with us.
fn command(interpreter: &Interpreter, socket: OwnedFd) -> Command {
    let mut command = Command::new(&interpreter.program);
    command
        .args(["-c", START])
        .arg(&interpreter.harness)
        .current_dir(&interpreter.harness)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn how(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Killed(signal.unwrap_or_default()),
    }
}

/// Whether an error says no more than that the other side has gone.
fn is_end(error: &FrameError) -> bool {
    let FrameError::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

pub(super) fn parsed<'a, T: serde::Deserialize<'a>>(head: &'a [u8]) -> Result<T, Ended> {
    serde_json::from_slice(head).map_err(|error| Ended::Protocol(error.to_string()))
}
