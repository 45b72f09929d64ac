//! Answers with its input. For tests and smoke runs without LibTorch.

use super::{Footprint, Model, ModelInput, ModelOutput, RuntimeError};
use bytes::Bytes;
use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// A line or two that tell one model from another.
const MAX_PREFIX_BYTES: u64 = 65_536;

#[derive(Clone, Debug, Default)]
pub(super) struct Echo {
    /// What precedes the input in every answer.
    prefix: Bytes,
}

impl Echo {
    /// An echo that says first what is in the file, if one is named.
    pub(super) fn load(file: Option<&Path>) -> Result<Self, RuntimeError> {
        let Some(file) = file else { return Ok(Self::default()) };
        let prefix = read(file).map_err(|error| {
            RuntimeError::BadArtifact(format!("the echo's file cannot be read: {error}"))
        })?;
        if prefix.len() as u64 > MAX_PREFIX_BYTES {
            let flaw = format!("the echo's file is larger than {MAX_PREFIX_BYTES} bytes");
            return Err(RuntimeError::BadArtifact(flaw));
        }
        Ok(Self { prefix: prefix.into() })
    }
}

/// Reads one byte more than allowed, at most.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_PREFIX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Model for Echo {
    fn footprint(&self) -> Footprint {
        Footprint { resident_bytes: self.prefix.len() as u64, workspace_bytes: 0 }
    }

    /// Gives body and content type back as they came; `Accept` is not looked at.
    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError> {
        let content_type = match &input.content_type {
            Some(given) => Cow::Owned(given.clone()),
            None => Cow::Borrowed("application/octet-stream"),
        };
        let body = if self.prefix.is_empty() {
            input.body.clone()
        } else {
            [&*self.prefix, &*input.body].concat().into()
        };
        Ok(ModelOutput::new(content_type, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_and_content_type_come_back() {
        for (given, echoed) in [
            (Some("text/csv; charset=utf-8"), "text/csv; charset=utf-8"),
            (None, "application/octet-stream"),
        ] {
            let body = Bytes::from_static(b"\x00\xff body");
            let content_type = given.map(str::to_owned);
            let input = ModelInput { content_type, body: body.clone(), ..ModelInput::default() };
            let output = Echo::default().invoke(&input).unwrap();
            assert_eq!(output, ModelOutput::new(echoed, body));
        }
    }

    #[test]
    fn what_its_file_says_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("greeting");
        std::fs::write(&file, "version 2: ").unwrap();
        let input = ModelInput { body: Bytes::from_static(b"hello"), ..ModelInput::default() };
        let output = Echo::load(Some(&file)).unwrap().invoke(&input).unwrap();
        assert_eq!(output.body, "version 2: hello");

        std::fs::write(&file, vec![b'x'; 65_537]).unwrap();
        let error = Echo::load(Some(&file)).unwrap_err();
        assert!(error.to_string().ends_with("larger than 65536 bytes"), "{error}");
    }
}
