//! Answers with its input. For tests and smoke runs without LibTorch.

use super::{Footprint, Model, ModelInput, ModelOutput, RuntimeError};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug)]
pub(super) struct Echo;

impl Model for Echo {
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// Gives body and content type back as they came; `Accept` is not looked at.
    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError> {
        let content_type = match &input.content_type {
            Some(given) => Cow::Owned(given.clone()),
            None => Cow::Borrowed("application/octet-stream"),
        };
        Ok(ModelOutput { content_type, body: input.body.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn body_and_content_type_come_back() {
        for (given, echoed) in [
            (Some("text/csv; charset=utf-8"), "text/csv; charset=utf-8"),
            (None, "application/octet-stream"),
        ] {
            let body = Bytes::from_static(b"\x00\xff body");
            let content_type = given.map(str::to_owned);
            let input = ModelInput { content_type, accept: None, body: body.clone() };
            let output = Echo.invoke(&input).unwrap();
            assert_eq!(output, ModelOutput { content_type: echoed.into(), body });
        }
    }
}
