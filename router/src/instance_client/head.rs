//! The head of a request to an instance, written as text (RFC 9112, section 3).
//!
//! Names and values are of types that cannot hold what ends a line, so nothing has to be escaped. It
//! is written here and not by actix-http's codec, because that wants a map of them first: 4,000 of an
//! invocation's 51,000 instructions
//! ([ADR 0007](../../../docs/adr/0007-own-connections-to-instances.md)).

use actix_http::header::{HeaderName, HeaderValue};
use bytes::{BufMut as _, BytesMut};
use std::fmt::Write as _;

const REQUEST_LINE: &[u8] = b"POST /invocations HTTP/1.1\r\n";

/// A head that is being written. A name that is put twice stands in it twice.
#[derive(Debug)]
pub(super) struct Head(BytesMut);

impl Head {
    /// Begins a head in an empty buffer.
    pub(super) fn begin(mut room: BytesMut) -> Self {
        room.put_slice(REQUEST_LINE);
        Self(room)
    }

    pub(super) fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put_name(name.as_str());
        self.0.put_slice(value.as_bytes());
        self.0.put_slice(b"\r\n");
    }

    pub(super) fn put_number(&mut self, name: &HeaderName, number: u64) {
        self.put_name(name.as_str());
        write!(self.0, "{number}\r\n").expect("memory takes any text");
    }

    fn put_name(&mut self, name: &str) {
        self.0.put_slice(name.as_bytes());
        self.0.put_slice(b": ");
    }

    /// Returns the text, complete.
    pub(super) fn end(mut self) -> BytesMut {
        self.0.put_slice(b"\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::header::{CONTENT_LENGTH, CONTENT_TYPE};

    #[test]
    fn a_head_is_a_request_line_and_a_line_for_each_header() {
        let mut head = Head::begin(BytesMut::new());
        head.put(&CONTENT_TYPE, &HeaderValue::from_static("text/csv; header=absent"));
        head.put_number(&CONTENT_LENGTH, 18_446_744_073_709_551_615);
        head.put(&HeaderName::from_static("x-empty"), &HeaderValue::from_static(""));
        head.put(&HeaderName::from_static("x-odd"), &HeaderValue::from_bytes(b"\xff\t~").unwrap());
        let expected = b"POST /invocations HTTP/1.1\r\ncontent-type: text/csv; header=absent\r\n\
            content-length: 18446744073709551615\r\nx-empty: \r\nx-odd: \xff\t~\r\n\r\n";
        assert_eq!(&head.end()[..], expected);
    }
}
