//! The store's HTTP server: connections, their bounds, and what is taken off a request before s3s
//! sees it.
//!
//! s3s refuses a signed request if it has no secrets to check it with. This store has none by
//! design, so the signature comes off: any credentials are as good as none.

use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, ORIGIN},
    http::uri::PathAndQuery,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::{Body, service::S3Service};
use shared::page;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tracing::{debug, warn};

/// A few workers with a few ranged downloads each, and a few uploading clients. More wait in the
/// kernel's queue.
const MAX_CONNECTIONS: usize = 512;

/// How long a connection may take to send the head of a request, also while it is idle between two:
/// longer than the 20 s for which the AWS SDKs keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a presigned URL adds to the query, versions 4 and 2, lower case.
const SIGNATURE_PARAMETERS: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "awsaccesskeyid",
    "expires",
    "signature",
];

/// Serves connections for ever.
pub(super) async fn serve(listener: TcpListener, service: S3Service) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    connection(stream, service).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, service: S3Service) {
    // Answers are small or large, never chatty: waiting for more to send gains nothing.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move {
            if is_of_a_page(&request) {
                let mut refusal = Response::new(Body::empty());
                *refusal.status_mut() = StatusCode::FORBIDDEN;
                return Ok(refusal);
            }
            service.call(without_signature(request).map(Body::from)).await
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        // Mostly clients that hung up.
        debug!(error = &error as &dyn std::error::Error, "connection ended early");
    }
}

/// Whether a browser sends a request on behalf of a page: a stranger's could otherwise write models to
/// whoever looks at it.
fn is_of_a_page<B>(request: &Request<B>) -> bool {
    let site = request.headers().get(page::SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    page::is_sender(request.headers().contains_key(ORIGIN), site)
}

fn without_signature<B>(mut request: Request<B>) -> Request<B> {
    request.headers_mut().remove(AUTHORIZATION);
    if let Some(uri) = uri_without_signature(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// Returns the URI without the parameters of a presigned URL, or `None` if there were none.
fn uri_without_signature(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let is_signature = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
        SIGNATURE_PARAMETERS.contains(&name.as_str())
    };
    if !query.split('&').any(|parameter| is_signature(&parameter)) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|parameter| !is_signature(parameter)).collect();
    let path = match kept.as_slice() {
        [] => uri.path().to_owned(),
        kept => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    // Parts of a valid URI are valid again.
    parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, expected: Option<&str>) {
        let stripped = uri_without_signature(&uri.parse().unwrap());
        assert_eq!(stripped.map(|uri| uri.to_string()).as_deref(), expected, "{uri}");
    }

    #[test]
    fn presigned_urls_lose_their_signature_and_nothing_else() {
        check("/b/k", None);
        check("/b?list-type=2&prefix=a%2Fb", None);
        check("/b/k?X-Amz-Algorithm=A&X-Amz-Signature=0", Some("/b/k"));
        check(
            "/b/k?partNumber=1&X-Amz-Signature=0&uploadId=u",
            Some("/b/k?partNumber=1&uploadId=u"),
        );
        check("/b/k?AWSAccessKeyId=a&Signature=b&Expires=1", Some("/b/k"));
        check("/b/k?x-amz-checksum-crc32=a&X-Amz-Date=1", Some("/b/k?x-amz-checksum-crc32=a"));
    }

    #[test]
    fn credentials_of_any_kind_come_off() {
        let request = Request::builder().header(AUTHORIZATION, "AWS4-HMAC-SHA256 …").body(());
        assert!(without_signature(request.unwrap()).headers().is_empty());
    }
}
