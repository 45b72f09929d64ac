//! Asks an instance under suspicion whether it is alive.

use super::{
    clients::client,
    connection::{Connector, EndOfStream},
};
use crate::sockets::is_own_lack;
use awc::error::{ConnectError, SendRequestError};
use std::{fmt, net::SocketAddr, time::Duration};
use tokio::time::timeout;

/// Asks instances whether they are alive. For `Membership`, on its own thread.
#[derive(Clone)]
pub struct Prober {
    client: awc::Client,
    patience: Duration,
}

/// What a probe showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    Alive,
    Dead,
    /// We could not even ask.
    Unknown,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Prober {
    pub fn new(connect_timeout: Duration, patience: Duration) -> Self {
        // Always a new connection: an old one would say nothing of the instance's listener.
        let connector = Connector::new(EndOfStream::default());
        Self { client: client(connector, connect_timeout, Duration::ZERO), patience }
    }

    /// Alive is what answers `GET /ping` with 200, in time.
    pub async fn feel(&self, address: SocketAddr) -> Pulse {
        let ping = self.client.get(format!("http://{address}/ping")).force_close().send();
        match timeout(self.patience, ping).await {
            Ok(Ok(answer)) if answer.status().is_success() => Pulse::Alive,
            Ok(Err(error)) if is_ours(&error) => Pulse::Unknown,
            Ok(_) | Err(_) => Pulse::Dead,
        }
    }
}

/// Whether we lacked what a connection needs.
pub(super) fn is_ours(error: &SendRequestError) -> bool {
    matches!(error, SendRequestError::Connect(ConnectError::Io(error)) if is_own_lack(error))
}
