use super::*;
use serde_json::{Map, json};

fn after_waiting(ms: u64) -> Patience {
    Patience { waited: Duration::from_millis(ms), longest: Duration::from_secs(5) }
}

fn deployment(started: u64, fleets: &[(&str, u32)]) -> Deployment {
    let variants = fleets.iter().map(|(fleet, n_instances)| {
        let variant = json!({
            "name": format!("variant-{fleet}"), "fleet": fleet, "weight": 1.0,
            "n_instances": n_instances, "model_name": "m", "image": "i",
            "model_data_url": format!("s3://bucket/{fleet}/"), "is_multi_model": true,
            "environment": {"SAGEMAKER_X": "1", "LD_PRELOAD": "evil"},
        });
        serde_json::from_value(variant).unwrap()
    });
    Deployment {
        config_name: format!("config-{started}"),
        started: Timestamp(started),
        variants: variants.collect(),
        async_inference: None,
        shown: Map::new(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what a test gives away reads better")]
fn endpoint(status: &str, active: Option<Deployment>, pending: Option<Deployment>) -> Endpoint {
    let record = json!({
        "name": "demo", "arn": "", "created": 0, "modified": 0, "config_name": "first",
        "status": status, "active": active, "pending": pending,
    });
    serde_json::from_value(record).unwrap()
}

/// Sees these numbers of instances; what is not named is gone.
fn seeing(n_in_service: &[(&str, u32)]) -> impl Fn(&FleetId) -> Seen {
    move |fleet| {
        let n = n_in_service.iter().find(|(name, _)| *name == fleet.as_str()).map(|(_, n)| *n);
        Seen { n_in_service: n.unwrap_or(0), is_gone: n.is_none(), failure: None }
    }
}

fn next(endpoint: &Endpoint, seen: impl Fn(&FleetId) -> Seen, now: u64) -> Option<Step> {
    next_step(endpoint, seen, Provision::Launched, after_waiting(now), Timestamp(now))
}

fn after(endpoint: &Endpoint, step: &Step, now: u64) -> Endpoint {
    step.applied_to(endpoint, Timestamp(now)).unwrap()
}

fn fleets_of(deployment: &Deployment) -> Vec<&str> {
    deployment.variants.iter().map(|it| it.fleet.as_str()).collect()
}

fn catalog(endpoint: Endpoint) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(crate::control::catalog::Change::PutEndpoint(endpoint));
    catalog
}

fn desired_fleets(endpoint: &Endpoint, now: u64) -> Vec<(String, u32)> {
    let desired = desired(&catalog(endpoint.clone()), Timestamp(now));
    desired.into_iter().map(|it| (it.fleet.to_string(), it.n_instances)).collect()
}

#[test]
fn a_new_endpoint_is_in_service_once_every_variant_has_its_instances() {
    let creating = endpoint("Creating", None, Some(deployment(0, &[("a", 2), ("b", 1)])));
    assert_eq!(next(&creating, seeing(&[("a", 2), ("b", 0)]), 10), None);
    assert_eq!(next(&creating, seeing(&[("a", 1), ("b", 1)]), 10), None);
    assert_eq!(next(&creating, seeing(&[("a", 2), ("b", 1)]), 10), Some(Step::Serve));

    let serving = after(&creating, &Step::Serve, 20);
    assert_eq!(serving.status, EndpointStatus::InService);
    assert_eq!((serving.pending, serving.retired), (None, Vec::new()));
    let active = serving.active.unwrap();
    assert!(active.variants.iter().all(|it| it.current_instances == it.n_instances));
}

#[test]
fn an_endpoint_whose_instances_do_not_come_up_fails_and_says_why() {
    let creating = endpoint("Creating", None, Some(deployment(0, &[("a", 2)])));
    let failing = |_: &FleetId| Seen { failure: Some("it crashed".to_owned()), ..Seen::default() };
    let Some(Step::Fail(reason)) = next(&creating, failing, 10) else { panic!("it fails") };
    assert!(reason.contains("variant-a") && reason.ends_with("it crashed"), "{reason}");

    assert_eq!(next(&creating, seeing(&[("a", 1)]), 4_999), None);
    let Some(Step::Fail(reason)) = next(&creating, seeing(&[("a", 1)]), 5_000) else { panic!() };
    assert!(reason.contains("did not pass the ping health check"), "{reason}");

    let failed = after(&creating, &Step::Fail(reason.clone()), 5_000);
    assert_eq!((failed.status, failed.failure_reason), (EndpointStatus::Failed, Some(reason)));
    // Its instances are drained after the grace.
    assert_eq!(fleets_of(&failed.retired[0]), ["a"]);
}

#[test]
fn a_pool_that_is_too_small_is_a_lack_of_capacity() {
    let creating = endpoint("Creating", None, Some(deployment(0, &[("a", 3)])));
    let step = |n, now| {
        let seen = seeing(if n == 2 { &[("a", 2)] } else { &[("a", 9)] });
        next_step(&creating, seen, Provision::Pooled, after_waiting(now), Timestamp(now))
    };
    assert_eq!(step(9, 0), Some(Step::Serve));
    assert_eq!(step(2, 4_999), None);
    let Some(Step::Fail(reason)) = step(2, 5_000) else { panic!("it fails") };
    assert!(reason.starts_with("CapacityError"), "{reason}");
    assert!(reason.contains("3 instances and 2 workers"), "{reason}");
}

#[test]
fn an_update_keeps_the_old_fleet_until_the_new_one_serves_and_for_a_moment_more() {
    let (old, new) = (deployment(0, &[("old", 1)]), deployment(100, &[("new", 3)]));
    let updating = endpoint("Updating", Some(old), Some(new));
    assert_eq!(desired_fleets(&updating, 200), [("new".to_owned(), 3), ("old".to_owned(), 1)]);
    assert_eq!(next(&updating, seeing(&[("old", 1), ("new", 2)]), 200), None);
    assert_eq!(next(&updating, seeing(&[("old", 1), ("new", 3)]), 200), Some(Step::Serve));

    let updated = after(&updating, &Step::Serve, 200);
    assert_eq!((updated.status, &*updated.config_name), (EndpointStatus::InService, "config-100"));
    assert_eq!(desired_fleets(&updated, 2_199), [("new".to_owned(), 3), ("old".to_owned(), 1)]);
    assert_eq!(desired_fleets(&updated, 2_200), [("new".to_owned(), 3)]);

    assert_eq!(next(&updated, seeing(&[("old", 0), ("new", 3)]), 2_200), None);
    let forget = next(&updated, seeing(&[("new", 3)]), 2_200).unwrap();
    assert_eq!(forget, Step::Forget(Timestamp(200)));
    assert_eq!(after(&updated, &forget, 2_300).retired, []);
}

#[test]
fn an_update_that_fails_leaves_what_served_before() {
    let (old, new) = (deployment(0, &[("old", 1)]), deployment(100, &[("new", 3)]));
    let updating = endpoint("Updating", Some(old.clone()), Some(new));
    let failed = after(&updating, &Step::Fail("no room".to_owned()), 200);
    assert_eq!((failed.status, &failed.active), (EndpointStatus::InService, &Some(old)));
    assert_eq!(failed.failure_reason.as_deref(), Some("no room"));
    assert_eq!(desired_fleets(&failed, 3_000), [("old".to_owned(), 1)]);
}

#[test]
fn a_change_of_capacity_keeps_the_fleet() {
    let (before, more) = (deployment(0, &[("a", 1)]), deployment(100, &[("a", 3)]));
    let updating = endpoint("Updating", Some(before), Some(more));
    assert_eq!(desired_fleets(&updating, 200), [("a".to_owned(), 3)]);
    assert_eq!(next(&updating, seeing(&[("a", 1)]), 200), None);
    let updated = after(&updating, &Step::Serve, 300);
    assert_eq!(updated.retired, []);
    assert_eq!(desired_fleets(&updated, 300), [("a".to_owned(), 3)]);

    let fewer = Endpoint { pending: Some(deployment(400, &[("a", 2)])), ..updated };
    assert_eq!(next(&fewer, seeing(&[("a", 3)]), 500), None, "one has yet to go");
    assert_eq!(next(&fewer, seeing(&[("a", 2)]), 500), Some(Step::Serve));
}

#[test]
fn a_deleted_endpoint_is_gone_when_nothing_of_it_runs() {
    let (old, new) = (deployment(0, &[("old", 1)]), deployment(100, &[("new", 3)]));
    let deleting = endpoint("Deleting", Some(old), Some(new));
    assert_eq!(desired_fleets(&deleting, 200), []);
    assert_eq!(next(&deleting, seeing(&[("new", 0)]), 200), None);
    assert_eq!(next(&deleting, seeing(&[]), 200), Some(Step::Remove));
    assert_eq!(Step::Remove.applied_to(&deleting, Timestamp(200)), None);
}

#[test]
fn what_reaches_a_worker_of_its_environment_is_allowed() {
    let creating = endpoint("Creating", None, Some(deployment(0, &[("a", 1)])));
    let desired = desired(&catalog(creating), Timestamp(0));
    assert_eq!(desired[0].environment, BTreeMap::from([("SAGEMAKER_X".into(), "1".into())]));
}

#[test]
fn a_container_has_all_of_its_environment() {
    let mut creating = endpoint("Creating", None, Some(deployment(0, &[("a", 1)])));
    let variant = &mut creating.pending.as_mut().unwrap().variants[0];
    (variant.image, variant.startup_timeout_s) = ("repo/own:1".to_owned(), Some(60));
    let environment = variant.environment.clone();
    let desired = desired(&catalog(creating), Timestamp(0));
    let container = ContainerDefinition {
        image: "repo/own:1".to_owned(),
        environment,
        startup_timeout_s: Some(60),
    };
    assert_eq!(desired[0].container, Some(container));
}

#[test]
fn models_that_another_endpoint_serves_are_kept() {
    let old = deployment(0, &[("a", 1), ("b", 1)]);
    let other = endpoint("InService", Some(deployment(0, &[("b", 1)])), None);
    assert_eq!(unserved(&old, &catalog(other)), ["s3://bucket/a/"]);
    let gone = endpoint("Deleting", Some(deployment(0, &[("b", 1)])), None);
    assert_eq!(unserved(&old, &catalog(gone)), ["s3://bucket/a/", "s3://bucket/b/"]);
}

#[test]
fn two_deployments_that_retire_in_the_same_moment_are_told_apart() {
    let mut updating =
        endpoint("Updating", Some(deployment(0, &[("a", 1)])), Some(deployment(1, &[("b", 1)])));
    updating.retired.push(deployment(200, &[("c", 1)]));
    let updated = after(&updating, &Step::Serve, 200);
    let names: Vec<u64> = updated.retired.iter().map(|it| it.started.0).collect();
    assert_eq!(names, [200, 201]);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_retired_fleet_for_ever() {
    let mut updated = endpoint("InService", Some(deployment(0, &[("new", 1)])), None);
    updated.retired.push(deployment(1_000_000, &[("old", 1)]));
    assert_eq!(desired_fleets(&updated, 500), [("new".to_owned(), 1)]);
    let step = next(&updated, seeing(&[("new", 1)]), 500);
    assert_eq!(step, Some(Step::Forget(Timestamp(1_000_000))));
}
