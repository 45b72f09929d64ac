//! What the frames say, as JSON.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of frames and messages that both sides must have.
pub(super) const VERSION: u32 = 1;

/// The first word of a handler process.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
}

/// Which model to load, and how.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Load<'a> {
    pub(super) model_name: &'a str,
    pub(super) model_dir: &'a Path,
    /// `[path/]module[.py][:function]`.
    pub(super) handler: &'a str,
    /// `MAR-INF/MANIFEST.json`, as it is.
    pub(super) manifest: Option<&'a serde_json::Value>,
    /// The most requests that come at once.
    pub(super) batch_size: usize,
    pub(super) gpu_id: Option<u32>,
    /// Whether JSON comes parsed and text as text, as in Multi Model Server outside of SageMaker.
    pub(super) decodes_input: bool,
    /// The longest body of one answer.
    pub(super) max_answer_bytes: u32,
}

/// A batch of requests. Their inputs follow as the frame's body.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Predict<'a> {
    /// Nanoseconds on the monotonic clock of this machine: what begins later, nobody waits for.
    pub(super) deadline_ns: u64,
    pub(super) requests: Vec<Request<'a>>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) id: &'a str,
    pub(super) headers: &'a [(String, String)],
    /// Name, content type and length of each.
    pub(super) inputs: Vec<(&'a str, &'a str, usize)>,
}

/// The answers to a batch, in order. Their bodies follow as the frame's body.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answers {
    pub(super) items: Vec<Item>,
    #[serde(default)]
    pub(super) metrics: Vec<Metric>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    Failed {
        status: u16,
        /// Why.
        failed: String,
    },
    Answered {
        status: u16,
        headers: Vec<(String, String)>,
        len: usize,
    },
}

/// A number that a handler measured.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) value: f64,
}

/// Why a model did not load.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) kind: FailedKind,
    pub(super) message: String,
    pub(super) traceback: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FailedKind {
    /// It raised `MemoryError`.
    Memory,
    /// A module is missing or cannot be parsed.
    Import,
    /// The handler raised something else.
    Handler,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_of_one_batch_are_told_apart() {
        let text = r#"{"items": [
            {"status": 200, "headers": [["content-type", "text/csv"]], "len": 3},
            {"status": 507, "failed": "Out of resources"}
        ], "metrics": [{"name": "PredictionTime", "unit": "ms", "value": 0.5}]}"#;
        let answers: Answers = serde_json::from_str(text).unwrap();
        assert!(matches!(&answers.items[0], Item::Answered { status: 200, len: 3, .. }));
        assert!(matches!(&answers.items[1], Item::Failed { status: 507, .. }));
        assert_eq!(answers.metrics[0].name, "PredictionTime");
    }
}
