//! Tells apart what comes to the router's one port: which service of AWS a client means.
//!
//! With `AWS_ENDPOINT_URL` alone, every client of an SDK sends here. What a request was signed for
//! says whose it is, before its path does: a bucket may be called `ping` or `endpoints`.

use super::control::wire::SERVICE;
use crate::{auth::scope::CredentialScope, headers::TARGET};
use actix_web::{
    dev::RequestHead,
    guard::GuardContext,
    http::{
        Method,
        header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN},
    },
};
use shared::page;

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static(page::SEC_FETCH_SITE);

/// Whether a request is an invocation as nearly all of them come, and nothing that comes before one.
/// Asked first, it spares them the routes of all else.
pub fn is_plain_invocation(ctx: &GuardContext<'_>) -> bool {
    is_invocation(ctx)
        && !is_of_a_page(ctx)
        && !is_for_store(ctx)
        && !is_for_control_plane(ctx)
        && !is_query(ctx)
}

/// Whether a request is an invocation by its path.
pub fn is_invocation(ctx: &GuardContext<'_>) -> bool {
    let RequestHead { method, uri, .. } = ctx.head();
    *method == Method::POST && invoked_endpoint(uri.path()).is_some()
}

/// Returns the endpoint that is invoked by a path in which nothing is encoded.
pub fn invoked_endpoint(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/endpoints/")?.strip_suffix("/invocations")?;
    name.bytes().all(|byte| !b"/%".contains(&byte)).then_some(name)
}

/// Whether a request is for S3: signed or presigned for it, whatever its method and path.
pub fn is_for_store(ctx: &GuardContext<'_>) -> bool {
    let RequestHead { uri, headers, .. } = ctx.head();
    let query = uri.query().unwrap_or_default();
    match headers.get(AUTHORIZATION) {
        Some(authorization) => {
            // Every invocation passes here: most are told by this without parsing their scope.
            let authorization = authorization.as_bytes();
            is_version_2(authorization)
                || (may_be_for_s3(authorization) && scope_is(headers, query, "s3"))
        }
        None if query.is_empty() => false,
        None => is_presigned_version_2(query) || scope_is(headers, query, "s3"),
    }
}

/// Whether a request is for the control plane, below any path: SDKs keep the path of an endpoint URL.
pub fn is_for_control_plane(ctx: &GuardContext<'_>) -> bool {
    let RequestHead { method, headers, .. } = ctx.head();
    let target = headers.get(&TARGET).and_then(|target| target.to_str().ok());
    *method == Method::POST && target.is_some_and(|it| it.starts_with(SERVICE))
}

/// Whether a request is for STS or IAM, whose operation is in the body, as a form.
pub fn is_query(ctx: &GuardContext<'_>) -> bool {
    let RequestHead { method, uri, headers, .. } = ctx.head();
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |it| it.as_bytes());
    // A model may take forms, too: by its path that is an invocation.
    *method == Method::POST
        && content_type.starts_with(b"application/x-www-form-urlencoded")
        && (uri.path() == "/" || scope_is(headers, "", "sts") || scope_is(headers, "", "iam"))
}

