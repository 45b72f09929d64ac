//! Keeps one handler process at work: batches in, answers out, a new one when it dies.
//!
//! # Invariants
//!
//! - A process has one batch at a time, and the next one waiting beside it only where there is no other
//!   process that could take it.
//! - The batch that a process died of fails; what surely did not begin is the next one's.
//! - A process that keeps an invocation for too long is killed: nothing else can stop it.

use super::{
    answer,
    frame::{Frame, FrameError, Kind},
    message::{Predict, Request},
    model::HandlerParts,
    process::{Ended, Process},
    queue::Call,
};
use crate::runtime::RuntimeError;
use rustix::time::{ClockId, clock_gettime};
use shared::backoff::Backoff;
use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A process that dies at once must not keep a core busy with starting it; one that is well again after a
/// minute must not be waited for much longer.
const RESTART: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(30) };

/// How often the memory of a process is looked at while it works.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Runs until the model is unloaded, or this process of it is told to stop.
pub(super) async fn run(
    parts: Arc<HandlerParts>,
    idx: usize,
    process: Process,
    stop: CancellationToken,
) {
    let mut runner = Runner { parts, idx, stop, last_call: 0, n_answered: 0 };
    let mut next = Some(process);
    while let Some(process) = next {
        next = match runner.serve(process).await {
            Some(ended) => runner.restart(&ended).await,
            None => None,
        };
    }
}

struct Runner {
    parts: Arc<HandlerParts>,
    /// Which of the model's processes it keeps.
    idx: usize,
    /// It shall take nothing more, and end with what it has.
    stop: CancellationToken,
    last_call: u32,
    n_answered: u64,
}

/// A batch that is on its way.
struct Running {
    call: u32,
    calls: Vec<Call>,
    sent: Instant,
    is_cancelled: bool,
}

impl Runner {
    /// Serves until the process ends, and says how; `None` if it is the model that ends.
    async fn serve(&mut self, mut process: Process) -> Option<Ended> {
        let mut running: VecDeque<Running> = VecDeque::new();
        let mut measure = interval(MEASURE_EVERY);
        let mut n_measured = 0;
        self.n_answered = 0;
        let ended = loop {
            let has_room = running.len() < self.parts.depth() && !self.stop.is_cancelled();
            let is_idle = running.is_empty();
            tokio::select! {
                biased;
                frame = process.next() => match self.took(frame, &mut running) {
                    Ok(()) => {}
                    Err(Some(ended)) => break ended,
                    Err(None) => break process.exit().await,
                },
                () = self.parts.queue.closed() => {
                    // What still runs, nobody waits for.
                    if running.is_empty() { process.end().await } else { process.kill().await }
                    return None;
                }
                () = self.stop.cancelled(), if is_idle => {
                    process.end().await;
                    return None;
                }
                batch = self.parts.queue.next(self.parts.batching()), if has_room => {
                    if let Err(error) = self.send(&mut process, batch, &mut running) {
                        break Ended::Protocol(error.to_string());
                    }
                }
                concern = concern(&mut running, self.parts.timeout()) => match concern {
                    Concern::Overdue => break Ended::TimedOut(self.parts.timeout()),
                    Concern::Unwanted => cancel(&mut process, &mut running),
                },
                _ = measure.tick(), if n_measured != self.n_answered => {
                    n_measured = self.n_answered;
                    self.measure(&process).await;
                }
            }
        };
        process.kill().await;
        let ended = self.parts.memory.blame(ended);
        self.fail(running, &ended);
        Some(ended)
    }

    fn send(
        &mut self,
        process: &mut Process,
        calls: Vec<Call>,
        running: &mut VecDeque<Running>,
    ) -> Result<(), FrameError> {
        self.last_call = self.last_call.wrapping_add(1);
        let requests = calls.iter().map(|call| Request {
            id: &call.request.id,
            headers: &call.request.headers,
            inputs: call
                .request
                .inputs
                .iter()
                .map(|it| (&*it.name, &*it.content_type, it.value.len()))
                .collect(),
        });
        let deadline = calls.iter().map(|call| call.deadline).max();
        let head = Predict {
            deadline_ns: monotonic_ns(deadline.unwrap_or_else(Instant::now)),
            requests: requests.collect(),
        };
        let body = calls.iter().flat_map(|it| &it.request.inputs).map(|it| it.value.clone());
        process.send(Kind::Predict, self.last_call, &head, body.collect())?;
        let (call, sent) = (self.last_call, Instant::now());
        let batch = Running { call, calls, sent, is_cancelled: false };
        if running.is_empty() {
            self.begin(&batch);
        }
        running.push_back(batch);
        Ok(())
    }

    fn begin(&self, batch: &Running) {
        let arrived = batch.calls.first().map_or(batch.sent, |call| call.arrived);
        self.parts.meter.begin(batch.sent - arrived, batch.sent);
    }

