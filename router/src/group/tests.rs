use super::*;
use shared::api::membership::Heartbeat;
use std::time::Duration;

const MODEL: &str = "s3://bucket/model.tar.gz";

fn heartbeat(name: &str) -> Heartbeat {
    Heartbeat {
        instance: name.parse().unwrap(),
        fleet: None,
        address: "127.0.0.1:9".parse().unwrap(),
        boot_id: "boot".to_owned(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        n_slots: 2,
        hot: Vec::new(),
    }
}

fn group_of(heartbeats: impl IntoIterator<Item = Heartbeat>) -> Group {
    let instances: InService = heartbeats
        .into_iter()
        .map(|it| (it.instance.clone(), Arc::new(Instance::new(&it))))
        .collect();
    let group = Group::new(instances, Arc::new(PlacementRing::empty()));
    group.with_ring(group.ring().changed_to(&group.wanted()))
}

fn group() -> Group {
    group_of(["a", "b", "c", "d", "e"].map(heartbeat))
}

/// The instances in the order of the model.
fn order(group: &Group) -> Vec<Arc<Instance>> {
    let nodes = group.ring.preference(Key::of(MODEL));
    nodes.map(|node| Arc::clone(group.instance(node).unwrap())).collect()
}

fn hot(group: &Group, replicas: &[&Arc<Instance>]) -> Group {
    let members: Vec<_> =
        replicas.iter().map(|it| Member { node: it.node, is_new: false }).collect();
    let others = order(group).into_iter().map(|it| it.node);
    // Where no replica is known, the first choice stands for them.
    let n_first = usize::from(members.is_empty());
    let is_other = |node: &Node| members.iter().all(|member| member.node != *node);
    let spares = others.skip(n_first).filter(is_other).collect();
    group.with_hot(&[(Arc::from(MODEL), Homes { members, spares })])
}

#[track_caller]
fn check(group: &Group, tried: &[Arc<Instance>], expected: (&Instance, Affinity)) {
    let place = group.place(MODEL, tried, || 0).unwrap();
    assert_eq!((&place.instance.id, place.affinity), (&expected.0.id, expected.1));
}

#[test]
fn a_model_that_is_not_hot_goes_to_one_instance_however_busy_it_is() {
    let group = group();
    let order = order(&group);
    let _busy: Vec<_> = (0..500).map(|_| order[0].begin()).collect();
    order[0].begin().served(Duration::from_mins(1), None);
    order[1].begin().served(Duration::from_secs(1), Some(Duration::from_millis(1)));
    // A burst for a cold model looks like this: all of it waits for one load.
    check(&group, &[], (&order[0], Affinity::First));
}

#[test]
fn the_replicas_of_a_hot_model_share_its_invocations() {
    let group = group();
    let order = order(&group);
    let hot = hot(&group, &[&order[0], &order[1], &order[2]]);
    let mut in_flight = Vec::new();
    for turn in 0..30 {
        let place = hot.place(MODEL, &[], || turn).unwrap();
        assert_eq!(place.affinity, Affinity::First);
        in_flight.push(Box::leak(Box::new(place.instance)).begin());
    }
    assert_eq!([0, 1, 2, 3].map(|n| order[n].load().n_in_flight), [10, 10, 10, 0]);
}

#[test]
fn a_replica_that_is_lost_suspect_or_tried_is_passed_over() {
    let group = group();
    let order = order(&group);
    let hot = hot(&group, &[&order[0], &order[1], &order[2]]);
    order[0].suspect();
    check(&hot, &[], (&order[1], Affinity::First));
    order[1].lose();
    check(&hot, &[], (&order[2], Affinity::First));
    // After the replicas come all others, as for any model.
    let tried = [Arc::clone(&order[2])];
    check(&hot, &tried, (&order[3], Affinity::Other));
    let tried = [2, 3, 4].map(|n| Arc::clone(&order[n]));
    check(&hot, &tried, (&order[0], Affinity::First));
}

#[test]
fn a_hot_model_spills_to_the_next_instance_if_that_is_cheaper_than_to_wait() {
    let group = group();
    let order = order(&group);
    let load = Duration::from_millis(500);
    for hot in [hot(&group, &[&order[0]]), hot(&group, &[])] {
        let busy: Vec<_> = (0..20).map(|_| order[0].begin()).collect();
        order[0].begin().served(Duration::from_secs(1), None);
        // Nobody knows yet what a load costs.
        let expected = usize::from(order[1].figures().load_time.is_some());
        let affinity = [Affinity::First, Affinity::Spilled][expected];
        check(&hot, &[], (&order[expected], affinity));
        order[1].begin().served(load, Some(load));
        check(&hot, &[], (&order[1], Affinity::Spilled));
        // A repeat goes where its order leads: it was not the load that failed it.
        check(&hot, &[Arc::clone(&order[0])], (&order[1], Affinity::Other));
        drop(busy);
        check(&hot, &[], (&order[0], Affinity::First));
    }
}

#[test]
fn nothing_spills_to_an_instance_that_leaves_or_is_busy_itself() {
    let names = ["a", "b", "c", "d", "e"];
    let second = order(&group())[1].id.clone();
    let leaving = |name: &str| {
        let state =
            if name == second.as_str() { InstanceState::Draining } else { InstanceState::Serving };
        Heartbeat { state, ..heartbeat(name) }
    };
    let group = group_of(names.map(leaving));
    let order = order(&group);
    let hot = hot(&group, &[&order[0]]);
    let _busy: Vec<_> = (0..20).map(|_| order[0].begin()).collect();
    for instance in &order {
        instance.begin().served(Duration::from_secs(1), None);
        instance.begin().served(Duration::ZERO, Some(Duration::from_millis(100)));
    }
    check(&hot, &[], (&order[2], Affinity::Spilled));
    let _too: Vec<_> = (0..20).map(|_| order[2].begin()).collect();
    check(&hot, &[], (&order[0], Affinity::First));
}

#[test]
fn a_model_that_is_not_hot_is_placed_as_ever_beside_one_that_is() {
    let group = group();
    let hot = hot(&group, &[&order(&group)[3]]);
    for n in 0..200 {
        let name = format!("s3://bucket/{n}");
        let before = group.place(&name, &[], || 0).unwrap();
        let place = hot.place(&name, &[], || unreachable!("it has no replicas")).unwrap();
        assert_eq!(
            (before.instance.id.clone(), Affinity::First),
            (place.instance.id.clone(), place.affinity)
        );
    }
}

#[test]
fn whoever_drains_or_is_suspect_gets_neither_replicas_nor_models_of_others() {
    let draining = Heartbeat { state: InstanceState::Draining, ..heartbeat("b") };
    let group = group_of([heartbeat("a"), draining, heartbeat("c")]);
    let hosts: Vec<Node> = group.hosts().into_iter().map(|host| host.node).collect();
    let node = |name: &str| Node::of(&name.parse().unwrap());
    assert_eq!(hosts, [node("a"), node("c")]);
    let home = group.next_home(MODEL, &"a".parse().unwrap()).unwrap();
    assert_eq!(home.id.as_str(), "c");
    home.suspect();
    assert!(group.next_home(MODEL, &"a".parse().unwrap()).is_none());
}
