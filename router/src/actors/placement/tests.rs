use super::*;
use crate::{
    actors::membership::{
        Membership,
        tests::{eventually, heartbeat, instance},
    },
    config::Config,
    group::Affinity,
    instance_client::bearer::Bearer,
    metrics::MembershipMetrics,
};
use clap::Parser as _;
use shared::api::membership::Heartbeat;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A placement without anybody to place on.
pub(in crate::actors) fn placement() -> Placement {
    let warmer = Warmer::new(Bearer::default());
    Placement::start(Provision::Pooled, warmer, PlacementMetrics::default())
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
    placement.published.load().values().map(|group| group.ring().shares().len()).sum()
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
    assert_eq!(first.affinity, Affinity::First);
    assert_eq!(name(place(&placement, &[])), Some(first.instance.id.to_string()));

    let mut tried = vec![first.instance];
    for _ in 0..2 {
        let next = place(&placement, &tried).unwrap();
        assert_eq!(next.affinity, Affinity::Other);
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

#[actix::test]
async fn a_budget_that_changes_while_an_instance_runs_changes_its_share() {
    let flags = Config::parse_from(["router"]);
    let placement = placement();
    let metrics = MembershipMetrics::default();
    let membership = Membership::start(flags.membership, placement.clone(), metrics);
    let report = async |name: &str, budget_bytes| {
        let report = heartbeat(name, "boot", "127.0.0.1:9".parse().unwrap());
        membership.heartbeat(Heartbeat { budget_bytes, ..report }).await.unwrap();
    };
    report("a", 1 << 30).await;
    report("b", 1 << 30).await;
    eventually(|| n_on_ring(&placement) == 2).await;

    report("b", 3 << 30).await;

    let shares = || {
        let published = placement.published.load();
        published[&None].ring().shares().values().copied().collect::<Vec<_>>()
    };
    eventually(|| shares() == [512, 1536]).await;
}

/// An instance whose worker answers every request with this status.
async fn warmable(name: &str, status: &'static str) -> Arc<Instance> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let n_bytes = connection.read(&mut request).await.unwrap();
            assert!(request[..n_bytes].starts_with(b"POST /manifold/v1/warm HTTP/1.1\r\n"));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(head.as_bytes()).await.unwrap();
        }
    });
    Arc::new(Instance::new(&heartbeat(name, "boot", address)))
}

/// Starts placement with these instances, and returns them in the order of the model.
async fn with_workers(
    metrics: PlacementMetrics,
    workers: Vec<Arc<Instance>>,
) -> (Placement, Vec<Arc<Instance>>) {
    let placement = Placement::start(Provision::Pooled, Warmer::new(Bearer::default()), metrics);
    let n_workers = workers.len();
    let in_service = workers.into_iter().map(|it| (it.id.clone(), it)).collect();
    placement.instances_changed(in_service);
    eventually(|| n_on_ring(&placement) == n_workers).await;
    let mut order = Vec::new();
    while let Some(next) = place(&placement, &order) {
        order.push(next.instance);
    }
    (placement, order)
}

/// Work for two replicas: an instance has one slot.
fn hot() -> Vec<HotModel> {
    vec![HotModel { artifact: "key".to_owned(), fast_millicores: 300, slow_millicores: 0 }]
}

/// The instances that take the model's invocations.
fn takers(placement: &Placement) -> BTreeSet<String> {
    (0..50).filter_map(|_| name(place(placement, &[]))).collect()
}

fn ids<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> BTreeSet<String> {
    instances.into_iter().map(|it| it.id.to_string()).collect()
}

#[actix::test]
async fn a_hot_model_gets_a_replica_that_is_warmed_before_it_takes_invocations() {
    let metrics = PlacementMetrics::default();
    let workers = vec![
        warmable("a", "200 OK").await,
        warmable("b", "200 OK").await,
        warmable("c", "200 OK").await,
    ];
    let (placement, order) = with_workers(metrics.clone(), workers).await;
    placement.heat_reported(Arc::clone(&order[0]), hot(), 0);
    assert_eq!(takers(&placement), ids(&order[..1]));
    eventually(|| takers(&placement) == ids(&order[..2])).await;
    assert_eq!(metrics.warms_begun.get(), 1);
    eventually(|| metrics.replicas.get() == 1).await;
    // Other models are where they were.
    let other = || placement.place(&"any".parse().unwrap(), "other", &[]).unwrap().instance;
    let first = other();
    assert!((0..50).all(|_| other().id == first.id));
}

#[actix::test]
async fn where_an_instance_cannot_be_warmed_the_next_one_is() {
    let metrics = PlacementMetrics::default();
    // Who is second, the names say.
    let named = in_service(&["a", "b", "c"]).into_values().collect();
    let second = with_workers(PlacementMetrics::default(), named).await.1[1].id.clone();
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        let is_full = name == second.as_str();
        let status = if is_full { "507 Insufficient Storage" } else { "200 OK" };
        workers.push(warmable(name, status).await);
    }
    let (placement, order) = with_workers(metrics.clone(), workers).await;
    placement.heat_reported(Arc::clone(&order[0]), hot(), 0);
    eventually(|| takers(&placement) == ids([&order[0], &order[2]])).await;
    assert_eq!((metrics.warms_begun.get(), metrics.warms_failed.get()), (2, 1));
}

#[actix::test]
async fn what_a_process_held_is_gone_with_it() {
    let workers = vec![warmable("a", "200 OK").await, warmable("b", "200 OK").await];
    let (placement, order) = with_workers(PlacementMetrics::default(), workers).await;
    placement.heat_reported(Arc::clone(&order[0]), hot(), 0);
    eventually(|| takers(&placement) == ids(&order)).await;

    // It restarts: it is the same instance, and holds nothing.
    let address = warmable("other", "503 Service Unavailable").await.address;
    let restarted = heartbeat(order[1].id.as_str(), "another", address);
    let restarted = Arc::new(Instance::new(&restarted));
    let both = [Arc::clone(&order[0]), restarted];
    placement.instances_changed(both.into_iter().map(|it| (it.id.clone(), it)).collect());
    eventually(|| takers(&placement) == ids(&order[..1])).await;
}
