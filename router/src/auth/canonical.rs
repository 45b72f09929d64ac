//! The canonical form of a request: what its signature is over.
//!
//! Source: AWS Signature Version 4, "Create a canonical request". S3 takes the path as it stands;
//! all other services normalize it and encode it once more.

use super::{api::Api, authorization::Authorization, error::Flaw};
use actix_web::{
    HttpRequest,
    http::{
        header::{HOST, HeaderMap},
        uri::Authority,
    },
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Parameters of a query; S3's own operations have ten at most.
pub const MAX_PARAMETERS: usize = 256;

/// A usual request's canonical form fits, so that it is allocated once.
const USUAL_BYTES: usize = 1024;

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request without its body, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub method: &'a str,
    /// Percent-encoded, as it stands in the request.
    pub path: &'a str,
    pub query: &'a str,
    /// The host where there is no header for it, as in HTTP/2.
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    pub fn of(request: &'a HttpRequest) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            authority: uri.authority().map(Authority::as_str),
            headers: request.headers(),
        }
    }
}

/// Returns the canonical request up to the hash of its body. `None` if a header that shall be
/// signed is not there.
pub fn request(
    head: &Head<'_>,
    authorization: &Authorization<'_>,
    api: Api,
) -> Result<Option<Vec<u8>>, Flaw> {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    out.extend_from_slice(head.method.as_bytes());
    out.push(b'\n');
    match api {
        Api::S3 => push_encoded(head.path, b"/", &mut out),
        Api::Runtime | Api::Control | Api::Sts | Api::Iam => push_normal_path(head.path, &mut out),
    }
    out.push(b'\n');
    push_query(head.query, &mut out)?;
    out.push(b'\n');
    for name in authorization.names() {
        if !push_header(head, name, &mut out) {
            return Ok(None);
        }
    }
    out.push(b'\n');
    out.extend_from_slice(authorization.signed_headers.as_bytes());
    out.push(b'\n');
    Ok(Some(out))
}

/// Writes the path without empty parts and dots, everything in it encoded once more.
fn push_normal_path(path: &str, out: &mut Vec<u8>) {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    out.push(b'/');
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        push_reserved(part.as_bytes(), out);
    }
    if path.ends_with('/') && !parts.is_empty() {
        out.push(b'/');
    }
}

fn push_reserved(bytes: &[u8], out: &mut Vec<u8>) {
    for part in percent_encode(bytes, RESERVED) {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Writes `text` with everything encoded that is neither unreserved, nor kept, nor encoded already.
///
/// What is encoded stays as it is, also where it need not be or has digits in lower case: clients
/// sign what they send, and so one request has one canonical form.
fn push_encoded(text: &str, kept: &[u8], out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some((&byte, later)) = rest.split_first() {
        let digits = later.get(..2).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
        if kept.contains(&byte) || (byte == b'%' && digits) {
            out.push(byte);
        } else {
            push_reserved(&[byte], out);
        }
        rest = later;
    }
}

fn push_query(query: &str, out: &mut Vec<u8>) -> Result<(), Flaw> {
    if query.is_empty() {
        return Ok(());
    }
    if query.split('&').count() > MAX_PARAMETERS {
        return Err(Flaw::Query(MAX_PARAMETERS));
    }
    let encoded = |text: &str| {
        let mut encoded = Vec::with_capacity(text.len());
        push_encoded(text, b"", &mut encoded);
        encoded
    };
    let pair = |it: &str| {
        let (name, value) = it.split_once('=').unwrap_or((it, ""));
        (encoded(name), encoded(value))
    };
    let mut pairs: Vec<_> = query.split('&').map(pair).collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Writes the line of a header, all its values in one. Returns whether there is such a header.
fn push_header(head: &Head<'_>, name: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut is_there = false;
    for value in head.headers.get_all(name) {
        if is_there {
            out.push(b',');
        }
        push_trimmed(value.as_bytes(), out);
        is_there = true;
    }
    if let (false, true, Some(authority)) = (is_there, name == HOST.as_str(), head.authority) {
        out.extend_from_slice(authority.as_bytes());
        is_there = true;
    }
    out.push(b'\n');
    is_there
}

/// Writes a value without blanks around it, and one blank for each run of them.
fn push_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|it| *it == b' ').filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests;
