//! Heads of requests that strangers write, through the whole verification.
//!
//! An input is text: method, path and query on the first line, then a header a line, then, after an
//! empty line, the body. Nobody who fuzzes has the secret, so nothing may ever be proved.
#![no_main]

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use router::auth::{
    Gate,
    api::Api,
    authorization::Authorization,
    canonical::Head,
    date,
    keyring::{Key, Keyring},
    scope::CredentialScope,
    secret::Secret,
};
use std::sync::LazyLock;

/// As long as a fuzzer is let live: keys that the seeds name, with other secrets than theirs.
static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let key = |id: &str| Key::new(id.to_owned(), Secret::new("nobody knows"), "arn".to_owned());
    let mut temporary = key("ASIDEXAMPLE");
    temporary.session_token = Some(Secret::new("token"));
    Gate::with(Keyring::new([key("AKIDEXAMPLE"), temporary]).expect("two keys"))
});

fuzz_target!(|input: &[u8]| {
    let split = |at: usize| (&input[..at], input.get(at + 2..).unwrap_or_default());
    let end = input.windows(2).position(|it| it == b"\n\n");
    let (head, body) = end.map_or((input, &[][..]), split);
    let mut lines = head.split(|it| *it == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (method, target) = first.split_once(' ').unwrap_or((&first, "/"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));

    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(at) = line.iter().position(|it| *it == b':') else { continue };
        let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let _ = CredentialScope::of(&headers, query);
    for value in headers.get_all("authorization").filter_map(|it| it.to_str().ok()) {
        if let Ok(read) = Authorization::parse(value) {
            assert!(read.names().count() <= value.len());
        }
    }
    let now = date::parse("20261123T040506Z").expect("a date");
    let head = Head { method, path, query, authority: Some("router.example"), headers: &headers };
    for api in [Api::Runtime, Api::Control, Api::Sts, Api::Iam, Api::S3] {
        let Ok(visitor) = GATE.admit_at(&head, api, now) else { continue };
        let error = visitor.identify(body).expect_err("nobody has the secret");
        assert!(!error.to_string().contains("nobody knows"));
        assert!(error.status().is_client_error());
    }
});
