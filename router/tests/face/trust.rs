//! Who is believed to be of the cluster: on every listener, for every route that is not for clients.

use crate::{
    instance::{Act, Instance, ok, refusal},
    router::{Response, Router, eventually},
};
use shared::api::error::ErrorKind;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

const TOKEN: &str = "the-token-of-this-cluster";
const OLD: &str = "the-token-of-yesterday";
const HEADER: &str = "x-manifold-cluster-token";

/// Where every route of the router is named.
const ROUTES: &str = include_str!("../../src/http.rs");

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

const CREDENTIALS: &str =
    "[[credential]]\naccess_key_id = \"AKIA\"\nsecret_access_key = \"hush\"\n";

fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("writable");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("writable");
    fs::rename(draft, path).expect("writable");
}

/// A router with a token.
struct Trusting {
    router: Router,
    folder: tempfile::TempDir,
}

impl Trusting {
    async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(&folder.path().join("token"), TOKEN);
        write(&folder.path().join("credentials.toml"), CREDENTIALS);
        let [token, credentials] =
            ["token", "credentials.toml"].map(|it| folder.path().join(it).display().to_string());
        let flags = flags.iter().map(|it| if *it == "CREDENTIALS" { &*credentials } else { *it });
        let flags: Vec<_> = ["--cluster-token-file", &*token].into_iter().chain(flags).collect();
        Self { router: Router::start(&flags).await, folder }
    }

    fn exchange(&self, tokens: &str) {
        write(&self.folder.path().join("token"), tokens);
    }

    /// Registers an instance, and waits until it is in service.
    async fn register(&self, instance: &Instance) {
        let beat = heartbeat(&self.router, instance, &by_header(TOKEN)).await;
        assert_eq!(beat.status, 200, "{beat:?}");
        let in_ring = "router_ring_instances 1";
        let metrics =
            async || self.router.send("GET /metrics", &by_header(TOKEN), b"").await.text();
        eventually(async || metrics().await.contains(in_ring)).await;
    }
}

fn by_header(token: &str) -> String {
    format!("{HEADER}: {token}\r\n")
}

fn by_authorization(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

async fn heartbeat(router: &Router, instance: &Instance, headers: &str) -> Response {
    let body = serde_json::json!({
        "instance": instance.id, "address": instance.address, "boot_id": "1", "state": "serving",
        "budget_bytes": 1 << 30, "resident_bytes": 0, "n_resident": 0, "n_in_flight": 0,
        "n_slots": 1,
    });
    let request = format!("PUT /manifold/v1/instances/{}", instance.id);
    router.send(&request, headers, body.to_string().as_bytes()).await
}

/// The paths that a function of the route table names.
fn paths_of(function: &str) -> Vec<String> {
    let (_, rest) = ROUTES.split_once(&format!("fn {function}(")).expect("the function is there");
    let (body, _) = rest.split_once("\n}\n").expect("it has an end");
    let texts = body.split('"').skip(1).step_by(2).filter(|it| it.starts_with('/'));
    texts.map(str::to_owned).collect()
}

/// Every path that is for the cluster alone, with names in it.
fn cluster_paths() -> Vec<String> {
    let neighbours = paths_of("neighbours").into_iter().map(|it| format!("/manifold{it}"));
    let paths: Vec<_> = neighbours.chain(["/metrics".to_owned()]).collect();
    let named = paths.iter().map(|path| {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "a" } else { part });
        parts.collect::<Vec<_>>().join("/")
    });
    // What is not there (yet) is no less protected.
    named.chain(["/manifold".to_owned(), "/manifold/v1/new".to_owned()]).collect()
}

#[test]
fn every_route_is_for_clients_for_the_cluster_or_open() {
    assert_eq!(paths_of("routes"), ["/metrics", "/manifold", "/manifold", "/ping"]);
    assert!(paths_of("clients").iter().all(|it| it.starts_with("/endpoints/")));
    assert!(paths_of("neighbours").len() >= 3, "{:?}", paths_of("neighbours"));
    let all = ROUTES.split("route(\"").skip(1).count();
    let known: usize = ["clients", "neighbours"].iter().map(|it| paths_of(it).len()).sum();
    assert_eq!(all, known + 2, "a route is named outside of these functions");
}

#[actix_web::test]
async fn what_is_for_the_cluster_is_for_bearers_alone_on_every_listener() {
    let internal = ["--internal-listen", "127.0.0.1:0"];
    for flags in [&[][..], &["--credentials", "CREDENTIALS"], &internal] {
        let trusting = Trusting::start(flags).await;
        let address = trusting.router.internal_address.unwrap_or(trusting.router.address);
        let listener = Router::of_process(address);
        for path in cluster_paths() {
            for method in METHODS {
                check_strangers(&listener, &format!("{method} {path}")).await;
                for right in [by_header(TOKEN), by_authorization(TOKEN)] {
                    let answer = listener.send(&format!("{method} {path}"), &right, b"").await;
                    assert_ne!(answer.status, 401, "{flags:?} {method} {path}");
                }
            }
        }
        assert_eq!(listener.send("GET /ping", "", b"").await.status, 200);
        let listed = listener.send("GET /manifold/v1/instances", &by_header(TOKEN), b"").await;
        assert_eq!(listed.status, 200, "{flags:?}");
    }
}

