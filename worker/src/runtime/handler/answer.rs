//! The answers of a batch, each to whoever waits for it.

use super::{
    frame::Frame,
    message::{Answers, Item},
    process::{Ended, parsed},
    queue::Call,
};
use crate::{
    metrics::HandlerMetrics,
    runtime::{ModelOutput, OutputHead, RuntimeError},
};
use bytes::Bytes;

/// The status that means for a platform that memory ran out.
const OUT_OF_MEMORY: u16 = 507;

/// Takes an answer apart. If it does not fit its batch, nothing of it is believed and nobody is
/// answered by it.
pub(super) fn give(frame: &Frame, calls: Vec<Call>, metrics: &HandlerMetrics) -> Result<(), Ended> {
    let answers: Answers = match parsed(&frame.head) {
        Ok(answers) => answers,
        Err(ended) => return Err(fail(calls, ended)),
    };
    let body: Bytes = frame.body.0.first().cloned().unwrap_or_default();
    let n_bytes: usize = answers.items.iter().map(length).fold(0, usize::saturating_add);
    if answers.items.len() != calls.len() || n_bytes != body.len() {
        let what = format!(
            "{} answers of {n_bytes} bytes to {} requests, in {} bytes",
            answers.items.len(),
            calls.len(),
            body.len()
        );
        return Err(fail(calls, Ended::Protocol(what)));
    }
    for metric in answers.metrics {
        metrics.observe(&metric.name, &metric.unit, metric.value);
    }
    let mut offset = 0;
    for (item, call) in answers.items.into_iter().zip(calls) {
        let end = offset + length(&item);
        call.answer(outcome(item, body.slice(offset..end)));
        offset = end;
    }
    Ok(())
}

fn length(item: &Item) -> usize {
    match item {
        Item::Failed { .. } => 0,
        Item::Answered { len, .. } => *len,
    }
}

fn outcome(item: Item, body: Bytes) -> Result<ModelOutput, RuntimeError> {
    match item {
        Item::Failed { status: OUT_OF_MEMORY, failed } => Err(RuntimeError::OutOfMemory(failed)),
        Item::Failed { status, failed } => Err(RuntimeError::Handler { status, message: failed }),
        Item::Answered { status, headers, .. } => {
            let head = Some(Box::new(OutputHead { status, headers }));
            Ok(ModelOutput { content_type: None, body, head })
        }
    }
}

fn fail(calls: Vec<Call>, ended: Ended) -> Ended {
    for call in calls {
        call.answer(Err(ended.clone().into()));
    }
    ended
}
