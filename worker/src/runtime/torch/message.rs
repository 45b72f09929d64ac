//! From LibTorch's exceptions to one line that a client can use.
//!
//! An exception's text holds the failing Python code, C++ stack frames and paths; what matters is
//! one line of it.

use crate::runtime::RuntimeError;
use tch::TchError;

/// Longest text that is passed on.
const MAX_CHARS: usize = 400;

/// What LibTorch says when an input does not go with a module: parts of its texts.
const INPUT_TROUBLE: [&str; 22] = [
    "shapes cannot be multiplied",
    "size mismatch",
    "must match the size",
    "must match except",
    "Sizes of tensors must match",
    "is invalid for input of size",
    "expected scalar type",
    "expected m1 and m2 to have the same dtype",
    "must have the same dtype",
    "same dtype, but got",
    "should be the same",
    "Expected tensor for argument",
    "Expected input batch_size",
    "expected input",
    "Given groups=",
    "Kernel size can't be greater than actual input size",
    "Dimension out of range",
    "index out of range",
    "doesn't match the broadcast shape",
    "Given normalized_shape",
    "Calculated padded input size",
    "not implemented for",
];

/// Returns what an exception says, on one line.
pub(super) fn clean(error: &TchError) -> String {
    match error {
        TchError::Torch(text) => essence(text),
        other => shortened(&other.to_string()),
    }
}

/// Sorts an exception of `forward`: whose fault it probably is decides the status.
pub(super) fn of_forward(error: &TchError) -> RuntimeError {
    let text = clean(error);
    if text.contains("forward() is missing value") || text.contains("forward() expected at most") {
        let text = format!("the module takes more or fewer than one input: {text}");
        return RuntimeError::BadArtifact(text);
    }
    let is_input = INPUT_TROUBLE.iter().any(|part| text.contains(part))
        || (text.contains("Expected") && text.contains("but got"));
    if is_input { RuntimeError::BadInput(text) } else { RuntimeError::Inference(text) }
}

/// Returns an error's text alone, to be put into another.
pub(super) fn without_kind(error: &RuntimeError) -> String {
    match error {
        RuntimeError::BadArtifact(text)
        | RuntimeError::BadInput(text)
        | RuntimeError::Inference(text)
        | RuntimeError::UnsupportedMediaType(text, _)
        | RuntimeError::NotAcceptable(text, _) => text.clone(),
        // Of models outside.
        other => other.to_string(),
    }
}

fn essence(text: &str) -> String {
    // What follows is C++ stack frames.
    let text = text.split("Exception raised from").next().unwrap_or_default();
    // The interpreter puts the code first and the error, `RuntimeError: …`, after it.
    let raised = text.lines().rev().find_map(raised);
    let line = raised.or_else(|| text.lines().map(str::trim).find(|line| !line.is_empty()));
    let line = line.unwrap_or("it gives no reason");
    // `[enforce fail at inline_container.cc:177] . PytorchStreamReader failed …`
    let line = match line.strip_prefix("[enforce fail at ").and_then(|it| it.split_once("] . ")) {
        Some((_, reason)) => reason,
        None => line,
    };
    shortened(line)
}

/// Returns what follows the name of a Python exception.
fn raised(line: &str) -> Option<&str> {
    let (name, text) = line.split_once(": ")?;
    let is_name = name.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '.'));
    let is_exception = name.ends_with("Error") || name.ends_with("Exception");
    (is_name && is_exception).then_some(text.trim())
}

/// Leaves out paths of this machine, and what is too long.
fn shortened(text: &str) -> String {
    let text = text.split(", file path:").next().unwrap_or_default();
    let mut chars = text.trim().chars();
    let short: String = chars.by_ref().take(MAX_CHARS).collect();
    if chars.next().is_some() { short + "…" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: &str = "The following operation failed in the TorchScript interpreter.\n\
        Traceback of TorchScript (most recent call last):\n\
        \x20 File \"code/__torch__.py\", line 9, in forward\n\
        \x20   x = torch.linear(input, weight)\n\
        \x20       ~~~~~~~~~~~~ <--- HERE\n\
        RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x17 and 16x32)\n";

    #[test]
    fn one_line_is_left_of_an_exception() {
        for (text, expected) in [
            (SHAPES, "mat1 and mat2 shapes cannot be multiplied (1x17 and 16x32)"),
            (
                "[enforce fail at inline_container.cc:177] . PytorchStreamReader failed reading \
                 zip archive: failed finding central directory\nframe #0: c10::ThrowEnforce",
                "PytorchStreamReader failed reading zip archive: failed finding central directory",
            ),
            (
                "open file failed because of errno 2 on fopen: No such file, file path: /a/b.pt\n\
                 Exception raised from RAIIFile at file_adapter.cc:21",
                "open file failed because of errno 2 on fopen: No such file",
            ),
            ("torch.jit.Error: boom: it broke\n", "boom: it broke"),
            ("", "it gives no reason"),
        ] {
            assert_eq!(clean(&TchError::Torch(text.to_owned())), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = clean(&TchError::Torch("é".repeat(1000)));
        assert_eq!(text.chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn an_input_that_does_not_fit_is_the_clients_error() {
        let of = |text: &str| of_forward(&TchError::Torch(text.to_owned()));
        assert!(matches!(of(SHAPES), RuntimeError::BadInput(_)));
        assert!(matches!(of("RuntimeError: out of luck"), RuntimeError::Inference(_)));
        let missing = "forward() is missing value for argument 'y'. Declaration: forward(…)";
        assert!(matches!(of(missing), RuntimeError::BadArtifact(_)));
    }
}