    /// Takes what came of the process. `Err(None)`: it has closed its end.
    fn took(
        &mut self,
        frame: Option<Result<Frame, FrameError>>,
        running: &mut VecDeque<Running>,
    ) -> Result<(), Option<Ended>> {
        let protocol = |what: String| Some(Ended::Protocol(what));
        let frame = frame.ok_or(None)?.map_err(|error| protocol(error.to_string()))?;
        // They are answered in their order.
        if running.front().is_none_or(|it| it.call != frame.call) {
            return Err(protocol(format!(
                "an answer to call {}, which is not its turn",
                frame.call
            )));
        }
        let batch = running.pop_front().expect("it was just looked at");
        let now = Instant::now();
        self.parts.meter.end(batch.sent, now);
        if let Some(next) = running.front_mut() {
            // Its time begins when it is its turn.
            next.sent = now;
            self.begin(next);
        }
        self.n_answered += 1;
        match frame.kind {
            Kind::Answer => answer::give(&frame, batch.calls, &self.parts.metrics).map_err(Some),
            // Nobody waits for it.
            Kind::Skipped => Ok(()),
            kind => Err(protocol(format!("{kind:?} came instead of an answer"))),
        }
    }

    /// Tells whoever waits for what a process died of. What it had not begun waits for the next one.
    fn fail(&self, mut running: VecDeque<Running>, ended: &Ended) {
        let began = running.pop_front();
        self.parts.queue.give_back(running.into_iter().flat_map(|it| it.calls).collect());
        let Some(began) = began else { return };
        self.parts.meter.end(began.sent, Instant::now());
        let error = RuntimeError::from(ended.clone());
        for call in began.calls {
            call.answer(Err(error.clone()));
        }
    }

    /// Starts another process in the place of one that ended; `None` if the model is unloaded.
    async fn restart(&self, ended: &Ended) -> Option<Process> {
        let (parts, idx) = (&self.parts, self.idx);
        let model = parts.model_name();
        warn!(model, process = idx, cause = %ended, "handler process ended; another one is started");
        parts.metrics.restarts.inc();
        tokio::select! {
            biased;
            // What is being started is killed with its task.
            () = parts.queue.closed() => None,
            () = self.stop.cancelled() => None,
            process = self.started() => {
                info!(model, process = idx, "handler process started");
                self.measure(&process).await;
                Some(process)
            }
        }
    }

    /// Tries until a process serves.
    async fn started(&self) -> Process {
        // One that never answered is not tried again at once.
        let mut n_failed = u32::from(self.n_answered == 0);
        loop {
            if n_failed > 0 {
                sleep(RESTART.delay(n_failed - 1)).await;
            }
            let error = match self.parts.start().await {
                Ok(process) => return process,
                Err(error) => error,
            };
            let model = self.parts.model_name();
            warn!(model, process = self.idx, %error, "handler process did not start");
            if self.parts.is_lone() {
                // Nobody else will answer them, and they need not wait for their deadline to hear it.
                self.parts.queue.fail(&error);
            }
            n_failed = n_failed.saturating_add(1);
        }
    }

    async fn measure(&self, process: &Process) {
        if let Some(id) = process.id() {
            self.parts.memory.measure(self.idx, id).await;
        }
    }
}

/// What is to be done about what a process has.
enum Concern {
    /// It has kept its batch for too long.
    Overdue,
    /// Nobody waits for the second batch any more.
    Unwanted,
}

async fn concern(running: &mut VecDeque<Running>, patience: Duration) -> Concern {
    let Some(until) = running.front().map(|it| it.sent + patience) else { return pending().await };
    tokio::select! {
        () = sleep_until(until) => Concern::Overdue,
        () = unwanted(running) => Concern::Unwanted,
    }
}

/// The batch that waits beside the first one, unless it is cancelled.
fn waiting(running: &mut VecDeque<Running>) -> Option<&mut Running> {
    running.get_mut(1).filter(|it| !it.is_cancelled)
}

/// Returns when nobody waits for the second batch any more.
async fn unwanted(running: &mut VecDeque<Running>) {
    poll_fn(|cx| {
        let Some(batch) = waiting(running) else { return Poll::Pending };
        // Each is asked, so that each wakes.
        let replies = batch.calls.iter_mut().map(|it| &mut it.reply);
        let n_gone = replies.map(|it| usize::from(it.poll_closed(cx).is_ready())).sum::<usize>();
        if n_gone == batch.calls.len() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Tells the process that it need not begin the second batch.
fn cancel(process: &mut Process, running: &mut VecDeque<Running>) {
    if let Some(batch) = waiting(running) {
        batch.is_cancelled = true;
        // If it cannot be told, its end is seen where it is read.
        let _ = process.send(Kind::Cancel, batch.call, &(), Vec::new());
    }
}

/// A moment on the clock that handler processes read.
fn monotonic_ns(at: Instant) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    let at = now.saturating_add(at.saturating_duration_since(Instant::now()));
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}
