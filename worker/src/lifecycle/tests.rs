//! Coming and going, before a router that does what a test says.

use super::*;
use crate::actors::{
    heartbeat::HeartbeatParts,
    model_cache::fixture::{Fixture, MIB},
};
use actix_web::{App, HttpResponse, HttpServer, web};
use parking_lot::Mutex;
use shared::api::{error::ErrorKind, membership::Heartbeat as Report, residents::Rehome};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::yield_now,
};

const LONG: Duration = Duration::from_mins(1);

/// What a router shall answer, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    /// `None`: never.
    share: Option<Vec<Resident>>,
    /// With which status it answers for a model that is to be warm elsewhere; `None`: never.
    rehome_status: Option<fn(&str) -> u16>,
    /// How many reports it never answers before it does.
    n_late: AtomicUsize,
    reported: Mutex<Vec<InstanceState>>,
    rehomed: Mutex<Vec<String>>,
}

impl Script {
    fn rehoming(rehome_status: fn(&str) -> u16) -> Self {
        Self { rehome_status: Some(rehome_status), ..Self::default() }
    }

    fn reported(&self) -> Vec<InstanceState> {
        let mut states = self.reported.lock().clone();
        states.dedup();
        states
    }
}

async fn reported(script: web::Data<Script>, report: web::Json<Report>) -> HttpResponse {
    script.reported.lock().push(report.state);
    let is_late =
        script.n_late.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if is_late.is_ok() {
        future::pending::<()>().await;
    }
    HttpResponse::Ok().finish()
}

/// Starts two routers, and returns their URLs in the order in which they are asked.
fn routers(first: &Arc<Script>, second: &Arc<Script>) -> Vec<String> {
    // URLs are asked in their order, and whose port is which is chance.
    loop {
        let urls = vec![router(first), router(second)];
        if urls.is_sorted() {
            return urls;
        }
    }
}

