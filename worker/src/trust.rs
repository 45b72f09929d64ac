//! Who is believed to be of the cluster: whoever shows its token, once there is one.

use actix_web::{
    dev::RequestHead,
    guard::GuardContext,
    http::header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use shared::token::{ClusterToken, HEADER, Presented};

/// Whether a request does not show the cluster's token.
pub fn is_stranger(token: &ClusterToken, ctx: &GuardContext<'_>) -> bool {
    let RequestHead { headers, peer_addr, .. } = ctx.head();
    token.admit(presented(headers), peer_addr.map(|it| it.ip())).is_err()
}

/// What a request says of whether it comes from the cluster.
pub fn presented(headers: &HeaderMap) -> Presented<'_> {
    Presented {
        token: headers.get(HEADER).map(HeaderValue::as_bytes),
        authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
    }
}

/// Adds the token, if there is one, to a request to a router.
pub fn show(
    token: Option<&ClusterToken>,
    request: reqwest::RequestBuilder,
) -> reqwest::RequestBuilder {
    let Some(token) = token else { return request };
    let value = reqwest::header::HeaderValue::from_maybe_shared(token.expose());
    let mut value = value.expect("a token has visible characters of ASCII alone");
    value.set_sensitive(true);
    request.header(HEADER, value)
}
