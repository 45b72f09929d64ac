//! Watches a backend as the platform does: whether it answers, and which models it has.

use super::{Parts, answers::BackendError, folder::is_ours};
use shared::address::ArtifactAddress;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How often it is asked while it starts: often, because somebody waits for it.
const START_INTERVAL: Duration = Duration::from_millis(500);

/// How often it is asked while it serves, and how often in a row it may fail then. A backend that has died
/// is given up after 6 s, one that hangs after 12 s: its garbage collector may have stopped it meanwhile.
const INTERVAL: Duration = Duration::from_secs(2);
const MAX_FAILED: u32 = 3;

/// After how many pings it is compared what it has with what it should have. A model that it lost shows
/// itself at its next invocation, too.
const COMPARED_EVERY: u32 = 10;

/// How long it may take to unload what nobody uses.
const TIDY_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches one backend.
#[derive(Debug)]
pub struct Vigil {
    parts: Arc<Parts>,
    n_failed: u32,
    n_pings: u32,
}

/// What somebody who watches has seen.
#[derive(Debug)]
pub enum Watched {
    /// It does not answer any more.
    Down(BackendError),
    /// It no longer has the models of these artifacts.
    Lost(Vec<ArtifactAddress>),
}

/// A backend did not come up.
#[derive(Debug, thiserror::Error)]
#[error(
    "the backend at {url} did not serve within {patience:?}; see its log, --backend and --backend-startup-timeout-s"
)]
pub struct NotUp {
    url: String,
    patience: Duration,
    #[source]
    last: BackendError,
}

impl Vigil {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, n_failed: 0, n_pings: 0 }
    }

    /// Waits until the backend serves: until it answers a ping and lists its models. Returns what it has
    /// lost of what it had.
    pub async fn up(&mut self) -> Result<Vec<ArtifactAddress>, NotUp> {
        let patience = self.parts.config.startup_timeout;
        let began = Instant::now();
        let mut last = BackendError::NoAnswer("it was not asked".to_owned());
        let coming = async {
            loop {
                match self.look().await {
                    Ok(missing) => return missing,
                    Err(error) => last = error,
                }
                sleep(START_INTERVAL).await;
            }
        };
        let came = timeout(patience, coming).await;
        let url = self.parts.config.url.to_string();
        let missing = came.map_err(|_| NotUp { url: url.clone(), patience, last })?;
        info!(url, elapsed_ms = began.elapsed().as_millis(), "the backend serves");
        self.n_failed = 0;
        self.parts.is_up.send_replace(true);
        Ok(missing)
    }

    /// Waits until something is to be done about the backend.
    pub async fn next(&mut self) -> Watched {
        loop {
            sleep(INTERVAL).await;
            self.n_pings = self.n_pings.wrapping_add(1);
            let is_compared = self.n_pings.is_multiple_of(COMPARED_EVERY);
            // One that failed meanwhile may have begun anew.
            let looked = if is_compared || self.n_failed > 0 {
                self.look().await
            } else {
                self.parts.client.ping().await.map(|()| Vec::new())
            };
            match looked {
                Ok(lost) => {
                    self.n_failed = 0;
                    if !lost.is_empty() {
                        return Watched::Lost(lost);
                    }
                }
                Err(error) => {
                    self.n_failed += 1;
                    warn!(n_failed = self.n_failed, %error, "the backend failed its ping");
                    if self.n_failed >= MAX_FAILED {
                        self.parts.is_up.send_replace(false);
                        return Watched::Down(error);
                    }
                }
            }
        }
    }

    /// Asks whether it is well, and what it has; has it unload what nobody uses.
    async fn look(&self) -> Result<Vec<ArtifactAddress>, BackendError> {
        self.parts.client.ping().await?;
        // Before it is asked: what comes meanwhile is not missed. What goes meanwhile is looked for below.
        let wanted = self.parts.models.snapshot();
        let listed = self.parts.client.list().await?;
        for name in listed.iter().filter(|it| is_ours(it) && !self.parts.models.has(it)) {
            let unloaded = self.parts.client.unload(name, name, TIDY_TIMEOUT).await;
            info!(
                name,
                is_unloaded = matches!(unloaded, Ok(true)),
                "the backend has a model that nobody uses"
            );
        }
        let mut lost = Vec::new();
        for (name, model) in wanted.into_iter().filter(|(_, it)| it.is_loaded) {
            // A list may leave out what is on its way, and who unloads it knows that it goes.
            if !listed.contains(&name)
                && !self.parts.client.has(&name).await?
                && self.parts.models.is_loaded(&name)
            {
                lost.push(model.address);
            }
        }
        Ok(lost)
    }
}