async fn check_strangers(listener: &Router, request: &str) {
    let missing = "MissingAuthenticationTokenException";
    let wrong = "UnrecognizedClientException";
    let prefix = &TOKEN[..TOKEN.len() - 1];
    for (headers, name) in [
        (String::new(), missing),
        ("authorization: Basic eDp5\r\n".to_owned(), missing),
        (by_header(""), wrong),
        (by_header(OLD), wrong),
        (by_header(prefix), wrong),
        (by_authorization(OLD), wrong),
        // What a proxy adds makes nobody more trustworthy, nor does a peer that is this machine.
        (format!("x-forwarded-for: 127.0.0.1\r\n{}", by_header(OLD)), wrong),
    ] {
        let answer = listener.send(request, &headers, b"{}").await;
        assert_eq!(answer.status, 401, "{request} {headers:?}");
        assert_eq!(answer.header("x-amzn-errortype"), Some(name), "{request} {headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!format!("{answer:?}").contains(TOKEN) && !answer.text().contains(OLD));
    }
}

#[actix_web::test]
async fn clients_need_no_token_and_find_nothing_of_the_cluster_on_their_own_listener() {
    let trusting = Trusting::start(&["--internal-listen", "127.0.0.1:0"]).await;
    for path in cluster_paths() {
        for headers in [String::new(), by_header(TOKEN)] {
            let answer = trusting.router.send(&format!("GET {path}"), &headers, b"").await;
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    let answer = trusting.router.invoke("m", b"").await;
    assert_eq!(answer.status, 503, "no instance is there, and nothing else is amiss: {answer:?}");
}

#[actix_web::test]
async fn instances_are_shown_the_clusters_token_and_never_a_clients() {
    let instance = Instance::answering("a", Act::Send(ok("", "served"))).await;
    let trusting = Trusting::start(&[]).await;
    trusting.register(&instance).await;
    let invoke = "POST /endpoints/demo/invocations";
    let model = "x-amzn-sagemaker-target-model: m\r\n";
    let with_own = format!("{model}{}", by_header("a-token-of-the-client"));
    assert_eq!(trusting.router.send(invoke, &with_own, b"").await.status, 200);
    assert_eq!(instance.received()[0].header(HEADER), Some(TOKEN));

    let other = Instance::answering("b", Act::Send(ok("", "served"))).await;
    let router = Router::with(&[], &[&other]).await;
    assert_eq!(router.send(invoke, &with_own, b"").await.status, 200);
    assert_eq!(other.received()[0].header(HEADER), None);
}

#[actix_web::test]
async fn an_exchanged_token_counts_and_a_broken_file_does_not() {
    let instance = Instance::answering("a", Act::Send(ok("", "served"))).await;
    let trusting = Trusting::start(&[]).await;
    trusting.register(&instance).await;
    let router = &trusting.router;
    let status =
        async |token: &str| router.send("GET /metrics", &by_header(token), b"").await.status;
    let new = "the-token-of-tomorrow";
    trusting.exchange("short");
    trusting.exchange(&format!("{TOKEN}\n{new}\n"));
    eventually(async || status(new).await == 200).await;
    assert_eq!(status(TOKEN).await, 200);
    // Not yet sent: others may not know it.
    assert_eq!(router.invoke("m", b"").await.status, 200);
    assert_eq!(instance.received()[0].header(HEADER), Some(TOKEN));
    trusting.exchange(new);
    eventually(async || status(TOKEN).await == 401).await;
    assert_eq!(status(new).await, 200);
    assert_eq!(router.invoke("m", b"").await.status, 200);
    assert_eq!(instance.received()[1].header(HEADER), Some(new));
}

#[actix_web::test]
async fn an_instance_that_does_not_take_our_token_costs_no_invocation() {
    let untrusting = Act::Send(refusal(ErrorKind::Untrusted, "this call is for the cluster alone"));
    let (first, second) = (
        Instance::answering("a", untrusting).await,
        Instance::answering("b", Act::Send(ok("", "served"))).await,
    );
    let router = Router::with(&[], &[&first, &second]).await;
    let model = crate::router::model_preferring(&first, &[&first, &second]);
    let answer = router.invoke(&model, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "served"));
    assert_eq!(first.received().len(), 1);
}
