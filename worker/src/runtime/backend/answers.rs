//! What a backend's answers mean. The servers that are used as SageMaker's containers agree on statuses
//! alone, and not on all of them: one that says 200, 202 or 210 has loaded a model.

use crate::runtime::{ModelOutput, OutputHead, RuntimeError};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use shared::api::{
    error::ErrorKind,
    invocation::{CLOSED_SESSION_ID, CUSTOM_ATTRIBUTES, NEW_SESSION_ID},
};

/// What is kept of a text that a backend answers with an error: SageMaker's longest message.
const MAX_TEXT_CHARS: usize = 2048;

/// What a model's answer may say beside its content type. The platform passes nothing else on.
const HEADERS: [&str; 3] = [CUSTOM_ATTRIBUTES, NEW_SESSION_ID, CLOSED_SESSION_ID];

const OK: u16 = 200;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
const BUSY: u16 = 503;
const FULL: u16 = 507;

/// Why a backend did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The platform unloads others then, and asks again.
    #[error("the backend has no room: {0}")]
    Full(String),
    #[error("the backend's models folder has no room: {0}")]
    DiskFull(String),
    #[error("the model could not be laid out for the backend: {0}")]
    Disk(String),
    #[error("the backend did not load the model ({status}): {text}")]
    NotLoaded { status: u16, text: String },
    /// It has been started anew, or somebody else has unloaded it.
    #[error("the backend has the model no more")]
    Lost,
    #[error("the backend is busy: {0}")]
    Busy(String),
    #[error("{0} invocations wait for the backend already")]
    Queued(usize),
    #[error("the backend cannot be reached: {0}")]
    Unreachable(String),
    #[error("the backend gave no answer: {0}")]
    NoAnswer(String),
    #[error("the backend's answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the backend's list of models is none ({status}): {text}")]
    NoList { status: u16, text: String },
}

impl BackendError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full(_) | Self::DiskFull(_) => ErrorKind::InsufficientMemory,
            // Nothing began, and another instance has another backend.
            Self::Lost | Self::Busy(_) | Self::Queued(_) | Self::Unreachable(_) => {
                ErrorKind::Overloaded
            }
            Self::Disk(_)
            | Self::NotLoaded { .. }
            | Self::NoAnswer(_)
            | Self::TooLong(_)
            | Self::NoList { .. } => ErrorKind::ModelFailed,
        }
    }

    /// Whether it may go well once another model has left.
    pub fn wants_room(&self) -> bool {
        matches!(self, Self::Full(_) | Self::DiskFull(_))
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What came of asking for a load.
#[derive(Debug)]
pub(super) enum Loaded {
    Yes,
    /// There is one of that name.
    Already,
}

/// What came of an invocation.
#[derive(Debug)]
pub(super) enum Invoked {
    Answered(ModelOutput),
    /// The backend does not know the model, or the model itself says so of something.
    NotFound(RuntimeError),
}

impl Said {
    pub(super) fn is_success(&self) -> bool {
        (OK..300).contains(&self.status)
    }

    /// The body as a line for people, and for the log.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let shown = |it: char| if it.is_control() && it != '\n' { ' ' } else { it };
        text.trim().chars().take(MAX_TEXT_CHARS).map(shown).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name).map(HeaderValue::as_bytes)?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    }
}

pub(super) fn loaded(said: &Said) -> Result<Loaded, BackendError> {
    match said.status {
        _ if said.is_success() => Ok(Loaded::Yes),
        CONFLICT => Ok(Loaded::Already),
        FULL => Err(BackendError::Full(said.text())),
        status => Err(BackendError::NotLoaded { status, text: said.text() }),
    }
}

/// Whether a model has left: also one that was not there.
pub(super) fn unloaded(said: &Said) -> bool {
    said.is_success() || said.status == NOT_FOUND
}

pub(super) fn invoked(said: Said) -> Result<Invoked, RuntimeError> {
    if said.is_success() {
        return Ok(Invoked::Answered(output(said)));
    }
    let (status, text) = (said.status, said.text());
    if status == FULL {
        return Err(BackendError::Full(text).into());
    }
    if status == BUSY && is_about_the_server(&said.body) {
        return Err(BackendError::Busy(text).into());
    }
    let error = RuntimeError::Handler { status, message: text };
    if status == NOT_FOUND { Ok(Invoked::NotFound(error)) } else { Err(error) }
}

fn output(said: Said) -> ModelOutput {
    let content_type = said.header(CONTENT_TYPE.as_str()).map(Into::into);
    let headers = HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), said.header(name)?)));
    let head = OutputHead { status: said.status, headers: headers.collect() };
    ModelOutput { content_type, body: said.body, head: Some(Box::new(head)) }
}

/// Whether a 503 says that no worker took the invocation, as Multi Model Server and TorchServe do; their
/// handlers' own failures have the status, too.
fn is_about_the_server(body: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let said = body.as_ref().and_then(|it| it.get("type")?.as_str());
    said == Some("ServiceUnavailableException")
}

