//! The root of the supervision tree: decides what the death of an actor means.
//!
//! A replica may die alone; its supervisor is the model cache. The actors directly below this one
//! hold state that cannot be rebuilt beside the old one's leases, so when one of them dies the
//! process ends and is started anew: routers send its models' invocations elsewhere at once.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;
use tracing::error;

/// The root supervisor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instance {
    actor: ActorRef<()>,
    is_broken: watch::Receiver<bool>,
}

impl Instance {
    pub async fn spawn() -> Result<Self, SpawnErr> {
        let (report, is_broken) = watch::channel(false);
        // Unnamed: ractor's registry is global, and tests run many workers in one process.
        let (actor, _) = Actor::spawn(None, InstanceActor, report).await?;
        Ok(Self { actor, is_broken })
    }

    /// What the instance's actors are spawned under.
    pub fn supervisor(&self) -> ActorCell {
        self.actor.get_cell()
    }

    pub fn is_broken(&self) -> bool {
        *self.is_broken.borrow()
    }

    /// Returns when an actor has died that the instance cannot do without.
    pub async fn broken(&self) {
        let mut is_broken = self.is_broken.clone();
        // An end of the supervisor itself is the worst of breaks.
        let _ = is_broken.wait_for(|is_broken| *is_broken).await;
    }
}

// === Actor ===

#[derive(Debug)]
struct InstanceActor;

impl Actor for InstanceActor {
    type Msg = ();
    type State = watch::Sender<bool>;
    type Arguments = watch::Sender<bool>;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        report: watch::Sender<bool>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(report)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        report: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match event {
            SupervisionEvent::ActorFailed(_, error) => error.to_string(),
            SupervisionEvent::ActorTerminated(_, _, reason) => reason.unwrap_or_default(),
            _ => return Ok(()),
        };
        error!(reason, "an actor died that the instance cannot do without");
        report.send_replace(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Doomed;

    impl Actor for Doomed {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<()>,
            (): (),
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            Err("doomed".into())
        }
    }

    #[tokio::test]
    async fn the_death_of_a_core_actor_breaks_the_instance() {
        let instance = Instance::spawn().await.unwrap();
        let (doomed, _) =
            Actor::spawn_linked(None, Doomed, (), instance.supervisor()).await.unwrap();
        assert!(!instance.is_broken());

        doomed.cast(()).unwrap();
        instance.broken().await;
        assert!(instance.is_broken());
    }
}
