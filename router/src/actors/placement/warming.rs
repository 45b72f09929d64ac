//! The tasks that warm replicas.

use super::{GroupName, PlacementActor, Warmed};
use crate::{group::hot::Wish, instance_client::Options};
use actix::prelude::*;
use shared::telemetry::Chain;
use tracing::{info, warn};

impl PlacementActor {
    /// Warms a replica in a task that reports back once.
    pub(super) fn warm(&self, group: GroupName, wish: Wish, myself: Addr<Self>) {
        self.metrics.warms_begun.inc();
        let (warmer, asked) = (self.warmer.clone(), wish.clone());
        let warming = actix::spawn(async move {
            warmer.warm(&asked.instance, &asked.artifact, Options::default()).await
        });
        actix::spawn(async move {
            let Wish { artifact, instance } = &wish;
            let is_warm = match warming.await {
                Ok(Ok(())) => {
                    info!(%artifact, instance = %instance.id, "replica is warm");
                    true
                }
                Ok(Err(error)) => {
                    let error = Chain(&error);
                    warn!(%artifact, instance = %instance.id, %error, "replica not warmed");
                    false
                }
                // A panic must come back too, or it would be waited for for ever.
                Err(_) => false,
            };
            myself.do_send(Warmed { group, wish, is_warm });
        });
    }
}