/// Whether a browser sends a request on behalf of a page: a page of a stranger could otherwise write
/// models to whoever looks at it.
pub fn is_of_a_page(ctx: &GuardContext<'_>) -> bool {
    let headers = &ctx.head().headers;
    let site = headers.get(&SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    page::is_sender(headers.contains_key(ORIGIN), site)
}

/// Whether a request comes under a name that is not this machine's.
pub fn is_for_foreign_host(ctx: &GuardContext<'_>) -> bool {
    !names_this_machine(&ctx.head().headers)
}

pub fn names_this_machine(headers: &HeaderMap) -> bool {
    page::names_this_machine(headers.get(HOST).map(HeaderValue::as_bytes))
}

fn scope_is(headers: &HeaderMap, query: &str, service: &str) -> bool {
    CredentialScope::of(headers, query).is_some_and(|scope| scope.service == service)
}

/// Signature Version 2 has no scope, and of the services here only S3 ever took it.
fn is_version_2(authorization: &[u8]) -> bool {
    authorization.starts_with(b"AWS ")
}

/// boto3 still presigns so for the regions that are older than version 4.
fn is_presigned_version_2(query: &str) -> bool {
    let has = |name: &str| query.split('&').any(|it| it.split('=').next() == Some(name));
    has("AWSAccessKeyId") && has("Signature") && has("Expires")
}

fn may_be_for_s3(authorization: &[u8]) -> bool {
    let mut parameters = authorization.split(|byte| *byte == b',');
    parameters.any(|parameter| parameter.trim_ascii().ends_with(b"/s3/aws4_request"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{dev::ServiceRequest, test::TestRequest};

    const SCOPE: &str = "AKID/20261123/eu-west-1";

    fn request(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> ServiceRequest {
        let request = TestRequest::with_uri(uri).method(method);
        headers.iter().fold(request, |request, it| request.insert_header(*it)).to_srv_request()
    }

    fn signed_for(service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={SCOPE}/{service}/aws4_request, SignedHeaders=host, \
             Signature=00"
        )
    }

    #[track_caller]
    fn check_s3(uri: &str, authorization: Option<&str>, expected: bool) {
        let headers: Vec<_> = authorization.map(|it| ("authorization", it)).into_iter().collect();
        let request = request(Method::GET, uri, &headers);
        assert_eq!(is_for_store(&request.guard_ctx()), expected, "{uri} {authorization:?}");
    }

    #[test]
    fn what_is_signed_for_s3_is_s3s_whatever_its_path() {
        let (s3, sagemaker) = (signed_for("s3"), signed_for("sagemaker"));
        for uri in ["/", "/ping", "/endpoints/demo/invocations", "/bucket/a%2Fb?list-type=2"] {
            check_s3(uri, Some(&s3), true);
            check_s3(uri, Some(&sagemaker), false);
            check_s3(uri, None, false);
        }
        // The words alone are no scope.
        check_s3("/", Some("Bearer x/s3/aws4_request"), false);
    }

    #[test]
    fn presigned_requests_of_both_versions_are_s3s() {
        let presigned = |service| {
            format!("/b/k?X-Amz-Credential=AKID%2F20261123%2Fus-east-1%2F{service}%2Faws4_request")
        };
        check_s3(&presigned("s3"), None, true);
        check_s3(&presigned("sts"), None, false);
        check_s3("/b/k?AWSAccessKeyId=A&Signature=x%3D&Expires=1", None, true);
        check_s3("/b/k?Signature=x&Expires=1", None, false);
        check_s3("/b/k", Some("AWS AKID:signature"), true);
    }

    #[test]
    fn the_control_plane_is_told_by_its_target_below_any_path() {
        let check = |method, uri, target, expected| {
            let request = request(method, uri, &[("x-amz-target", target)]);
            assert_eq!(is_for_control_plane(&request.guard_ctx()), expected, "{uri} {target}");
        };
        check(Method::POST, "/", "SageMaker.CreateModel", true);
        check(Method::POST, "/cp/", "SageMaker.CreateModel", true);
        check(Method::GET, "/", "SageMaker.CreateModel", false);
        check(Method::POST, "/", "DynamoDB_20120810.GetItem", false);
    }

    #[test]
    fn a_form_is_a_query_unless_it_is_a_models() {
        let check = |uri, authorization: &str, expected| {
            let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
            let headers = [form, ("authorization", authorization)];
            let request = request(Method::POST, uri, &headers);
            assert_eq!(is_query(&request.guard_ctx()), expected, "{uri} {authorization}");
        };
        check("/", "", true);
        check("/", &signed_for("sts"), true);
        check("/prefix/", &signed_for("iam"), true);
        check("/endpoints/demo/invocations", &signed_for("sagemaker"), false);
        check("/endpoints/demo/invocations", "", false);
    }

    #[test]
    fn an_invocation_is_told_by_its_plain_path() {
        let check = |method, uri, expected: Option<&str>| {
            let request = request(method, uri, &[]);
            assert_eq!(is_invocation(&request.guard_ctx()), expected.is_some(), "{uri}");
            if let Some(name) = expected {
                assert_eq!(invoked_endpoint(request.path()), Some(name));
            }
        };
        check(Method::POST, "/endpoints/demo/invocations", Some("demo"));
        check(Method::POST, "/endpoints/demo/invocations?x", Some("demo"));
        check(Method::POST, "/endpoints//invocations", Some(""));
        // What is not plain is left to the patterns.
        check(Method::GET, "/endpoints/demo/invocations", None);
        check(Method::POST, "/endpoints/d%65mo/invocations", None);
        check(Method::POST, "/endpoints/a/b/invocations", None);
        check(Method::POST, "/endpoints/demo/invocations/", None);
        check(Method::POST, "/endpoints/demo/async-invocations", None);
    }

    #[test]
    fn what_comes_before_an_invocation_is_no_plain_one() {
        let check = |uri, headers: &[(&'static str, &str)], expected| {
            let request = request(Method::POST, uri, headers);
            assert_eq!(is_plain_invocation(&request.guard_ctx()), expected, "{uri} {headers:?}");
        };
        let (path, s3, sagemaker) =
            ("/endpoints/demo/invocations", signed_for("s3"), signed_for("sagemaker"));
        check(path, &[("authorization", &sagemaker)], true);
        check(path, &[("content-type", "application/x-www-form-urlencoded")], true);
        check(path, &[("authorization", &s3)], false);
        check(path, &[("origin", "https://evil.example")], false);
        check(path, &[("x-amz-target", "SageMaker.CreateModel")], false);
        let sts = signed_for("sts");
        let form = ("content-type", "application/x-www-form-urlencoded");
        check(path, &[form, ("authorization", &sts)], false);
        check("/endpoints/demo/invocations?AWSAccessKeyId=A&Signature=x&Expires=1", &[], false);
        check("/ping", &[], false);
    }

    #[test]
    fn what_a_page_sends_is_told_from_what_a_program_sends() {
        let check = |header, value, expected| {
            let request = request(Method::POST, "/", &[(header, value)]);
            assert_eq!(is_of_a_page(&request.guard_ctx()), expected, "{header}: {value}");
        };
        check("origin", "https://evil.example", true);
        check("origin", "null", true);
        check("sec-fetch-site", "cross-site", true);
        check("sec-fetch-site", "none", false);
        check("user-agent", "Boto3/1.44", false);
    }

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        let check = |host, expected| {
            let request = request(Method::GET, "/", &[("host", host)]);
            assert_eq!(!is_for_foreign_host(&request.guard_ctx()), expected, "{host}");
        };
        for host in ["127.0.0.1:8080", "localhost", "[::1]:80"] {
            check(host, true);
        }
        for host in ["evil.example", "evil.example:8080"] {
            check(host, false);
        }
    }
}
