//! The heads of requests and answers, between HTTP and models that run outside.

use crate::runtime::{InputHead, OutputHead};
use actix_web::{
    HttpRequest, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{
            AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING,
            UPGRADE,
        },
    },
    web,
};
use shared::api::invocation::INVOCATION_ID;

/// What begins so is between routers and workers.
const OWN_PREFIX: &str = "x-manifold-";

/// What a model outside gets to know of a request: everything but what is ours.
pub(super) fn of_request(request: &HttpRequest) -> InputHead {
    let is_theirs = |name: &str| !name.starts_with(OWN_PREFIX) && name != AUTHORIZATION.as_str();
    let headers = request.headers().iter().filter(|(name, _)| is_theirs(name.as_str()));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    // Multi Model Server gives handlers none there.
    let query =
        if request.path().starts_with("/predictions/") { "" } else { request.query_string() };
    let query = web::Query::<Vec<(String, String)>>::from_query(query);
    let id = request.headers().get(INVOCATION_ID).and_then(|id| id.to_str().ok());
    InputHead {
        invocation_id: id.unwrap_or_default().to_owned(),
        headers: headers.map(|(name, value)| (title(name.as_str()), text(value))).collect(),
        query: query.map(web::Query::into_inner).unwrap_or_default(),
    }
}

/// Writes a header's name as clients do: handlers look for `Content-Type`, and HTTP compares names without
/// their case.
fn title(name: &str) -> String {
    let words = name.split('-').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + rest,
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join("-")
}

/// Begins an answer with what its model says of it, as far as HTTP has such a thing.
pub(super) fn begin(response: &mut HttpResponseBuilder, head: &OutputHead) {
    if let Ok(status) = StatusCode::from_u16(head.status) {
        response.status(status);
    }
    for (name, value) in &head.headers {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        if let (Ok(name), Ok(value)) = (name, value)
            && is_for_client(&name)
        {
            response.insert_header((name, value));
        }
    }
}

/// Whether a model may set a header: not those that say where a message ends, nor ours.
fn is_for_client(name: &HeaderName) -> bool {
    let is_of_message = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(name);
    !is_of_message && !name.as_str().starts_with(OWN_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{HttpResponse, test::TestRequest};

    #[test]
    fn handlers_see_what_the_client_sent_and_nothing_of_ours() {
        let request = TestRequest::with_uri("/models/m/invoke?a=1&b=%20x")
            .insert_header(("content-type", "text/csv"))
            .insert_header(("X-Amzn-SageMaker-Custom-Attributes", "x"))
            .insert_header(("x-manifold-invocation-id", "id-1"))
            .insert_header(("authorization", "Bearer secret"))
            .to_http_request();
        let mut head = of_request(&request);
        head.headers.sort();
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(head.invocation_id, "id-1");
        assert_eq!(
            head.headers,
            [named("Content-Type", "text/csv"), named("X-Amzn-Sagemaker-Custom-Attributes", "x")]
        );
        assert_eq!(head.query, [named("a", "1"), named("b", " x")]);
    }

    #[test]
    fn a_handler_s_headers_cannot_end_the_message_or_speak_for_the_worker() {
        let said = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let head = OutputHead {
            status: 404,
            headers: vec![
                said("content-type", "text/plain"),
                said("Content-Length", "0"),
                said("transfer-encoding", "chunked"),
                said("x-manifold-error", "draining"),
                said("bad name", "x"),
                said("x-bad-value", "a\r\nb: c"),
            ],
        };
        let mut response = HttpResponse::Ok();
        begin(&mut response, &head);
        let response = response.finish();
        assert_eq!(response.status(), 404);
        let names: Vec<_> = response.headers().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type"]);
    }
}
