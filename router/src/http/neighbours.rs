//! Lets workers and launchers in, and nobody else: who shows the cluster's token, or if there is none,
//! who is on this machine.

use super::{error::ApiError, front, invocations::new_request_id};
use crate::{body::BodyReader, headers::CLUSTER_TOKEN};
use actix_web::{
    Error, HttpMessage as _,
    body::{EitherBody, MessageBody},
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    guard::GuardContext,
    http::header::{AUTHORIZATION, FORWARDED, HeaderMap, HeaderValue},
    middleware::Next,
    web::Data,
};
use shared::token::{ClusterToken, Presented};

const REFUSED: &str = "This router has credentials, and takes such calls from its own machine \
    alone. Workers and launchers of other machines need --cluster-token-file, or a listener of \
    their own: --internal-listen.";

/// Whether a request does not show the cluster's token.
pub fn is_stranger(token: &ClusterToken, ctx: &GuardContext<'_>) -> bool {
    let RequestHead { headers, peer_addr, .. } = ctx.head();
    token.admit(presented(headers), peer_addr.map(|it| it.ip())).is_err()
}

/// What a request says of whether it comes from the cluster.
pub fn presented(headers: &HeaderMap) -> Presented<'_> {
    Presented {
        token: headers.get(&CLUSTER_TOKEN).map(HeaderValue::as_bytes),
        authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
    }
}

/// Middleware: refuses whoever is not on this machine. What a proxy forwards is not, wherever the
/// proxy is.
pub async fn only<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let peer = request.peer_addr().map(|it| it.ip().to_canonical());
    let is_forwarded = request.headers().contains_key(FORWARDED)
        || request.headers().contains_key("x-forwarded-for");
    let is_named = front::names_this_machine(request.headers());
    if peer.is_some_and(|it| it.is_loopback()) && !is_forwarded && is_named {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    if let Some(bodies) = request.app_data::<Data<BodyReader>>().cloned() {
        bodies.drain(&mut request.take_payload()).await;
    }
    let refusal = ApiError::forbidden(REFUSED).into_response(&new_request_id());
    Ok(request.into_response(refusal).map_into_right_body())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{
        App,
        http::StatusCode,
        middleware::from_fn,
        test::{TestRequest, call_service, init_service},
        web,
    };

    async fn status_of(peer: &str, header: (&str, &str)) -> StatusCode {
        let app = App::new().wrap(from_fn(only)).default_service(web::to(async || "taken"));
        let request = TestRequest::get().peer_addr(peer.parse().unwrap()).append_header(header);
        call_service(&init_service(app).await, request.to_request()).await.status()
    }

    #[actix_web::test]
    async fn only_this_machine_comes_in() {
        let none = ("accept", "*/*");
        for peer in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(status_of(peer, none).await, 200, "{peer}");
        }
        for peer in ["10.0.0.1:1", "[::2]:1", "0.0.0.0:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(status_of(peer, none).await, 403, "{peer}");
        }
        assert_eq!(status_of("127.0.0.1:1", ("host", "evil.example")).await, 403);
        for header in ["forwarded", "x-forwarded-for"] {
            assert_eq!(status_of("127.0.0.1:1", (header, "10.0.0.1")).await, 403, "{header}");
        }
    }
}
