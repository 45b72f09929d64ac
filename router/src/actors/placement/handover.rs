//! Where models go when an instance leaves, and which come to one that joins.

use super::Placement;
use crate::{
    group::{Group, InService},
    instance::Instance,
    policy::{
        deployment::Provision,
        ring::{Key, Node, PlacementRing},
    },
};
use shared::id::{FleetId, InstanceId};
use std::sync::Arc;

impl Placement {
    /// Returns an instance that invocations go to.
    pub fn instance(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        let published = self.published.load();
        published.values().find_map(|group| group.instances().get(id)).map(Arc::clone)
    }

    /// Returns the instances that serve the same variants as this one, without it.
    pub fn neighbours(&self, of: &Instance) -> Vec<Arc<Instance>> {
        let published = self.published.load();
        let group = published.get(&self.group_of(of));
        let instances = group.into_iter().flat_map(|group| group.instances().values());
        instances.filter(|it| it.id != of.id).map(Arc::clone).collect()
    }

    /// Returns where an artifact is at home once an instance has left; `None`: nowhere.
    pub fn next_home(&self, leaving: &Instance, key: &str) -> Option<Arc<Instance>> {
        let published = self.published.load();
        let group = published.get(&self.group_of(leaving))?;
        group.next_home(key, &leaving.id)
    }

    /// Returns what is an instance's once it serves; `None`: it could not be computed.
    pub async fn share_of(&self, joining: &Arc<Instance>) -> Option<OwnShare> {
        let (ring, mut instances) = {
            let published = self.published.load();
            match published.get(&self.group_of(joining)) {
                Some(group) => (Arc::clone(group.ring()), group.instances().clone()),
                None => (Arc::new(PlacementRing::empty()), InService::new()),
            }
        };
        // Who leaves takes nothing more.
        instances.retain(|_, it| it.is_home());
        instances.insert(joining.id.clone(), Arc::clone(joining));
        let joining = joining.node;
        let share = tokio::task::spawn_blocking(move || {
            let group = Group::new(instances, ring);
            OwnShare { ring: group.ring().changed_to(&group.wanted()), joining }
        });
        // A panic costs the joining instance its head start, nothing else.
        share.await.ok()
    }

    fn group_of(&self, instance: &Instance) -> Option<FleetId> {
        match self.provision {
            Provision::Launched => instance.fleet.clone(),
            Provision::Pooled => None,
        }
    }
}

/// What is an instance's once it serves.
#[derive(Debug)]
pub struct OwnShare {
    ring: PlacementRing,
    joining: Node,
}

impl OwnShare {
    pub fn has(&self, artifact: &str) -> bool {
        self.ring.first(Key::of(artifact)) == Some(self.joining)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};
    use crate::actors::membership::tests::{eventually, heartbeat, instance};
    use shared::api::membership::InstanceState;
    use std::collections::BTreeSet;

    async fn placement(names: &[&str]) -> Placement {
        let placement = tests::placement();
        change(&placement, names.iter().map(|name| instance(name)).collect()).await;
        placement
    }

    async fn change(placement: &Placement, instances: Vec<Arc<Instance>>) {
        let instances: InService = instances.into_iter().map(|it| (it.id.clone(), it)).collect();
        placement.instances_changed(instances.clone());
        let is_on_ring = || {
            let published = placement.published.load();
            published.get(&None).is_some_and(|group| {
                group.instances().keys().eq(instances.keys())
                    && *group.ring().shares() == group.wanted()
            })
        };
        eventually(is_on_ring).await;
    }

    fn home(placement: &Placement, key: &str, tried: &[Arc<Instance>]) -> InstanceId {
        let place = placement.place(&"any".parse().unwrap(), key, tried);
        place.unwrap().instance.id.clone()
    }

    fn draining(name: &str) -> Arc<Instance> {
        let heartbeat = heartbeat(name, "boot", "127.0.0.1:9".parse().unwrap());
        Arc::new(Instance::new(&shared::api::membership::Heartbeat {
            state: InstanceState::Draining,
            ..heartbeat
        }))
    }

    #[actix::test]
    async fn a_model_goes_where_it_will_be_placed_once_its_instance_has_left() {
        let placement = placement(&["a", "b", "c"]).await;
        let keys: Vec<_> = (0..100).map(|key| format!("model-{key}")).collect();
        let mut expected = Vec::new();
        for key in &keys {
            let leaving = placement.instance(&home(&placement, key, &[])).unwrap();
            expected
                .push((leaving.clone(), placement.next_home(&leaving, key).unwrap().id.clone()));
        }
        for (key, (leaving, next)) in keys.iter().zip(expected) {
            assert_eq!(home(&placement, key, &[leaving]), next, "{key}");
        }
    }

    #[actix::test]
    async fn a_model_does_not_go_to_who_leaves_too() {
        let placement = placement(&["a"]).await;
        let (a, b) = (instance("a"), draining("b"));
        assert!(placement.next_home(&a, "key").is_none());
        change(&placement, vec![Arc::clone(&a), Arc::clone(&b)]).await;
        assert!(placement.next_home(&a, "key").is_none());
        assert_eq!(placement.next_home(&b, "key").unwrap().id, a.id);
        assert_eq!(placement.neighbours(&a).len(), 1);
    }

    #[actix::test]
    async fn a_share_is_what_will_be_placed_at_the_joining_instance() {
        let placement = placement(&["a", "b"]).await;
        let keys: Vec<_> = (0..300).map(|key| format!("model-{key}")).collect();
        let joining = instance("c");

        let share = placement.share_of(&joining).await.unwrap();
        let share: BTreeSet<_> = keys.iter().filter(|key| share.has(key)).cloned().collect();

        let all = ["a", "b", "c"].map(instance).to_vec();
        change(&placement, all).await;
        let own: BTreeSet<_> =
            keys.into_iter().filter(|key| home(&placement, key, &[]) == joining.id).collect();
        assert_eq!(share, own);
        assert!(own.len() > 50, "{}", own.len());
    }

    #[actix::test]
    async fn whoever_joins_an_empty_group_has_all_of_it() {
        let placement = tests::placement();
        assert!(placement.share_of(&instance("a")).await.unwrap().has("key"));
    }
}
