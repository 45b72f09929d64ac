//! awc's clients, for all that is asked of instances beside invocations, and for the local store.

use super::connection::Connector;
use std::time::Duration;

/// Connections live for a day: their age is no reason to close them.
const CONNECTION_LIFETIME: Duration = Duration::from_hours(24);

pub(crate) fn client(
    connector: Connector,
    connect_timeout: Duration,
    keep_alive: Duration,
) -> awc::Client {
    let connector = awc::Connector::new()
        .connector(connector)
        // In flight is bounded by who asks, not by a hidden queue here.
        .limit(0)
        .timeout(connect_timeout)
        .conn_keep_alive(keep_alive)
        .conn_lifetime(CONNECTION_LIFETIME);
    awc::Client::builder()
        .connector(connector)
        // Whoever asks has a deadline of its own; awc's would cost a second timer.
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}