/// A page of models: their names, and where the next page begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) names: Vec<String>,
    pub(super) next: Option<String>,
}

/// Reads a list of models: documented is `{"models": [{"modelName": …}, …]}`. Triton has empty members for
/// models that are on their way, TensorFlow Serving's image an object with a member for each model.
pub(super) fn page(said: &Said) -> Result<Page, BackendError> {
    let none = || BackendError::NoList { status: said.status, text: said.text() };
    if !said.is_success() {
        return Err(none());
    }
    let value: Value = serde_json::from_slice(&said.body).map_err(|_| none())?;
    let name = |it: &Value| it.as_str().or(it.get("modelName")?.as_str()).map(str::to_owned);
    let names = match value.get("models").unwrap_or(&value) {
        Value::Array(models) => models.iter().filter_map(name).collect(),
        Value::Object(models) => models.keys().cloned().collect(),
        _ => return Err(none()),
    };
    let next = match value.get("nextPageToken") {
        Some(Value::String(token)) if !token.is_empty() => Some(token.clone()),
        Some(Value::Number(token)) => Some(token.to_string()),
        _ => None,
    };
    Ok(Page { names, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Said {
        Said { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn every_status_that_a_known_server_answers_a_load_with_is_understood() {
        for (status, body) in
            [(200, ""), (200, "{}"), (202, "{\"status\": \"Processing\"}"), (210, "")]
        {
            assert!(matches!(loaded(&said(status, body)), Ok(Loaded::Yes)), "{status}");
        }
        assert!(matches!(loaded(&said(409, "{}")), Ok(Loaded::Already)));
        assert_eq!(loaded(&said(507, "OOM")).unwrap_err(), BackendError::Full("OOM".to_owned()));
        let error = loaded(&said(400, "no\u{1b}[31m handler")).unwrap_err();
        assert_eq!(error.to_string(), "the backend did not load the model (400): no [31m handler");
        assert_eq!(error.kind(), ErrorKind::ModelFailed);
    }

    #[test]
    fn what_was_not_there_has_left_and_what_timed_out_has_not() {
        let statuses = [200, 202, 404, 408, 500].map(|status| unloaded(&said(status, "")));
        assert_eq!(statuses, [true, true, true, false, false]);
    }

    #[test]
    fn a_busy_server_is_told_from_a_model_that_fails() {
        let busy =
            r#"{"code": 503, "type": "ServiceUnavailableException", "message": "No worker"}"#;
        assert_eq!(invoked(said(503, busy)).unwrap_err().kind(), ErrorKind::Overloaded);
        let failed =
            r#"{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}"#;
        let error = invoked(said(503, failed)).unwrap_err();
        assert_eq!(error, RuntimeError::Handler { status: 503, message: failed.to_owned() });
        assert_eq!(invoked(said(507, "")).unwrap_err().kind(), ErrorKind::InsufficientMemory);
        assert!(matches!(invoked(said(404, "")), Ok(Invoked::NotFound(_))));
    }

    #[test]
    fn an_answer_keeps_what_the_platform_passes_on_and_nothing_else() {
        let mut good = said(201, "ok");
        for (name, value) in
            [(CONTENT_TYPE.as_str(), "text/csv"), (CUSTOM_ATTRIBUTES, "a=1"), ("server", "x")]
        {
            good.headers.insert(name, HeaderValue::from_static(value));
        }
        let Ok(Invoked::Answered(output)) = invoked(good) else { panic!("it is a success") };
        assert_eq!((output.content_type.as_deref(), &*output.body), (Some("text/csv"), &b"ok"[..]));
        let headers = vec![(CUSTOM_ATTRIBUTES.to_owned(), "a=1".to_owned())];
        assert_eq!(*output.head.unwrap(), OutputHead { status: 201, headers });
    }

    #[test]
    fn every_known_shape_of_a_list_is_read() {
        let names = |body: &str| {
            let page = page(&said(200, body)).unwrap();
            (page.names, page.next)
        };
        let both = || vec!["a".to_owned(), "b".to_owned()];
        let documented =
            r#"{"models": [{"modelName": "a"}, {}, {"modelName": "b"}], "nextPageToken": "2"}"#;
        assert_eq!(names(documented), (both(), Some("2".to_owned())));
        assert_eq!(names(r#"[{"modelName": "a"}, {"modelName": "b"}]"#), (both(), None));
        assert_eq!(names(r#"{"a": {"modelUrl": "x"}, "b": {}}"#), (both(), None));
        assert_eq!(names(r#"{"models": []}"#), (vec![], None));
        for (status, body) in [(404, "{}"), (200, ""), (200, "7"), (200, "{")] {
            assert!(page(&said(status, body)).is_err(), "{status} {body}");
        }
    }
}
