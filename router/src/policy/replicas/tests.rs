use super::*;
use crate::policy::ring::shares;
use shared::id::InstanceId;

const MODEL: &str = "s3://bucket/hot.tar.gz";
const SECOND: Duration = Duration::from_secs(1);

/// A group of instances with two slots each, and the clock.
struct Fixture {
    replicas: Replicas,
    ring: PlacementRing,
    hosts: Vec<Host>,
    now: Instant,
}

impl Fixture {
    fn new(n_instances: usize) -> Self {
        let mut fixture = Self {
            replicas: Replicas::default(),
            ring: PlacementRing::empty(),
            hosts: Vec::new(),
            now: Instant::now() + 10 * SECOND,
        };
        fixture.set_instances(&(0..n_instances).collect::<Vec<_>>());
        fixture
    }

    fn set_instances(&mut self, numbers: &[usize]) {
        let ids: Vec<InstanceId> =
            numbers.iter().map(|n| format!("worker-{n}").parse().unwrap()).collect();
        self.hosts = ids.iter().map(|id| Host { node: Node::of(id), n_slots: 2 }).collect();
        self.ring = self.ring.changed_to(&shares(&ids.into_iter().map(|id| (id, 1)).collect()));
    }

    /// The instances in the order of the model.
    fn order(&self) -> Vec<Node> {
        self.ring.preference(Key::of(MODEL)).collect()
    }

    /// An instance reports this work for the model.
    fn report(&mut self, node: Node, millicores: u32) {
        let hot = HotModel {
            artifact: MODEL.to_owned(),
            fast_millicores: millicores,
            slow_millicores: 0,
        };
        self.replicas.hear(Host { node, n_slots: 2 }, vec![hot], 0);
    }

    /// Lets a second pass, and decides.
    fn plan(&mut self) -> Plan {
        self.now += SECOND;
        self.replicas.decide(&self.hosts, self.now);
        self.replicas.plan(&self.ring, &self.hosts, self.now)
    }

    fn warmed(&mut self, node: Node) {
        self.replicas.warmed(&Arc::from(MODEL), node, self.now);
    }

    fn failed(&mut self, node: Node) {
        self.replicas.failed(&Arc::from(MODEL), node, self.now);
    }
}

fn members(plan: &Plan) -> Vec<Node> {
    plan.sets.iter().flat_map(|(_, homes)| &homes.members).map(|member| member.node).collect()
}

fn wished(plan: &Plan) -> Vec<Node> {
    plan.warms.iter().map(|(_, node)| *node).collect()
}

#[test]
fn a_model_that_is_not_hot_has_neither_set_nor_wishes() {
    let mut fixture = Fixture::new(8);
    fixture.report(fixture.order()[0], 250);
    assert_eq!(fixture.plan(), Plan::default());
}

#[test]
fn a_replica_takes_invocations_once_it_is_warm() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    fixture.report(order[0], 900);
    let plan = fixture.plan();
    assert_eq!((members(&plan), wished(&plan)), (order[..1].to_vec(), order[1..3].to_vec()));

    // It is not asked twice while it loads.
    let plan = fixture.plan();
    assert_eq!((members(&plan), wished(&plan)), (order[..1].to_vec(), vec![]));
    fixture.warmed(order[2]);
    assert_eq!(members(&fixture.plan()), [order[0], order[2]]);
    fixture.warmed(order[1]);
    assert_eq!(members(&fixture.plan()), order[..3]);
}

#[test]
fn a_replica_is_new_for_two_seconds() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    fixture.report(order[0], 600);
    fixture.plan();
    fixture.warmed(order[1]);
    let mut is_new = || {
        let plan = fixture.plan();
        plan.sets[0].1.members.iter().map(|it| it.is_new).collect::<Vec<_>>()
    };
    assert_eq!([is_new(), is_new()], [[false, true], [false, false]]);
}

#[test]
fn who_says_that_it_holds_the_model_need_not_be_warmed() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    for node in &order[..3] {
        fixture.report(*node, 250);
    }
    // As after a restart of the router: it knows at once what others warmed.
    let plan = fixture.plan();
    assert_eq!((members(&plan), wished(&plan)), (order[..3].to_vec(), vec![]));
    assert!(plan.sets[0].1.members.iter().all(|member| !member.is_new));
}

#[test]
fn where_nobody_is_warm_the_first_of_the_order_takes_everything() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    fixture.report(order[0], 600);
    fixture.plan();
    fixture.replicas.forget(order[0]);
    let plan = fixture.plan();
    assert_eq!(members(&plan), order[..1]);
    assert!(wished(&plan).contains(&order[0]), "whoever restarted holds nothing");
}

