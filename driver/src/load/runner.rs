//! Carries out a plan on a thread of its own: sends what is due, and counts what becomes of it.
//!
//! One thread, because what it measures needs the other cores; and its own, because a test beside it
//! shall not delay what is due.

use super::{
    alarm::Alarm,
    connections::{Connections, LinkError},
    files::{self, FilesError},
    outcome::Outcome,
    plan::{Arrivals, Check, Pace, Plan, PlanError},
    popularity::{Choice, Chooser},
    progress::{Progress, Progresses},
    record::{Event, Recorder},
    requests::Requests,
    result::{LoadResult, RouterRow},
    schedule::Schedule,
    summary,
};
use crate::machine;
use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    runtime,
    sync::{Notify, oneshot, watch},
    task::{LocalSet, yield_now},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Invocations that are sent in a row before answers are looked at.
const MAX_BURST: usize = 32;

/// A client that is refused a connection does not ask again at once.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the load ended without a result")]
    Died,
}

/// What a run shall do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Go,
    /// Send nothing more, and wait for what is in flight.
    End,
    /// Do not wait.
    Abandon,
}

/// A load that runs. If it is dropped, what is in flight is abandoned.
#[derive(Debug)]
pub struct Load {
    wish: watch::Sender<Wish>,
    progress: watch::Receiver<Progress>,
    result: oneshot::Receiver<LoadResult>,
}

impl Load {
    /// Starts to carry out a plan.
    pub fn start(plan: Plan) -> Result<Self, LoadError> {
        plan.validate()?;
        let requests = Requests::new(&plan)?;
        files::allow(plan.pace.max_in_flight(), plan.routers.len())?;
        let (wish, wishes) = watch::channel(Wish::Go);
        let (progress_tx, progress) = watch::channel(Progress::default());
        let (result_tx, result) = oneshot::channel();
        let alarm = Alarm::new().map_err(LoadError::Thread)?;
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(LoadError::Thread)?;
        let work = move || {
            let run = Rc::new(Run::new(plan, requests, wishes));
            let local = LocalSet::new();
            let cpu_before = machine::cpu_time();
            local.block_on(&runtime, run.carry_out(alarm, progress_tx));
            // What is still in flight counts itself as abandoned when its task is dropped.
            drop((local, runtime));
            let cpu = machine::cpu_time().saturating_sub(cpu_before);
            if let Some(run) = Rc::into_inner(run) {
                // Nobody may be waiting for it any more.
                let _ = result_tx.send(run.result(cpu));
            }
        };
        thread::Builder::new().name("load".to_owned()).spawn(work).map_err(LoadError::Thread)?;
        Ok(Self { wish, progress, result })
    }

    /// What has come of it so far, a fifth of a second ago at most.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Gets news of the progress.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Sends nothing more; what is in flight is waited for.
    pub fn end(&self) {
        self.wish.send_replace(Wish::End);
    }

    /// Sends nothing more and waits for nothing.
    pub fn abandon(&self) {
        self.wish.send_replace(Wish::Abandon);
    }

    /// Waits for its end and returns what it came to. Cancel safe.
    pub async fn result(&mut self) -> Result<LoadResult, LoadError> {
        (&mut self.result).await.map_err(|_| LoadError::Died)
    }
}

/// Carries out a plan to its end.
pub async fn run(plan: Plan) -> Result<LoadResult, LoadError> {
    Load::start(plan)?.result().await
}

#[derive(Debug)]
struct Run {
    plan: Plan,
    requests: Requests,
    routers: Vec<Router>,
    wishes: watch::Receiver<Wish>,
    started: Instant,
    started_at: SystemTime,
    recorder: RefCell<Recorder>,
    n_begun: Cell<usize>,
    n_in_flight: Cell<usize>,
    /// Tells that nothing is in flight any more.
    is_idle: Notify,
    is_interrupted: Cell<bool>,
}

#[derive(Debug)]
struct Router {
    connections: Connections,
    n_sent: Cell<u64>,
    n_unanswered: Cell<u64>,
}