/// Starts a router and returns its URL.
fn router(script: &Arc<Script>) -> String {
    let script = web::Data::from(Arc::clone(script));
    let server = HttpServer::new(move || {
        let instance = web::resource("/manifold/v1/instances/a")
            .put(reported)
            .delete(async || HttpResponse::NoContent().finish());
        App::new()
            .app_data(script.clone())
            .service(instance)
            .route("/manifold/v1/instances/a/share", web::get().to(share))
            .route("/manifold/v1/instances/a/rehome", web::post().to(rehome))
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

async fn share(script: web::Data<Script>) -> HttpResponse {
    match script.share.clone() {
        Some(models) => HttpResponse::Ok().json(Share { models }),
        None => future::pending().await,
    }
}

async fn rehome(script: web::Data<Script>, model: web::Json<Rehome>) -> HttpResponse {
    script.rehomed.lock().push(model.artifact.clone());
    let Some(status) = script.rehome_status else { return future::pending().await };
    let status = status(&model.artifact).try_into().unwrap();
    HttpResponse::build(status).json(Rehomed { instance: "b".parse().unwrap() })
}

async fn lifecycle(fixture: &Fixture, routers: Vec<String>) -> Lifecycle {
    let (_, routers) = watch::channel(routers.into_iter().collect::<BTreeSet<_>>());
    let parts = HeartbeatParts {
        routers: routers.clone(),
        registered: watch::Sender::default(),
        token: None,
        instance: "a".parse().unwrap(),
        fleet: None,
        address: "127.0.0.1:9".parse().unwrap(),
        boot_id: "boot".to_owned(),
        n_slots: 2,
        cache: fixture.cache.clone(),
    };
    let heartbeat = Heartbeat::spawn(parts, fixture.instance.supervisor()).await.unwrap();
    let routers = RouterClient::new(routers, "a".parse().unwrap(), None).unwrap();
    Lifecycle { heartbeat, cache: fixture.cache.clone(), routers }
}

fn resident(artifact: &ArtifactAddress) -> Resident {
    Resident {
        artifact: artifact.to_string(),
        resident_bytes: MIB,
        fast_millicores: 0,
        slow_millicores: 0,
        idle_ms: 0,
        serves_stale: false,
        is_bound: false,
    }
}

async fn refusal(fixture: &Fixture, model: &ArtifactAddress) -> Option<ErrorKind> {
    fixture.cache.acquire(model).await.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_joining_instance_loads_its_share_before_it_serves() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c"].map(|name| fixture.model(name));
    let broken = fixture.artifact("broken", "bad");
    let share = [&broken, &models[0], &models[1], &models[2]].map(resident).to_vec();
    let share = share.into_iter().map(|it| {
        let resident_bytes = if it.artifact.ends_with("broken") { 0 } else { it.resident_bytes };
        Resident { resident_bytes, ..it }
    });
    let script = Arc::new(Script { share: Some(share.collect()), ..Script::default() });
    let lifecycle = lifecycle(&fixture, vec![router(&script)]).await;

    lifecycle.enter(LONG).await;

    assert_eq!(script.reported(), [InstanceState::Joining, InstanceState::Serving]);
    // Of the budget of three, what comes first has two.
    let are_resident = models.each_ref().map(|model| fixture.is_resident(model));
    assert_eq!(are_resident, [true, true, false]);
    assert_eq!(fixture.n_loads(), 3, "each was tried once, the broken one too");
}

#[tokio::test]
async fn nobody_keeps_an_instance_from_joining() {
    let fixture = Fixture::new().await;
    let (mute, dead) = (Arc::new(Script::default()), "http://127.0.0.1:9".to_owned());
    let slow = lifecycle(&fixture, vec![router(&mute), dead.clone()]).await;
    slow.enter(Duration::from_millis(20)).await;
    assert_eq!(mute.reported(), [InstanceState::Joining, InstanceState::Serving]);

    // Without a router there is nothing to wait for.
    lifecycle(&fixture, vec![dead]).await.enter(LONG).await;
    lifecycle(&fixture, vec![]).await.enter(LONG).await;
}

#[tokio::test]
async fn a_router_that_is_late_with_its_answers_cancels_neither_joining_nor_leaving() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    let script = Script { share: Some(vec![resident(&model)]), ..Script::rehoming(|_| 200) };
    let script = Arc::new(Script { n_late: AtomicUsize::new(2), ..script });
    let lifecycle = lifecycle(&fixture, vec![router(&script)]).await;
    lifecycle.enter(LONG).await;
    assert!(fixture.is_resident(&model), "it has joined without its share");

    script.n_late.store(2, Ordering::SeqCst);
    lifecycle.hand_over(LONG).await;
    assert_eq!(*script.rehomed.lock(), [model.to_string()]);
}

#[tokio::test]
async fn a_mute_router_keeps_nobody_from_asking_the_next() {
    let fixture = Fixture::new().await;
    let models = ["a", "b"].map(|name| fixture.model(name));
    let mute = Arc::new(Script::default());
    let share = Some(models.iter().map(resident).collect());
    let healthy = Arc::new(Script { share, ..Script::rehoming(|_| 200) });
    let lifecycle = lifecycle(&fixture, routers(&mute, &healthy)).await;
    lifecycle.enter(LONG).await;
    assert!(models.iter().all(|model| fixture.is_resident(model)));

    lifecycle.hand_over(LONG).await;
    assert_eq!(healthy.rehomed.lock().len(), 2);
    assert!(mute.rehomed.lock().is_empty(), "who has answered last is asked first");
}

#[tokio::test]
async fn a_router_that_knows_nobody_yet_does_not_end_what_another_knows() {
    for fresh_status in [410, 404, 503] {
        let fresh = match fresh_status {
            410 => Script::rehoming(|_| 410),
            404 => Script::rehoming(|_| 404),
            _ => Script::rehoming(|_| 503),
        };
        let (fresh, healthy) = (Arc::new(fresh), Arc::new(Script::rehoming(|_| 200)));
        let dead = "http://127.0.0.1:1".to_owned();
        let urls = [vec![dead], routers(&fresh, &healthy)].concat();
        let fixture = Fixture::new().await;
        fixture.use_once(&fixture.model("b")).await;
        lifecycle(&fixture, urls).await.hand_over(LONG).await;
        assert_eq!(fresh.rehomed.lock().len(), 1, "{fresh_status}");
        assert_eq!(healthy.rehomed.lock().len(), 1, "{fresh_status}");
    }
}

#[tokio::test]
async fn one_broken_connection_does_not_end_the_hand_over() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c"].map(|name| fixture.model(name));
    for model in &models {
        fixture.use_once(model).await;
    }
    let script = Arc::new(Script::rehoming(|_| 200));
    let url = breaking_first_post(&router(&script)).await;
    lifecycle(&fixture, vec![url]).await.hand_over(LONG).await;
    let rehomed: BTreeSet<_> = script.rehomed.lock().iter().cloned().collect();
    assert_eq!(rehomed, models.iter().map(ToString::to_string).collect());
}

/// Starts what forwards to a router, and closes the first connection that begins with a POST.
async fn breaking_first_post(url: &str) -> String {
    let router = url.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let has_broken = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (router, has_broken) = (router.clone(), Arc::clone(&has_broken));
            // Each in a task: a client may keep a connection for later.
            tokio::spawn(async move {
                let mut begin = [0; 4];
                let is_post = client.peek(&mut begin).await.is_ok() && begin == *b"POST";
                if !is_post || has_broken.swap(true, Ordering::SeqCst) {
                    let mut router = TcpStream::connect(&router).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut router).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_leaving_instance_hands_its_models_over_and_sends_their_invocations_there() {
    let fixture = Fixture::new().await;
    let (a, b, pinned) = (fixture.model("a"), fixture.model("b"), fixture.model("pinned"));
    fixture.use_once(&a).await;
    fixture.use_once(&b).await;
    let _pin = fixture.cache.acquire(&pinned).await.unwrap().lease.pin().unwrap();
    let script = Arc::new(Script::rehoming(|_| 200));
    let lifecycle = lifecycle(&fixture, vec![router(&script)]).await;

    lifecycle.hand_over(LONG).await;

    // What was used last comes first.
    assert_eq!(*script.rehomed.lock(), [b.to_string(), a.to_string()]);
    assert_eq!(script.reported().last(), Some(&InstanceState::Draining));
    for model in [&a, &b] {
        while refusal(&fixture, model).await != Some(ErrorKind::Draining) {
            yield_now().await;
        }
    }
    assert!(fixture.is_resident(&pinned));
    assert_eq!(refusal(&fixture, &fixture.model("absent")).await, Some(ErrorKind::Draining));
}

#[tokio::test]
async fn a_model_that_nobody_takes_is_served_on_and_does_not_keep_the_others() {
    let fixture = Fixture::new().await;
    let (a, stays) = (fixture.model("a"), fixture.model("stays"));
    fixture.use_once(&a).await;
    fixture.use_once(&stays).await;
    let script =
        Arc::new(Script::rehoming(|model| if model.ends_with("stays") { 502 } else { 200 }));
    let lifecycle = lifecycle(&fixture, vec![router(&script)]).await;

    lifecycle.hand_over(LONG).await;

    assert_eq!(script.rehomed.lock().len(), 2);
    assert_eq!(refusal(&fixture, &stays).await, None);
    while fixture.is_resident(&a) {
        yield_now().await;
    }
}

#[tokio::test]
async fn whoever_has_nobody_to_hand_over_to_leaves_at_once() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c"].map(|name| fixture.model(name));
    for model in &models {
        fixture.use_once(model).await;
    }
    let nowhere = Arc::new(Script::rehoming(|_| 410));
    let dead = "http://127.0.0.1:9".to_owned();
    // The first router that can be reached is asked.
    let last = lifecycle(&fixture, vec![dead.clone(), router(&nowhere)]).await;
    last.hand_over(LONG).await;
    assert!(!nowhere.rehomed.lock().is_empty());
    assert!(models.iter().all(|model| fixture.is_resident(model)));

    lifecycle(&fixture, vec![dead]).await.hand_over(LONG).await;
    lifecycle(&fixture, vec![]).await.hand_over(LONG).await;
}

#[tokio::test]
async fn a_router_that_does_not_answer_keeps_an_instance_for_its_time_alone() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    fixture.use_once(&model).await;
    let script = Arc::new(Script::default());
    let lifecycle = lifecycle(&fixture, vec![router(&script)]).await;
    lifecycle.hand_over(Duration::from_millis(50)).await;
    assert_eq!(refusal(&fixture, &model).await, None);
}
