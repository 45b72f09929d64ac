//! Frames of an event stream, as SDKs parse them (`application/vnd.amazon.eventstream`).

use crate::instance_client::answer::AnswerError;
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};
use serde_json::json;

pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// As much of an answer as is in one frame: what a read of a socket gives, and far below the 16 MiB
/// that SDKs take.
pub(super) const PART_BYTES: usize = 64 * 1024;

/// Prelude, headers and checksums around a payload.
const OVERHEAD_BYTES: usize = 256;

/// Why a stream ends early, as the client is told: a `ModelStreamError` with this `ErrorCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exception {
    /// It fell silent, or went on for too long.
    TimeExceeded,
    Broken,
}

impl Exception {
    pub(super) fn of(error: &AnswerError) -> Self {
        match error {
            AnswerError::Silent => Self::TimeExceeded,
            AnswerError::Broken(_) | AnswerError::TooLarge(_) => Self::Broken,
        }
    }

    fn code_and_message(self) -> (&'static str, &'static str) {
        match self {
            Self::TimeExceeded => (
                "ModelInvocationTimeExceeded",
                "The model failed to finish its response stream within the timeout period.",
            ),
            Self::Broken => ("StreamBroken", "The response stream of the model broke off."),
        }
    }
}

/// A piece of the model's answer.
pub(super) fn part(payload: Bytes) -> Bytes {
    let headers = [
        (":message-type", "event"),
        (":event-type", "PayloadPart"),
        (":content-type", "application/octet-stream"),
    ];
    encode(headers, payload)
}

pub(super) fn exception(exception: Exception) -> Bytes {
    let headers = [
        (":message-type", "exception"),
        (":exception-type", "ModelStreamError"),
        (":content-type", "application/json"),
    ];
    let (code, message) = exception.code_and_message();
    let payload = json!({ "Message": message, "ErrorCode": code }).to_string();
    encode(headers, payload.into())
}

fn encode(headers: [(&'static str, &'static str); 3], payload: Bytes) -> Bytes {
    let mut buffer = BytesMut::with_capacity(payload.len() + OVERHEAD_BYTES);
    let headers = headers.map(|(name, value)| Header::new(name, HeaderValue::String(value.into())));
    let message = Message::new_from_parts(headers.into(), payload);
    write_message_to(&message, &mut buffer).expect("a part and three short headers fit a frame");
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::read_message_from;

    #[track_caller]
    fn check(frame: Bytes, expected: [(&str, &str); 3], payload: &[u8]) {
        let message = read_message_from(frame).unwrap();
        let value = |header: &Header| header.value().as_string().unwrap().as_str().to_owned();
        let headers: Vec<_> =
            message.headers().iter().map(|it| (it.name().as_str(), value(it))).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(headers, expected);
        assert_eq!(message.payload(), payload);
    }

    #[test]
    fn a_part_is_an_event_with_the_bytes() {
        let expected = [
            (":message-type", "event"),
            (":event-type", "PayloadPart"),
            (":content-type", "application/octet-stream"),
        ];
        let largest = vec![7; PART_BYTES];
        check(part(Bytes::from(largest.clone())), expected, &largest);
    }

    #[test]
    fn a_broken_stream_says_how_it_broke() {
        let expected = [
            (":message-type", "exception"),
            (":exception-type", "ModelStreamError"),
            (":content-type", "application/json"),
        ];
        let payload = br#"{"ErrorCode":"StreamBroken","Message":"The response stream of the model broke off."}"#;
        check(exception(Exception::Broken), expected, payload);
        let silent = Exception::of(&AnswerError::Silent);
        assert_eq!(silent.code_and_message().0, "ModelInvocationTimeExceeded");
    }
}
