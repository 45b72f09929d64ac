//! What became of an invocation, and under which name failures are counted.

use super::connections::{Answer, LinkError};
use hyper::{HeaderMap, StatusCode, header::HeaderValue};
use serde::{Deserialize, Serialize};
use shared::{
    api::invocation::{CACHE, INSTANCE, RETRY_AFTER_MS},
    telemetry::Chain,
};

/// The router's header with the name of an error.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// Names come from whoever answers: no longer than any of ours.
const MAX_NAME_CHARS: usize = 64;

/// A kind of failure.
const NO_CONNECTION: &str = "no connection";

/// An invocation that ended, or was never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered { instance: String, cache: Cache, n_bytes: u64 },
    Failed(Failure),
}

/// Where the model was when the invocation came to its instance, as the instance says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    Hit,
    Miss,
    Unsaid,
}

/// A failed invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: FailureClass,
    /// Under which it is counted.
    pub kind: String,
    /// What this one said.
    pub text: String,
}

/// What a failed invocation means for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It failed.
    Failed,
    /// 503 with a hint when to try again.
    Unavailable,
    /// It was due while too many were in flight.
    NotSent,
    /// It was in flight when the run was ended.
    Abandoned,
}

impl Outcome {
    pub(super) fn of_answer(answer: &Answer) -> Self {
        if !answer.status.is_success() {
            return Self::Failed(status(answer));
        }
        if !answer.is_as_expected {
            let text = format!("{} bytes that are not what was sent", answer.n_bytes);
            return Self::Failed(failed("wrong answer", text));
        }
        let cache = match answer.headers.get(CACHE).map(HeaderValue::as_bytes) {
            Some(b"hit") => Cache::Hit,
            Some(b"miss") => Cache::Miss,
            _ => Cache::Unsaid,
        };
        let instance = header(&answer.headers, INSTANCE);
        Self::Answered { instance, cache, n_bytes: answer.n_bytes }
    }

    pub(super) fn of_link(error: &LinkError) -> Self {
        let kind = match error {
            LinkError::Connect(_) => NO_CONNECTION,
            LinkError::NoAnswer(_) => "connection closed before the answer",
            LinkError::Cut(_) => "connection closed within the answer",
        };
        Self::Failed(failed(kind, Chain(error).to_string()))
    }

    pub(super) fn timed_out() -> Self {
        Self::Failed(failed("timed out", String::new()))
    }

    pub(super) fn unsigned(text: String) -> Self {
        Self::Failed(failed("not signed", text))
    }

    pub(super) fn not_sent(n_in_flight: usize) -> Self {
        let text = format!("{n_in_flight} were in flight");
        let kind = "not sent: too many in flight".to_owned();
        Self::Failed(Failure { class: FailureClass::NotSent, kind, text })
    }

    pub(super) fn abandoned() -> Self {
        let kind = "in flight when the run was ended".to_owned();
        Self::Failed(Failure { class: FailureClass::Abandoned, kind, text: String::new() })
    }
}

impl Failure {
    pub(super) fn is_no_connection(&self) -> bool {
        self.kind == NO_CONNECTION
    }
}

fn failed(kind: &str, text: String) -> Failure {
    Failure { class: FailureClass::Failed, kind: kind.to_owned(), text }
}

fn status(answer: &Answer) -> Failure {
    let error_type = header(&answer.headers, ERROR_TYPE);
    let has_hint = answer.headers.contains_key(RETRY_AFTER_MS);
    let is_unavailable = answer.status == StatusCode::SERVICE_UNAVAILABLE && has_hint;
    let kind = [answer.status.as_str(), &error_type, if has_hint { "with retry hint" } else { "" }];
    let words: Vec<&str> = kind.into_iter().filter(|word| !word.is_empty()).collect();
    Failure {
        class: if is_unavailable { FailureClass::Unavailable } else { FailureClass::Failed },
        kind: words.join(" "),
        text: answer.text.clone(),
    }
}

/// A header as a name: short, and without anything that is not printed.
fn header(headers: &HeaderMap, name: &str) -> String {
    let text = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let text = text.unwrap_or_default();
    text.chars().filter(|it| !it.is_control()).take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            n_bytes: 3,
            text: "why".to_owned(),
            is_as_expected: true,
        }
    }

    fn failure(answer: &Answer) -> Failure {
        match Outcome::of_answer(answer) {
            Outcome::Failed(failure) => failure,
            Outcome::Answered { .. } => panic!("{answer:?}"),
        }
    }

    #[test]
    fn answers_are_told_by_instance_and_cache() {
        let hit = answer(200, &[("x-manifold-cache", "hit"), ("x-manifold-instance", "worker-1")]);
        let instance = "worker-1".to_owned();
        let expected = Outcome::Answered { instance, cache: Cache::Hit, n_bytes: 3 };
        assert_eq!(Outcome::of_answer(&hit), expected);
        let plain = Outcome::Answered { instance: String::new(), cache: Cache::Unsaid, n_bytes: 3 };
        assert_eq!(Outcome::of_answer(&answer(200, &[])), plain);
    }

    #[test]
    fn failures_are_counted_by_status_and_name() {
        let error = failure(&answer(424, &[("x-amzn-errortype", "ModelError")]));
        assert_eq!((error.class, &*error.kind), (FailureClass::Failed, "424 ModelError"));
        let error = failure(&answer(500, &[]));
        assert_eq!((error.class, &*error.kind), (FailureClass::Failed, "500"));
        let wrong = Answer { is_as_expected: false, ..answer(200, &[]) };
        assert_eq!(failure(&wrong).kind, "wrong answer");
    }

    #[test]
    fn unavailable_with_a_retry_hint_is_counted_apart() {
        let headers = [("x-amzn-errortype", "ServiceUnavailable"), ("x-amz-retry-after", "100")];
        let error = failure(&answer(503, &headers));
        assert_eq!(error.class, FailureClass::Unavailable);
        assert_eq!(error.kind, "503 ServiceUnavailable with retry hint");
        assert_eq!(failure(&answer(503, &headers[..1])).class, FailureClass::Failed);
    }
}