#[test]
fn an_instance_that_cannot_be_warmed_is_passed_over_for_a_while() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    fixture.report(order[0], 600);
    assert_eq!(wished(&fixture.plan()), [order[1]]);
    fixture.failed(order[1]);
    assert_eq!(wished(&fixture.plan()), [order[2]]);
    fixture.warmed(order[2]);
    assert_eq!(members(&fixture.plan()), [order[0], order[2]]);
    let again = (0..WARM_AGAIN.as_secs()).find(|_| wished(&fixture.plan()) == [order[1]]);
    assert!(again.is_some_and(|seconds| seconds > 20), "{again:?}");
}

#[test]
fn after_a_change_of_the_ring_the_old_replica_goes_on_until_the_new_one_is_warm() {
    let mut fixture = Fixture::new(8);
    let order = fixture.order();
    fixture.report(order[0], 600);
    fixture.plan();
    fixture.warmed(order[1]);
    // Somebody joins before the second: try names until one does.
    let joined = (8..1000).find(|n| {
        fixture.set_instances(&(0..8).chain([*n]).collect::<Vec<_>>());
        fixture.order()[1] != order[1] && fixture.order()[0] == order[0]
    });
    assert!(joined.is_some());
    let newcomer = fixture.order()[1];
    let plan = fixture.plan();
    assert_eq!((members(&plan), wished(&plan)), (order[..2].to_vec(), vec![newcomer]));
    fixture.warmed(newcomer);
    assert_eq!(members(&fixture.plan()), [order[0], newcomer]);
}

#[test]
fn who_drains_or_left_is_no_replica() {
    let mut fixture = Fixture::new(4);
    let order = fixture.order();
    fixture.report(order[0], 600);
    fixture.plan();
    fixture.warmed(order[1]);
    // One that drains is on the ring, but gets no replicas.
    fixture.hosts.retain(|host| host.node != order[0]);
    let plan = fixture.plan();
    assert_eq!((members(&plan), wished(&plan)), (vec![order[1]], vec![order[2]]));
}

#[test]
fn the_next_of_the_order_stand_by_for_replicas_that_are_too_busy() {
    let mut fixture = Fixture::new(16);
    let order = fixture.order();
    fixture.report(order[0], 900);
    // Also those that shall be replicas: they load it in any case.
    assert_eq!(fixture.plan().sets[0].1.spares, order[1..=SPARE]);
    fixture.warmed(order[1]);
    fixture.warmed(order[2]);
    assert_eq!(fixture.plan().sets[0].1.spares, order[3..3 + SPARE]);
}

#[test]
fn only_so_many_are_warmed_at_a_time() {
    let mut fixture = Fixture::new(64);
    let order = fixture.order();
    fixture.report(order[0], 32_000);
    let mut wishes = wished(&fixture.plan());
    for _ in 0..5 {
        wishes.extend(wished(&fixture.plan()));
    }
    assert_eq!(wishes.len(), MIN_WARMING);
    fixture.warmed(wishes[0]);
    assert_eq!(wished(&fixture.plan()).len(), 1);
    // What was asked of a process that is gone waits for nobody.
    fixture.replicas.forget(wishes[1]);
    assert_eq!(wished(&fixture.plan()), [wishes[1]]);
}

#[test]
fn hot_models_of_instances_with_queues_are_known_by_name() {
    let mut fixture = Fixture::new(4);
    let order = fixture.order();
    let warm = |artifact: &str| HotModel {
        artifact: artifact.to_owned(),
        fast_millicores: 100,
        slow_millicores: 0,
    };
    let host = |n: usize| Host { node: order[n], n_slots: 2 };
    fixture.replicas.hear(host(0), vec![warm("a")], 4);
    fixture.replicas.hear(host(1), vec![warm("b"), warm("c")], 5);
    let plan = fixture.plan();
    let names: Vec<&str> = plan.sets.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["b", "c"]);
    for (name, homes) in &plan.sets {
        let order: Vec<Node> = fixture.ring.preference(Key::of(name)).collect();
        assert_eq!((&homes.members, &*homes.spares), (&vec![], &order[1..]), "{name}");
    }
    fixture.replicas.hear(host(1), vec![warm("b")], 2);
    assert_eq!(fixture.plan(), Plan::default());
}

#[test]
fn a_silent_instance_is_not_believed_for_ever() {
    let mut fixture = Fixture::new(4);
    let order = fixture.order();
    fixture.report(order[0], 600);
    fixture.plan();
    assert_eq!(fixture.replicas.n_further(), 1);
    fixture.replicas.hear(Host { node: order[0], n_slots: 2 }, Vec::new(), 0);
    fixture.now += Duration::from_mins(11);
    fixture.plan();
    fixture.now += Duration::from_mins(11);
    assert_eq!(fixture.plan(), Plan::default());
    assert_eq!(fixture.replicas.n_further(), 0);
}
