//! What is sent again, where, and what never is.

use crate::{
    instance::{Act, Instance, ok, refusal},
    router::{Router, eventually, model_preferring},
};
use shared::api::error::ErrorKind;
use std::{convert::Infallible, time::Duration};
use tokio::time::interval;

const BUSY: &str = "The service is unable to handle the request now. Please try again.";

/// A router before two instances, and a model that prefers the first.
async fn before(flags: &[&str], first: &Instance, second: &Instance) -> (Router, String) {
    let router = Router::with(flags, &[first, second]).await;
    let model = model_preferring(first, &[first, second]);
    (router, model)
}

async fn well(id: &str) -> Instance {
    Instance::answering(id, Act::Send(ok("", id))).await
}

#[actix_web::test]
async fn the_death_of_an_instance_costs_no_invocation_and_takes_it_out() {
    let (dying, other) = (Instance::answering("a", Act::Die).await, well("b").await);
    let (router, model) = before(&[], &dying, &other).await;
    let answer = router.invoke(&model, b"body").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
    assert_eq!(answer.header("x-manifold-instance"), Some("b"));
    assert_eq!(other.received()[0].body, b"body");
    eventually(async || router.n_in_service().await == 1).await;
    let metrics = router.metrics().await;
    assert!(metrics.contains(r#"router_instance_losses_total{reason="probe"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"router_retries_total{reason="died"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"router_retries_total{reason="connect"} 1"#), "{metrics}");
}

#[actix_web::test]
async fn a_connection_that_closes_is_tried_again_at_the_same_instance() {
    let closes_once = |n| match n {
        0 => Act::SendAndClose(Vec::new()),
        _ => Act::Send(ok("", "a")),
    };
    let (first, other) = (Instance::start("a", closes_once).await, well("b").await);
    let (router, model) = before(&[], &first, &other).await;
    assert_eq!(router.invoke(&model, b"").await.text(), "a");
    assert!(other.received().is_empty());
    assert_eq!(router.n_in_service().await, 2);
}

#[actix_web::test]
async fn half_a_head_is_no_head() {
    let half = Act::SendAndClose(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec());
    let (first, other) = (Instance::answering("a", half).await, well("b").await);
    let (router, model) = before(&[], &first, &other).await;
    assert_eq!(router.invoke(&model, b"").await.text(), "b");
    assert_eq!(first.received().len(), 2);
}

/// "Try again" would make the client kill two more.
#[actix_web::test]
async fn an_invocation_that_kills_two_instances_is_not_to_be_tried_again() {
    let (first, second) =
        (Instance::answering("a", Act::Die).await, Instance::answering("b", Act::Die).await);
    let (router, model) = before(&[], &first, &second).await;
    let answer = router.invoke(&model, b"").await;
    let no_hint = answer.header("x-amz-retry-after");
    assert_eq!((answer.status, no_hint), (424, None), "{answer:?}");
    assert_eq!(answer.json()["OriginalStatusCode"], 0);
    let text = answer.json()["OriginalMessage"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Amazon SageMaker could not get a response from the demo"), "{text}");
}

/// Its machine may have lost power or its network: no connection closes then.
#[actix_web::test]
async fn an_instance_that_is_lost_without_a_word_costs_no_invocation() {
    let held = Act::Hold(ok("", "too late"));
    let (silent, other) = (Instance::answering("a", held).await, well("b").await);
    let router = Router::with(&["--lease-ms", "1500"], &[&silent, &other]).await;
    let model = model_preferring(&silent, &[&silent, &other]);
    let answer = tokio::select! {
        answer = router.invoke(&model, b"") => answer,
        never = keep_alive(&router, &silent, &other) => match never {},
    };
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
    assert_eq!(silent.received().len(), 1);
    let metrics = router.metrics().await;
    assert!(metrics.contains(r#"router_retries_total{reason="lost"} 1"#), "{metrics}");
}

/// Sends heartbeats: of `other` all the time, of `silent` until it has an invocation.
async fn keep_alive(router: &Router, silent: &Instance, other: &Instance) -> Infallible {
    let mut beats = interval(Duration::from_millis(100));
    loop {
        beats.tick().await;
        router.heartbeat(&other.id, other.address, "serving").await;
        if silent.received().is_empty() {
            router.heartbeat(&silent.id, silent.address, "serving").await;
        }
    }
}

#[actix_web::test]
async fn an_instance_that_is_silent_until_the_deadline_is_probed() {
    let (frozen, other) = (Instance::answering("a", Act::Freeze).await, well("b").await);
    let flags = ["--deadline-ms", "150", "--deadline-margin-ms", "50"];
    let (router, model) = before(&flags, &frozen, &other).await;
    assert_eq!(router.invoke(&model, b"").await.status, 424);
    assert!(other.received().is_empty());
    eventually(async || router.n_in_service().await == 1).await;
    let answer = router.invoke(&model, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
}

#[actix_web::test]
async fn a_variant_may_forbid_repeats() {
    let (dying, other) = (Instance::answering("a", Act::Die).await, well("b").await);
    let (router, model) = before(&[], &dying, &other).await;
    let answer = router.invoke_endpoint("once", &model, b"").await;
    assert_eq!(answer.status, 424);
    assert_eq!(answer.json()["OriginalStatusCode"], 0);
    assert!(other.received().is_empty());

    // What surely did not begin may go elsewhere even so.
    let answer = router.invoke_endpoint("once", &model, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "b"));
}

#[actix_web::test]
async fn what_another_instance_may_answer_goes_there() {
    for kind in ErrorKind::ALL {
        let refusing = Instance::answering("a", Act::Send(refusal(kind, "no"))).await;
        let other = well("b").await;
        let (router, model) = before(&[], &refusing, &other).await;
        let answer = router.invoke(&model, b"").await;
        let expected = usize::from(kind.is_worth_another_instance());
        assert_eq!(other.received().len(), expected, "{kind}");
        assert_eq!(answer.status == 200, kind.is_worth_another_instance(), "{kind}");
        assert_eq!(refusing.received().len(), 1, "{kind}");
        assert_eq!(router.n_in_service().await, 2, "{kind}");
    }
}

#[actix_web::test]
async fn where_all_are_busy_the_client_is_asked_to_come_back() {
    let overloaded = Act::Send(refusal(ErrorKind::Overloaded, "queue is full"));
    let (first, second) = (
        Instance::answering("a", overloaded.clone()).await,
        Instance::answering("b", overloaded).await,
    );
    let (router, model) = before(&["--retry-after-ms", "700"], &first, &second).await;
    let answer = router.invoke(&model, b"").await;
    answer.check_error(503, "ServiceUnavailable", BUSY);
    assert_eq!(answer.header("x-amz-retry-after"), Some("700"));
}

#[actix_web::test]
async fn a_model_that_fits_nowhere_is_a_model_error() {
    let full = Act::Send(refusal(ErrorKind::InsufficientMemory, "needs 9 GB"));
    let (first, second) =
        (Instance::answering("a", full.clone()).await, Instance::answering("b", full).await);
    let (router, model) = before(&[], &first, &second).await;
    let answer = router.invoke(&model, b"").await;
    assert_eq!(answer.status, 424);
    assert_eq!(answer.json()["OriginalStatusCode"], 507);
    assert_eq!(answer.json()["OriginalMessage"], "needs 9 GB");
}

/// Another instance may have room: nobody asked it.
#[actix_web::test]
async fn a_model_that_was_not_offered_to_every_instance_may_still_fit() {
    let full =
        || Instance::answering("a", Act::Send(refusal(ErrorKind::InsufficientMemory, "9 GB")));
    let no_retries = ["--retry-burst", "0", "--retry-percent", "0", "--retry-per-second", "0"];
    for flags in [&no_retries[..], &["--max-tries", "1"]] {
        let (first, other) = (full().await, well("b").await);
        let (router, model) = before(flags, &first, &other).await;
        let answer = router.invoke(&model, b"").await;
        answer.check_error(503, "ServiceUnavailable", BUSY);
        assert!(other.received().is_empty());
    }
    // The last try is also the last instance.
    let first = full().await;
    let router = Router::with(&["--max-tries", "1"], &[&first]).await;
    assert_eq!(router.invoke("m", b"").await.status, 424);
}

#[actix_web::test]
async fn a_model_that_still_loads_is_left_where_it_loads() {
    let loading = Act::Send(refusal(ErrorKind::StillLoading, "loading"));
    let (first, other) = (Instance::answering("a", loading).await, well("b").await);
    let (router, model) = before(&[], &first, &other).await;
    let answer = router.invoke(&model, b"").await;
    let text = "The model is still being downloaded or loaded. Please try again.";
    answer.check_error(503, "ServiceUnavailable", text);
    assert_eq!(answer.header("x-amz-retry-after"), Some("1000"));
    assert!(other.received().is_empty());
}

#[actix_web::test]
async fn aws_own_answer_for_a_loading_model_is_a_flag_away() {
    let loading = Act::Send(refusal(ErrorKind::StillLoading, "loading"));
    let first = Instance::answering("a", loading).await;
    let router = Router::with(&["--answer-model-not-ready"], &[&first]).await;
    let answer = router.invoke("m", b"").await;
    let text = "The model is still being downloaded or loaded. Please try again.";
    answer.check_error(429, "ModelNotReadyException", text);
    assert_eq!(answer.header("x-amz-retry-after"), None);
}

#[actix_web::test]
async fn an_invocation_that_takes_too_long_is_not_repeated() {
    let (hung, other) = (Instance::answering("a", Act::Hang).await, well("b").await);
    let flags = ["--deadline-ms", "150", "--deadline-margin-ms", "50"];
    let (router, model) = before(&flags, &hung, &other).await;
    let answer = router.invoke(&model, b"").await;
    assert_eq!(answer.status, 424);
    assert_eq!(answer.json()["OriginalStatusCode"], 0);
    let text = answer.json()["OriginalMessage"].as_str().unwrap().to_owned();
    assert!(text.starts_with("Your invocation timed out while waiting for a response"), "{text}");
    assert!(other.received().is_empty());
    // The instance was told to answer earlier, and the connection is not kept.
    let patience_ms: u64 =
        hung.received()[0].header("x-manifold-deadline-ms").unwrap().parse().unwrap();
    assert!((1..=100).contains(&patience_ms), "{patience_ms}");
    eventually(async || hung.n_abandoned() == 1).await;
}

#[actix_web::test]
async fn without_a_retry_in_the_budget_nothing_is_sent_again() {
    let overloaded = Act::Send(refusal(ErrorKind::Overloaded, "full"));
    let (first, other) = (Instance::answering("a", overloaded).await, well("b").await);
    let flags = ["--retry-burst", "1", "--retry-percent", "0", "--retry-per-second", "0"];
    let (router, model) = before(&flags, &first, &other).await;
    assert_eq!(router.invoke(&model, b"").await.text(), "b");
    router.invoke(&model, b"").await.check_error(503, "ServiceUnavailable", BUSY);
    assert_eq!(other.received().len(), 1);
}

#[actix_web::test]
async fn an_answer_that_is_not_http_is_not_repeated() {
    let garbled = Act::SendAndClose(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec());
    let (first, other) = (Instance::answering("a", garbled).await, well("b").await);
    let (router, model) = before(&[], &first, &other).await;
    let answer = router.invoke(&model, b"").await;
    assert_eq!((answer.status, &answer.json()["OriginalStatusCode"]), (424, &0.into()));
    assert!(other.received().is_empty());
}

#[actix_web::test]
async fn where_nobody_serves_the_client_is_asked_to_come_back() {
    let router = Router::start(&[]).await;
    let answer = router.invoke("m", b"").await;
    let text = "No instance of the endpoint is in service.";
    answer.check_error(503, "ServiceUnavailable", text);
    assert_eq!(answer.header("x-amz-retry-after"), Some("1000"));
}

#[actix_web::test]
async fn a_worker_that_redirects_is_not_followed() {
    let elsewhere = crate::instance::answer(302, "location: http://127.0.0.1:1/\r\n", "");
    let first = Instance::answering("a", Act::Send(elsewhere)).await;
    let router = Router::with(&[], &[&first]).await;
    let answer = router.invoke("m", b"").await;
    assert_eq!((answer.status, &answer.json()["OriginalStatusCode"]), (424, &302.into()));
}
