//! Waiting for a state, with patience, blamed on the line that waited.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a cluster may take to do what it must do in the end. Generous, because tests share
/// their cores with each other and with a compiler.
pub const PATIENCE: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, and fails the test where it was called if it does not within
/// [`PATIENCE`].
#[track_caller]
pub fn eventually<F: AsyncFnMut() -> bool>(mut condition: F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {caller}");
            sleep(POLL).await;
        }
    }
}
