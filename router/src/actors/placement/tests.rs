use super::*;
use crate::actors::membership::tests::{eventually, instance};

fn placement() -> Placement {
    Placement::start(Provision::Pooled, PlacementMetrics::default())
}

fn in_service(names: &[&str]) -> InService {
    names.iter().map(|name| (name.parse().unwrap(), instance(name))).collect()
}

/// Starts placement with these instances, all on the ring.
async fn with(names: &[&str]) -> (Placement, InService) {
    let (placement, instances) = (placement(), in_service(names));
    placement.instances_changed(instances.clone());
    eventually(|| n_on_ring(&placement) == names.len()).await;
    (placement, instances)
}

fn place(placement: &Placement, tried: &[Arc<Instance>]) -> Option<Place> {
    placement.place(&"any".parse().unwrap(), "key", tried)
}

fn n_on_ring(placement: &Placement) -> usize {
    placement.published.load().values().map(|group| group.ring.shares().len()).sum()
}

fn name(place: Option<Place>) -> Option<String> {
    place.map(|place| place.instance.id.to_string())
}

#[actix::test]
async fn nobody_is_placed_where_nobody_is() {
    assert!(place(&placement(), &[]).is_none());
}

#[actix::test]
async fn an_artifact_has_one_preferred_instance_and_others_after_it() {
    let (placement, _) = with(&["a", "b", "c"]).await;
    let first = place(&placement, &[]).unwrap();
    assert!(first.is_first);
    assert_eq!(name(place(&placement, &[])), Some(first.instance.id.to_string()));

    let mut tried = vec![first.instance];
    for _ in 0..2 {
        let next = place(&placement, &tried).unwrap();
        assert!(!next.is_first);
        assert!(tried.iter().all(|it| it.id != next.instance.id));
        tried.push(next.instance);
    }
    assert!(place(&placement, &tried).is_none());
}

#[actix::test]
async fn an_instance_under_suspicion_comes_last() {
    let (placement, _) = with(&["a", "b"]).await;
    let first = place(&placement, &[]).unwrap().instance;
    first.suspect();
    let other = place(&placement, &[]).unwrap().instance;
    assert_ne!(first.id, other.id);
    // Better a suspect than nobody.
    assert_eq!(name(place(&placement, &[other])), Some(first.id.to_string()));
}

#[actix::test]
async fn a_lost_instance_gets_nothing_even_before_the_ring_has_changed() {
    let (placement, mut instances) = with(&["a", "b"]).await;
    let first = place(&placement, &[]).unwrap().instance;
    first.lose();
    assert_ne!(name(place(&placement, &[])), Some(first.id.to_string()));
    instances.remove(&first.id);
    placement.instances_changed(instances);
    eventually(|| placement.instances().len() == 1).await;
    assert_ne!(name(place(&placement, &[])), Some(first.id.to_string()));
}

#[actix::test]
async fn an_instance_is_used_as_soon_as_it_is_in_service() {
    let placement = placement();
    placement.instances_changed(in_service(&["a"]));
    eventually(|| placement.instances().len() == 1).await;
    assert_eq!(name(place(&placement, &[])).as_deref(), Some("a"));
}

#[actix::test]
async fn changes_that_come_while_the_ring_changes_are_not_lost() {
    let placement = placement();
    for n in 1..=20 {
        let names: Vec<String> = (0..n).map(|n| format!("worker-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        placement.instances_changed(in_service(&names));
    }
    eventually(|| n_on_ring(&placement) == 20).await;
}
