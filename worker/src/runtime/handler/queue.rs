//! The invocations that wait for one model's handler processes, and how they become batches.

use crate::runtime::{ModelOutput, RuntimeError};
use parking_lot::Mutex;
use std::{collections::VecDeque, time::Duration};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// One invocation on its way to a handler.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<ModelOutput, RuntimeError>>,
}

/// What a handler is given of an invocation.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) inputs: Vec<Input>,
}

/// A named part of a request; all of it is `body`, unless it is a form.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) value: bytes::Bytes,
}

/// How invocations become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most at once.
    pub max_calls: usize,
    /// How long the first waits for others.
    pub max_delay: Duration,
}

/// The queue. It has no bound of its own: every call holds a permit of its replica.
#[derive(Debug, Default)]
pub(super) struct Queue {
    calls: Mutex<VecDeque<Call>>,
    /// One call more is there.
    arrived: Notify,
    closed: CancellationToken,
}

impl Call {
    /// Whether somebody waits for it still.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        !self.reply.is_closed() && now < self.deadline
    }

    pub(super) fn answer(self, outcome: Result<ModelOutput, RuntimeError>) {
        // Whoever asked may be gone.
        let _ = self.reply.send(outcome);
    }
}

impl Queue {
    /// Lets a call wait for its turn. In a closed queue none comes: its reply is dropped, which says that
    /// it did not begin.
    pub(super) fn push(&self, call: Call) {
        let mut calls = self.calls.lock();
        // Under the lock: what is pushed before the queue is closed is dropped with the others.
        if !self.closed.is_cancelled() {
            calls.push_back(call);
            drop(calls);
            self.arrived.notify_one();
        }
    }

    /// Waits for the next batch; there is none once the queue is [closed](Self::closed). Cancel-safe.
    pub(super) async fn next(&self, batching: Batching) -> Vec<Call> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let Some(first) = self.first_arrived() else {
                arrived.await;
                continue;
            };
            let full_by = first + batching.max_delay;
            if self.len() >= batching.max_calls
                || batching.max_calls == 1
                || timeout_at(full_by, arrived).await.is_err()
            {
                let batch = self.take(batching.max_calls);
                if !batch.is_empty() {
                    return batch;
                }
            }
        }
    }

    /// Gives back calls that surely did not begin: they are the next.
    pub(super) fn give_back(&self, given: Vec<Call>) {
        let mut calls = self.calls.lock();
        for call in given.into_iter().rev() {
            calls.push_front(call);
        }
        drop(calls);
        self.arrived.notify_one();
    }

    /// Answers all that wait.
    pub(super) fn fail(&self, error: &RuntimeError) {
        let waiting = std::mem::take(&mut *self.calls.lock());
        for call in waiting {
            call.answer(Err(error.clone()));
        }
    }

    /// Takes nothing more, and drops what waits.
    pub(super) fn close(&self) {
        let mut calls = self.calls.lock();
        self.closed.cancel();
        let waiting = std::mem::take(&mut *calls);
        drop(calls);
        drop(waiting);
    }

    /// Returns once it is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// When the first call that somebody waits for came.
    fn first_arrived(&self) -> Option<Instant> {
        let mut calls = self.calls.lock();
        let now = Instant::now();
        calls.retain(|call| call.is_wanted(now));
        calls.front().map(|call| call.arrived)
    }

    fn len(&self) -> usize {
        self.calls.lock().len()
    }

    fn take(&self, max_calls: usize) -> Vec<Call> {
        let mut calls = self.calls.lock();
        let n_taken = calls.len().min(max_calls);
        let taken = calls.drain(..n_taken).collect();
        let has_more = !calls.is_empty();
        drop(calls);
        if has_more {
            // The one that was woken for them is another's.
            self.arrived.notify_one();
        }
        taken
    }
}