/// An invocation under way. It counts itself, as abandoned if it is dropped before its end.
struct InFlight {
    run: Rc<Run>,
    event: Event,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let run = &self.run;
        self.event.ended = run.started.elapsed();
        run.recorder.borrow_mut().add(&self.event);
        run.n_in_flight.set(run.n_in_flight.get() - 1);
        if run.n_in_flight.get() == 0 {
            run.is_idle.notify_one();
        }
    }
}

impl Run {
    fn new(plan: Plan, requests: Requests, wishes: watch::Receiver<Wish>) -> Self {
        let router = |authority: &String| Router {
            connections: Connections::new(authority.clone()),
            n_sent: Cell::new(0),
            n_unanswered: Cell::new(0),
        };
        Self {
            routers: requests.authorities().iter().map(router).collect(),
            wishes,
            started: Instant::now(),
            started_at: SystemTime::now(),
            recorder: RefCell::new(Recorder::new(&plan)),
            n_begun: Cell::new(0),
            n_in_flight: Cell::new(0),
            is_idle: Notify::new(),
            is_interrupted: Cell::new(false),
            plan,
            requests,
        }
    }

    async fn carry_out(self: &Rc<Self>, alarm: Alarm, progress: watch::Sender<Progress>) {
        let work = async {
            match self.plan.pace {
                Pace::Closed { concurrency } => self.closed(concurrency).await,
                Pace::Open { arrivals, max_in_flight } => {
                    self.open(alarm, arrivals, max_in_flight).await;
                }
            }
            while self.n_in_flight.get() > 0 {
                self.is_idle.notified().await;
            }
        };
        let mut wishes = self.wishes.clone();
        let mut progresses = Progresses::new(progress);
        let interrupted = async {
            // Whoever wanted the result has gone, if it is an error.
            let _ = wishes.wait_for(|wish| *wish >= Wish::End).await;
            self.interrupt();
            let _ = wishes.wait_for(|wish| *wish == Wish::Abandon).await;
        };
        let publish = async {
            loop {
                sleep(Progresses::EVERY).await;
                self.publish(&mut progresses);
            }
        };
        tokio::select! {
            () = work => {}
            () = interrupted => {}
            () = publish => {}
        }
        // The work may have seen it first, and ended.
        if self.is_to_end() {
            self.interrupt();
        }
        self.publish(&mut progresses);
    }

    fn is_to_end(&self) -> bool {
        *self.wishes.borrow() >= Wish::End
    }

    /// What is answered from now on is late.
    fn interrupt(&self) {
        if !self.is_interrupted.replace(true) {
            self.recorder.borrow_mut().end_window(self.started.elapsed());
        }
    }

    fn publish(&self, progresses: &mut Progresses) {
        let mut recorder = self.recorder.borrow_mut();
        progresses.publish(self.started.elapsed(), self.n_in_flight.get(), &mut recorder);
    }

    /// Sends each invocation when it is due.
    async fn open(self: &Rc<Self>, mut alarm: Alarm, arrivals: Arrivals, max_in_flight: usize) {
        let schedule = Schedule::new(&self.plan, arrivals);
        let mut chooser = Chooser::new(&self.plan);
        let mut wishes = self.wishes.clone();
        let deal = async {
            for (n_dealt, due) in schedule.enumerate() {
                if self.started + due > Instant::now() {
                    alarm.until(self.started + due).await;
                } else if n_dealt.is_multiple_of(MAX_BURST) {
                    yield_now().await;
                }
                let Some(choice) = chooser.next() else { return };
                let n_in_flight = self.n_in_flight.get();
                if n_in_flight < max_in_flight {
                    let in_flight = self.begin(choice, due);
                    tokio::task::spawn_local(in_flight.complete());
                } else {
                    let mut event = self.event(choice, due);
                    event.outcome = Outcome::not_sent(n_in_flight);
                    self.recorder.borrow_mut().add(&event);
                }
            }
            sleep_until(self.started + self.plan.duration).await;
        };
        tokio::select! {
            () = deal => {}
            _ = wishes.wait_for(|wish| *wish >= Wish::End) => {}
        }
    }

