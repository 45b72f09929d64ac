//! Which permissions an S3 request needs.
//!
//! # Invariants
//!
//! - A request is read as the store reads it: path and query decoded once, the method first. What
//!   cannot be read so needs every permission.
//!
//! Source: S3 user guide, "Required permissions for Amazon S3 API operations", as far as a local store
//! has operations.

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

/// Only a key that may do anything has these.
const EVERYTHING: &[&str] = &["s3:*"];

/// Returns the permissions that a request needs, all of them. `is_copy`: whether it names another
/// object to copy from, which it reads.
pub(super) fn needed(
    method: &Method,
    path: &str,
    query: &str,
    is_copy: bool,
) -> &'static [&'static str] {
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return EVERYTHING };
    let Some(path) = path.strip_prefix('/') else { return EVERYTHING };
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let is_read = [Method::GET, Method::HEAD].contains(method);
    if bucket.is_empty() {
        return if is_read && key.is_empty() { &["s3:ListAllMyBuckets"] } else { EVERYTHING };
    }
    if key.is_empty() {
        return of_bucket(method, has(query, "delete"));
    }
    match *method {
        Method::GET | Method::HEAD if has(query, "uploadId") => &["s3:ListMultipartUploadParts"],
        Method::GET | Method::HEAD => &["s3:GetObject"],
        Method::DELETE if has(query, "uploadId") => &["s3:AbortMultipartUpload"],
        Method::DELETE => &["s3:DeleteObject"],
        Method::PUT | Method::POST if is_copy => &["s3:PutObject", "s3:GetObject"],
        Method::PUT | Method::POST => &["s3:PutObject"],
        _ => EVERYTHING,
    }
}

fn of_bucket(method: &Method, is_batch_delete: bool) -> &'static [&'static str] {
    match *method {
        Method::GET | Method::HEAD => &["s3:ListBucket"],
        Method::PUT => &["s3:CreateBucket"],
        Method::DELETE => &["s3:DeleteBucket"],
        Method::POST if is_batch_delete => &["s3:DeleteObject"],
        // A form of a browser.
        Method::POST => &["s3:PutObject"],
        _ => EVERYTHING,
    }
}

/// Whether a query has a parameter, however it is spelled.
fn has(query: &str, name: &str) -> bool {
    let names = query.split('&').map(|it| it.split('=').next().unwrap_or_default());
    names.into_iter().any(|it| percent_decode_str(it).decode_utf8_lossy() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &Method, uri: &str, expected: &[&str]) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        assert_eq!(needed(method, path, query, false), expected, "{method} {uri}");
    }

    #[test]
    fn each_request_needs_the_permission_of_its_operation() {
        check(&Method::GET, "/", &["s3:ListAllMyBuckets"]);
        check(&Method::GET, "/bucket?list-type=2", &["s3:ListBucket"]);
        check(&Method::HEAD, "/bucket/", &["s3:ListBucket"]);
        check(&Method::PUT, "/bucket", &["s3:CreateBucket"]);
        check(&Method::DELETE, "/bucket", &["s3:DeleteBucket"]);
        check(&Method::POST, "/bucket?delete", &["s3:DeleteObject"]);
        check(&Method::GET, "/bucket/a/b", &["s3:GetObject"]);
        check(&Method::PUT, "/bucket/a/b", &["s3:PutObject"]);
        check(&Method::POST, "/bucket/a?uploads", &["s3:PutObject"]);
        check(&Method::DELETE, "/bucket/a", &["s3:DeleteObject"]);
        check(&Method::DELETE, "/bucket/a?uploadId=1", &["s3:AbortMultipartUpload"]);
        check(&Method::GET, "/bucket/a?uploadId=1", &["s3:ListMultipartUploadParts"]);
    }

    #[test]
    fn a_copy_reads_and_writes() {
        let actions = needed(&Method::PUT, "/b/k", "", true);
        assert_eq!(actions, ["s3:PutObject", "s3:GetObject"]);
    }

    #[test]
    fn no_spelling_gets_a_request_past_the_permission_that_it_needs() {
        check(&Method::PUT, "/b/k?delete", &["s3:PutObject"]);
        check(&Method::POST, "/b/k?uploads&delete", &["s3:PutObject"]);
        check(&Method::GET, "/bucket%2Fkey", &["s3:GetObject"]);
        check(&Method::DELETE, "/bucket%2fkey", &["s3:DeleteObject"]);
        check(&Method::POST, "/b?%64elete", &["s3:DeleteObject"]);
        check(&Method::POST, "/b?delete=1", &["s3:DeleteObject"]);
        check(&Method::POST, "/b", &["s3:PutObject"]);
        check(&Method::GET, "//bucket/key", EVERYTHING);
        check(&Method::GET, "/%ff/key", EVERYTHING);
        check(&Method::PATCH, "/b/k", EVERYTHING);
    }
}
