use super::*;

const LEASE: Duration = Duration::from_secs(3);

fn heartbeat(instance: &str, boot: &str) -> Heartbeat {
    Heartbeat {
        instance: instance.parse().unwrap(),
        address: "127.0.0.1:9000".parse().unwrap(),
        boot_id: boot.to_owned(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        fleet: None,
        n_slots: 1,
    }
}

fn roster() -> Roster {
    Roster::new(LEASE, 2)
}

fn serving(roster: &Roster) -> Vec<&str> {
    roster.serving().map(|it| it.instance.as_str()).collect()
}

#[test]
fn an_instance_joins_and_stays_while_it_is_heard() {
    let (mut roster, start) = (roster(), Instant::now());
    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(Heard::Joined));
    assert_eq!(roster.hear(heartbeat("a", "1"), start + LEASE), Ok(Heard::Renewed));
    assert_eq!(roster.expire(start + 2 * LEASE), []);
    assert_eq!(serving(&roster), ["a"]);
}

#[test]
fn silence_beyond_the_lease_is_loss() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("silent", "1"), start).unwrap();
    roster.hear(heartbeat("well", "1"), start + LEASE).unwrap();
    let gone = roster.expire(start + LEASE + Duration::from_millis(1));
    assert_eq!(gone.iter().map(InstanceId::as_str).collect::<Vec<_>>(), ["silent"]);
    assert_eq!(serving(&roster), ["well"]);
}

#[test]
fn a_router_that_was_absent_does_not_blame_the_instances() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.forgive(4 * LEASE);
    assert_eq!(roster.expire(start + 5 * LEASE), []);
    assert_eq!(roster.expire(start + 6 * LEASE).len(), 1);
}

#[test]
fn a_restart_under_the_same_id_is_taken_in_at_its_first_heartbeat() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "old"), start).unwrap();
    let mut restarted = heartbeat("a", "new");
    restarted.address.set_port(9001);
    assert_eq!(roster.hear(restarted.clone(), start), Ok(Heard::Restarted));
    assert_eq!(roster.serving().next(), Some(&restarted));
}

#[test]
fn the_process_that_was_replaced_does_not_come_back() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "old"), start).unwrap();
    roster.hear(heartbeat("a", "new"), start).unwrap();
    assert_eq!(roster.hear(heartbeat("a", "old"), start), Err(Refused::Replaced));
    assert_eq!(roster.hear(heartbeat("a", "new"), start), Ok(Heard::Renewed));
}

#[test]
fn a_draining_instance_is_known_but_takes_nothing_new() {
    let (mut roster, start) = (roster(), Instant::now());
    let draining = Heartbeat { state: InstanceState::Draining, ..heartbeat("a", "1") };
    roster.hear(draining, start).unwrap();
    assert_eq!(roster.members().count(), 1);
    assert_eq!(serving(&roster), Vec::<&str>::new());
}

#[test]
fn the_number_of_instances_is_bounded() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.hear(heartbeat("b", "1"), start).unwrap();
    assert_eq!(roster.hear(heartbeat("c", "1"), start), Err(Refused::Full));
    assert_eq!(roster.hear(heartbeat("b", "1"), start), Ok(Heard::Renewed));
}

#[test]
fn addresses_that_lead_nowhere_are_refused() {
    for address in ["0.0.0.0:80", "[::]:80", "127.0.0.1:0", "[fe80::1%2]:80"] {
        let nowhere = Heartbeat { address: address.parse().unwrap(), ..heartbeat("a", "1") };
        assert_eq!(roster().hear(nowhere, Instant::now()), Err(Refused::Address), "{address}");
    }
}
