use super::*;
use crate::config::Config;
use clap::Parser as _;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Waits for a state.
pub(in crate::actors) async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "still not so");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(in crate::actors) fn instance(name: &str) -> Arc<Instance> {
    let address = "127.0.0.1:9".parse().unwrap();
    Arc::new(Instance::new(&heartbeat(name, "boot", address)))
}

pub(in crate::actors) fn heartbeat(name: &str, boot: &str, address: SocketAddr) -> Heartbeat {
    Heartbeat {
        instance: name.parse().unwrap(),
        address,
        boot_id: boot.to_owned(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        fleet: None,
        n_slots: 1,
        hot: Vec::new(),
    }
}

/// Listens and never answers: dead as far as anyone can tell, but without a refusal.
async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn answer_a_probe(listener: TcpListener) {
    let (mut probe, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    let n_bytes = probe.read(&mut request).await.unwrap();
    assert!(request[..n_bytes].starts_with(b"GET /ping HTTP/1.1\r\n"));
    probe.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
}

/// An address where nobody listens any more.
async fn dead_address() -> SocketAddr {
    listener().await.1
}

fn start(flags: &[&str]) -> (Membership, Placement) {
    let config = Config::parse_from(["router"].iter().chain(flags)).membership;
    let placement = crate::actors::placement::tests::placement();
    let membership = Membership::start(config, placement.clone(), MembershipMetrics::default());
    (membership, placement)
}

fn placed(placement: &Placement) -> Option<Arc<Instance>> {
    placement.place(&"any".parse().unwrap(), "key", &[]).map(|place| place.instance)
}

#[actix::test]
async fn a_heartbeat_brings_an_instance_into_service() {
    let (membership, placement) = start(&[]);
    let lease = membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    assert_eq!(lease.lease_ms, 3000);
    eventually(|| placement.instances().len() == 1).await;
    let list = serde_json::to_value(membership.list().await.unwrap()).unwrap();
    assert_eq!(list[0]["instance"], "a");
    assert_eq!(list[0]["state"], "serving");
    assert_eq!(list[0]["in_service"], true);
}

#[actix::test]
async fn an_instance_that_falls_silent_is_lost() {
    let (membership, placement) = start(&["--lease-ms", "50"]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    eventually(|| placement.instances().is_empty()).await;
    assert!(membership.list().await.unwrap().is_empty());
}

#[actix::test]
async fn an_instance_that_says_goodbye_is_gone_at_once() {
    let (membership, placement) = start(&[]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    assert_eq!(membership.goodbye("a".parse().unwrap()).await, Ok(true));
    assert_eq!(membership.goodbye("a".parse().unwrap()).await, Ok(false));
    eventually(|| placement.instances().is_empty()).await;
}

#[actix::test]
async fn an_instance_that_joins_is_known_but_takes_nothing_and_one_that_drains_does_until_it_leaves()
 {
    let (membership, placement) = start(&[]);
    let serving = heartbeat("a", "1", dead_address().await);
    let joining = Heartbeat { state: InstanceState::Joining, ..serving.clone() };
    membership.heartbeat(joining).await.unwrap();
    let found = membership.find("a".parse().unwrap()).await.unwrap().unwrap();
    assert!(!found.is_home() && placement.instances().is_empty());

    membership.heartbeat(serving.clone()).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    membership.heartbeat(Heartbeat { state: InstanceState::Draining, ..serving }).await.unwrap();
    let is_draining = |it: &Arc<Instance>| it.state == InstanceState::Draining;
    eventually(|| placement.instances().iter().any(is_draining)).await;
    membership.goodbye("a".parse().unwrap()).await.unwrap();
    eventually(|| placement.instances().is_empty()).await;
}

#[actix::test]
async fn a_suspect_that_refuses_connections_is_lost_long_before_its_lease_ends() {
    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    membership.suspect(&placed(&placement).unwrap());
    eventually(|| placement.instances().is_empty()).await;

    // Another process under its name is not to blame.
    membership.heartbeat(heartbeat("a", "2", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
}

#[actix::test]
async fn one_that_reports_but_cannot_be_reached_stays_out_until_it_can() {
    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    let address = dead_address().await;
    let report = async || membership.heartbeat(heartbeat("a", "1", address)).await.unwrap();
    report().await;
    eventually(|| placement.instances().len() == 1).await;
    membership.suspect(&placed(&placement).unwrap());
    eventually(|| placement.instances().is_empty()).await;
    report().await;
    assert!(membership.list().await.unwrap().is_empty(), "its word is not enough");

    let listener = TcpListener::bind(address).await.unwrap();
    let answering = tokio::spawn(answer_a_probe(listener));
    // The probe that is under way may fail: then it is asked again.
    while placement.instances().is_empty() {
        report().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    answering.await.unwrap();
}

#[actix::test]
async fn a_suspect_that_never_answers_is_lost_too() {
    let (membership, placement) = start(&["--lease-ms", "3600000", "--probe-timeout-ms", "20"]);
    let (_listener, address) = listener().await;
    membership.heartbeat(heartbeat("hung", "1", address)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    membership.suspect(&placed(&placement).unwrap());
    eventually(|| placement.instances().is_empty()).await;
}

#[actix::test]
async fn whoever_waits_for_a_lost_instance_learns_it() {
    let (membership, placement) = start(&["--lease-ms", "50"]);
    let serving = heartbeat("a", "1", dead_address().await);
    membership.heartbeat(serving.clone()).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let instance = placed(&placement).unwrap();
    assert!(!instance.is_lost());
    // Also where it drains: it may still owe answers.
    membership.heartbeat(Heartbeat { state: InstanceState::Draining, ..serving }).await.unwrap();
    eventually(|| instance.is_lost()).await;

    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let instance = placed(&placement).unwrap();
    membership.suspect(&instance);
    eventually(|| instance.is_lost()).await;
}

#[actix::test]
async fn an_instance_that_left_in_order_may_finish_what_it_has() {
    let (membership, placement) = start(&[]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let instance = placed(&placement).unwrap();
    membership.goodbye("a".parse().unwrap()).await.unwrap();
    eventually(|| placement.instances().is_empty()).await;
    assert!(!instance.is_lost());
}

#[actix::test]
async fn a_suspect_that_could_not_be_asked_is_not_lost() {
    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    membership.heartbeat(heartbeat("a", "1", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let suspect = placed(&placement).unwrap();
    suspect.suspect();
    let unknown = Probed { instance: Arc::clone(&suspect), pulse: Pulse::Unknown };
    membership.addr.send(unknown).await.unwrap();
    assert!(!suspect.is_suspect() && !suspect.is_lost());
    assert_eq!(membership.list().await.unwrap().len(), 1);
}

#[actix::test]
async fn a_suspect_that_answers_is_cleared() {
    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    let (listener, address) = listener().await;
    membership.heartbeat(heartbeat("a", "1", address)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let suspect = placed(&placement).unwrap();
    membership.suspect(&suspect);
    assert!(suspect.is_suspect());

    answer_a_probe(listener).await;

    eventually(|| !suspect.is_suspect()).await;
    assert_eq!(placement.instances().len(), 1);
}

#[actix::test]
async fn a_restart_is_used_at_its_first_heartbeat_and_the_old_verdict_does_not_touch_it() {
    let (membership, placement) = start(&["--lease-ms", "3600000"]);
    membership.heartbeat(heartbeat("a", "old", dead_address().await)).await.unwrap();
    eventually(|| placement.instances().len() == 1).await;
    let old = placed(&placement).unwrap();

    let (_listener, address) = listener().await;
    membership.heartbeat(heartbeat("a", "new", address)).await.unwrap();
    membership.suspect(&old);
    eventually(|| placed(&placement).is_some_and(|it| it.address == address)).await;
    // The list comes after the verdict has been dealt with or before: it must be there in both.
    assert_eq!(membership.list().await.unwrap().len(), 1);
    assert!(!placed(&placement).unwrap().is_suspect());
}
