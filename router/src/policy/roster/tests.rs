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
        hot: Vec::new(),
    }
}

fn roster() -> Roster {
    Roster::new(LEASE, 2)
}

fn placed(roster: &Roster) -> Vec<&str> {
    roster.placed().map(|it| it.instance.as_str()).collect()
}

#[test]
fn an_instance_joins_and_stays_while_it_is_heard() {
    let (mut roster, start) = (roster(), Instant::now());
    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(Heard::Joined));
    assert_eq!(roster.hear(heartbeat("a", "1"), start + LEASE), Ok(Heard::Renewed));
    assert_eq!(roster.expire(start + 2 * LEASE), []);
    assert_eq!(placed(&roster), ["a"]);
}

#[test]
fn silence_beyond_the_lease_is_loss() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("silent", "1"), start).unwrap();
    roster.hear(heartbeat("well", "1"), start + LEASE).unwrap();
    let gone = roster.expire(start + LEASE + Duration::from_millis(1));
    assert_eq!(gone.iter().map(InstanceId::as_str).collect::<Vec<_>>(), ["silent"]);
    assert_eq!(placed(&roster), ["well"]);
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
    assert_eq!(roster.placed().next(), Some(&restarted));
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
fn an_instance_that_reports_but_does_not_answer_is_out_until_it_answers() {
    const ASK: Heard = Heard::Doubted { is_to_be_asked: true };
    const WAIT: Heard = Heard::Doubted { is_to_be_asked: false };
    let (mut roster, start) = (roster(), Instant::now());
    let a = "a".parse().unwrap();
    roster.hear(heartbeat("a", "1"), start).unwrap();
    assert!(roster.doubt(&a));
    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(ASK));
    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(WAIT));
    assert_eq!(roster.answered(&a, "1", false), None);
    assert_eq!(placed(&roster), Vec::<&str>::new());

    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(ASK));
    assert_eq!(roster.answered(&a, "1", true), Some(Ok(Heard::Joined)));
    assert_eq!(placed(&roster), ["a"]);
    assert_eq!(roster.answered(&a, "1", true), None, "nobody asked");
}

#[test]
fn doubt_is_about_one_process_and_ends_with_its_lease() {
    let (mut roster, start) = (roster(), Instant::now());
    let a = "a".parse().unwrap();
    roster.hear(heartbeat("a", "old"), start).unwrap();
    roster.doubt(&a);
    assert_eq!(roster.hear(heartbeat("a", "new"), start), Ok(Heard::Joined));
    assert_eq!(roster.hear(heartbeat("a", "old"), start), Err(Refused::Replaced));
    roster.doubt(&a);
    roster.expire(start + LEASE + Duration::from_millis(1));
    assert_eq!(roster.hear(heartbeat("a", "new"), start + 2 * LEASE), Ok(Heard::Joined));
    roster.doubt(&a);
    roster.leave(&a);
    assert_eq!(roster.hear(heartbeat("a", "new"), start + 2 * LEASE), Ok(Heard::Joined));
}

#[test]
fn an_instance_takes_invocations_until_it_has_left_and_not_before_it_has_joined() {
    let (mut roster, start) = (roster(), Instant::now());
    for (state, expected) in [
        (InstanceState::Joining, &[][..]),
        (InstanceState::Serving, &["a"]),
        (InstanceState::Draining, &["a"]),
    ] {
        roster.hear(Heartbeat { state, ..heartbeat("a", "1") }, start).unwrap();
        assert_eq!(placed(&roster), expected, "{state:?}");
        assert_eq!(roster.members().count(), 1);
    }
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

/// Sums of them would end the process that adds them up.
#[test]
fn figures_that_no_machine_has_are_refused() {
    let slots = Heartbeat { n_slots: usize::MAX / 2 + 1, ..heartbeat("a", "1") };
    let in_flight = Heartbeat { n_in_flight: usize::MAX, ..heartbeat("a", "1") };
    for impossible in [slots, in_flight] {
        assert_eq!(roster().hear(impossible, Instant::now()), Err(Refused::Figures));
    }
}

fn registered(instance: &str, boot: &str) -> Registered {
    Registered::of(&heartbeat(instance, boot))
}

fn due(roster: &mut Roster, now: Instant) -> Vec<String> {
    roster.due(now).iter().map(|it| it.instance.to_string()).collect()
}

#[test]
fn a_registered_instance_that_answers_serves_before_its_first_heartbeat() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.registered([registered("a", "1")]);
    assert_eq!(placed(&roster), Vec::<&str>::new(), "an entry alone proves nothing");
    assert_eq!(due(&mut roster, start), ["a"]);
    assert_eq!(due(&mut roster, start), Vec::<String>::new(), "one probe at a time");
    let joined = roster.probed(&registered("a", "1"), true, start);
    assert_eq!(joined, Some(Ok(Heard::Joined)));
    assert_eq!(placed(&roster), ["a"]);
    assert_eq!(roster.hear(heartbeat("a", "1"), start), Ok(Heard::Renewed));
}