    /// Lets each of some clients ask when it has been answered.
    async fn closed(self: &Rc<Self>, concurrency: usize) {
        let chooser = Rc::new(RefCell::new(Chooser::new(&self.plan)));
        let clients = (0..concurrency)
            .map(|_| tokio::task::spawn_local(Rc::clone(self).client(Rc::clone(&chooser))));
        let clients: Vec<_> = clients.collect();
        for client in clients {
            // One that panicked has said so.
            let _ = client.await;
        }
    }

    async fn client(self: Rc<Self>, chooser: Rc<RefCell<Chooser>>) {
        loop {
            let due = self.started.elapsed();
            if due >= self.plan.duration || self.is_to_end() {
                return;
            }
            let Some(choice) = chooser.borrow_mut().next() else { return };
            let is_answered = self.begin(choice, due).complete().await;
            if !is_answered {
                sleep(REFUSED_PAUSE).await;
            }
        }
    }

    fn event(&self, choice: Choice, due: Duration) -> Event {
        let n = self.n_begun.replace(self.n_begun.get() + 1);
        let now = self.started.elapsed();
        Event {
            choice,
            due,
            sent: now,
            ended: now,
            router_idx: n % self.routers.len(),
            is_retried: false,
            outcome: Outcome::abandoned(),
        }
    }

    fn begin(self: &Rc<Self>, choice: Choice, due: Duration) -> InFlight {
        self.n_in_flight.set(self.n_in_flight.get() + 1);
        InFlight { run: Rc::clone(self), event: self.event(choice, due) }
    }

    fn result(self, cpu: Duration) -> LoadResult {
        let routers = self.routers.iter().zip(&self.plan.routers);
        let routers = routers.map(|(router, url)| RouterRow {
            router: url.clone(),
            n_sent: router.n_sent.get(),
            n_unanswered: router.n_unanswered.get(),
            n_connections: router.connections.n_opened(),
        });
        let facts = summary::Facts {
            started_at: self.started_at,
            elapsed: self.started.elapsed(),
            is_interrupted: self.is_interrupted.get(),
            routers: routers.collect(),
            cpu,
        };
        let kept = self.recorder.into_inner().kept(&self.plan);
        summary::result(&self.plan, kept, facts)
    }
}

impl InFlight {
    /// Returns whether there was a connection.
    async fn complete(mut self) -> bool {
        let run = Rc::clone(&self.run);
        let patience = run.plan.answer_timeout;
        let asked = timeout(patience, self.ask(&run)).await;
        let outcome = asked.unwrap_or_else(|_| Outcome::timed_out());
        let is_answered =
            !matches!(&outcome, Outcome::Failed(failure) if failure.is_no_connection());
        self.event.outcome = outcome;
        is_answered
    }

    /// Asks a router, and another one if the first does not answer.
    async fn ask(&mut self, run: &Run) -> Outcome {
        let choice = self.event.choice;
        let expected = match run.plan.check {
            Check::Any => None,
            Check::Echo => Some(run.requests.body(choice)),
        };
        loop {
            let router = &run.routers[self.event.router_idx];
            let request = match run.requests.request(self.event.router_idx, choice) {
                Ok(request) => request,
                Err(error) => return Outcome::unsigned(error.to_string()),
            };
            router.n_sent.set(router.n_sent.get() + 1);
            let error = match router.connections.exchange(request, expected).await {
                Ok(answer) => return Outcome::of_answer(&answer),
                Err(error) => error,
            };
            router.n_unanswered.set(router.n_unanswered.get() + 1);
            let may_retry = !self.event.is_retried && run.routers.len() > 1;
            if !may_retry || matches!(error, LinkError::Cut(_)) {
                return Outcome::of_link(&error);
            }
            self.event.is_retried = true;
            self.event.router_idx = (self.event.router_idx + 1) % run.routers.len();
        }
    }
}

#[cfg(test)]
mod tests;
