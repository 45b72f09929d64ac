//! A load whose backend has no room: others leave, one at a time, until it has.
//!
//! Nobody but the backend knows what models take there. It says 507, and then the platform unloads others
//! and asks again (container contract); so does the model cache.

use super::{AcquireError, Message, ModelCache, ROOM_PATIENCE, load::LoadContext};
use crate::runtime::{Artifact, Outside};
use shared::address::ArtifactAddress;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a model is not let push out others that alone was too large for its backend. Its clients may
/// try again at once; somebody may have given the backend more room meanwhile.
pub(super) const OVERSIZED_PATIENCE: Duration = Duration::from_mins(1);

/// What came of having another model leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One has left.
    Made,
    /// None can go now, but one that is in use may soon.
    MayCome,
    /// None can go.
    Blocked,
}

impl ModelCache {
    /// Has another model leave than this one, which its backend has no room for; returns whether one has
    /// left.
    pub async fn make_way(&self, for_whom: &ArtifactAddress) -> bool {
        let for_whom = for_whom.clone();
        let way = ractor::call!(self.actor, |reply| Message::MakeWay { for_whom, reply });
        matches!(way, Ok(Way::Made))
    }
}

/// Starts a model outside. One that its backend has no room for is tried again each time that another
/// has left, until none can: of as many as there are.
pub(super) async fn start(
    context: &LoadContext,
    artifact: Artifact,
) -> Result<Arc<dyn Outside>, AcquireError> {
    let mut patience = None;
    loop {
        // Listen before asking, or a replica that becomes idle in between would be missed.
        let idle = context.idle.notified();
        tokio::pin!(idle);
        idle.as_mut().enable();
        let error = match context.parts.runtime.start(artifact.clone()).await {
            Err(error) if error.wants_room() => error,
            outcome => return Ok(outcome?),
        };
        let for_whom = artifact.address.clone();
        let way = ractor::call!(context.cache, |reply| Message::MakeWay { for_whom, reply });
        match way.map_err(|_| AcquireError::Stopping)? {
            Way::Made => {}
            Way::MayCome => {
                let patience = *patience.get_or_insert_with(|| Instant::now() + ROOM_PATIENCE);
                if timeout_at(patience, idle).await.is_err() {
                    return Err(error.into());
                }
            }
            Way::Blocked => return Err(error.into()),
        }
    }
}