#[test]
fn a_registered_instance_that_does_not_answer_is_asked_again() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.registered([registered("a", "1")]);
    assert_eq!(due(&mut roster, start), ["a"]);
    assert_eq!(roster.probed(&registered("a", "1"), false, start), None);
    assert_eq!(due(&mut roster, start), Vec::<String>::new());
    assert_eq!(due(&mut roster, start + LEASE / 2), ["a"]);
}

#[test]
fn silence_that_a_probe_explains_is_no_loss() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.registered([registered("a", "1")]);
    assert_eq!(due(&mut roster, start + LEASE / 4), Vec::<String>::new(), "it was just heard");
    assert_eq!(due(&mut roster, start + LEASE / 2), ["a"]);
    let vouched = roster.probed(&registered("a", "1"), true, start + LEASE / 2);
    assert_eq!(vouched, Some(Ok(Heard::Renewed)));
    assert_eq!(roster.expire(start + LEASE + LEASE / 2), []);
    assert_eq!(roster.expire(start + 2 * LEASE).len(), 1);
}

#[test]
fn silence_and_a_failed_probe_are_loss_although_the_entry_is_there() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.registered([registered("a", "1")]);
    roster.due(start + LEASE / 2);
    assert_eq!(roster.probed(&registered("a", "1"), false, start + LEASE / 2), None);
    assert_eq!(roster.expire(start + LEASE), []);
    assert_eq!(roster.expire(start + LEASE + Duration::from_millis(1)).len(), 1);
}

#[test]
fn a_wiped_etcd_takes_nobody_who_is_heard() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.registered([registered("a", "1")]);
    roster.registered([]);
    assert_eq!(roster.expire(start + LEASE), []);
    assert_eq!(placed(&roster), ["a"]);
}

#[test]
fn who_said_goodbye_is_not_taken_back_for_its_entry() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("a", "1"), start).unwrap();
    roster.registered([registered("a", "1")]);
    assert!(roster.leave(&"a".parse().unwrap()).is_some());
    assert_eq!(due(&mut roster, start + 2 * LEASE), Vec::<String>::new());
    roster.registered([registered("a", "2")]);
    assert_eq!(due(&mut roster, start + 2 * LEASE), ["a"], "another process is");
}

#[test]
fn an_entry_from_before_a_restart_is_nobody() {
    let (mut roster, start) = (roster(), Instant::now());
    roster.registered([registered("a", "old")]);
    roster.due(start);
    roster.hear(heartbeat("a", "new"), start).unwrap();
    assert_eq!(roster.probed(&registered("a", "old"), true, start), None);
    assert_eq!(roster.hear(heartbeat("a", "new"), start), Ok(Heard::Renewed));
    assert_eq!(due(&mut roster, start + LEASE / 2), Vec::<String>::new());
}

#[test]
fn a_crowd_in_etcd_is_probed_in_turn_and_members_first() {
    const CROWD: usize = 1000;
    let (mut roster, start) = (roster(), Instant::now());
    roster.hear(heartbeat("z", "1"), start).unwrap();
    let name = |n| format!("crowd-{n:04}");
    let crowd = (0..CROWD).map(|n| registered(&name(n), "1"));
    let records: Vec<_> = crowd.chain([registered("z", "1")]).collect();
    roster.registered(records.clone());
    let (mut now, mut asked) = (start + LEASE / 2, BTreeMap::<String, u32>::new());
    for _ in 0..100 {
        let probed = roster.due(now);
        assert!(probed.len() < CROWD / 2, "{} at once", probed.len());
        if now == start + LEASE / 2 {
            assert!(probed.iter().any(|it| it.instance.as_str() == "z"), "its lease runs");
        }
        assert_eq!(roster.due(now), [], "as many as may are on their way");
        for record in probed {
            *asked.entry(record.instance.to_string()).or_default() += 1;
            roster.probed(&record, false, now);
        }
        now += LEASE / 30;
    }
    let (least, most) = (asked.values().min().unwrap(), asked.values().max().unwrap());
    assert!(asked.len() == CROWD + 1 && most - least < most / 2, "{least} to {most}");
}

#[test]
fn a_registered_instance_that_is_refused_is_told_once() {
    let (mut roster, mut now) = (Roster::new(LEASE, 0), Instant::now());
    roster.registered([registered("a", "1")]);
    let mut told = Vec::new();
    for _ in 0..3 {
        for record in roster.due(now) {
            told.extend(roster.probed(&record, true, now));
        }
        now += LEASE;
    }
    assert_eq!(told, [Err(Refused::Full)]);
}
