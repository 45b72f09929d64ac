//! A worker of a cluster obeys those who show the cluster's token, on every route.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests too: a panic fails the test, and says where"
)]

use clap::Parser as _;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use worker::{app::App, config::Config};

const TOKEN: &str = "the-token-of-this-cluster";
const OLD: &str = "the-token-of-yesterday";
const HEADER: &str = "x-manifold-cluster-token";

/// Where every route of the worker is named.
const ROUTES: &str = include_str!("../src/http.rs");

/// How long a changed file may go unnoticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The worker shares the test's cores: asked without a pause it gets to nothing else.
const POLL: Duration = Duration::from_millis(20);

struct Worker {
    url: String,
    client: Client,
    folder: TempDir,
}

fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, path).unwrap();
}

impl Worker {
    async fn start(flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let [token, cache, models] = ["token", "cache", "models"].map(|it| folder.path().join(it));
        write(&token, TOKEN);
        fs::create_dir(&models).unwrap();
        let own = ["manifold-worker", "--cluster-token-file", token.to_str().unwrap()];
        let places =
            ["--file-root", models.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()];
        let arguments = own.iter().chain(&places).chain(flags);
        let app = App::build(Config::parse_from(arguments).validate().unwrap()).await.unwrap();
        let url = format!("http://127.0.0.1:{}", app.address().port());
        tokio::spawn(app.run());
        Self { url, client: Client::new(), folder }
    }

    fn exchange(&self, tokens: &str) {
        write(&self.folder.path().join("token"), tokens);
    }

    async fn call(&self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut call = self.client.request(method.clone(), format!("{}{path}", self.url));
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        call.send().await.unwrap()
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        self.call(&Method::GET, path, &[(HEADER, token)]).await.status().as_u16()
    }
}

/// Every path that the route table names, with names in it, and some that it does not.
fn paths() -> Vec<String> {
    let (_, rest) = ROUTES.split_once("pub fn routes(").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let texts = body.split('"').skip(1).step_by(2).filter(|it| it.starts_with('/'));
    let unnamed = ["/", "/manifold/v1/new", "/ping/x", "/models/a/b"];
    texts.chain(unnamed).map(|it| it.replace("{name}", "a")).collect()
}

async fn check_strangers(worker: &Worker) {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
    let authorization = format!("Bearer {OLD}");
    for path in paths().iter().filter(|it| *it != "/ping") {
        for method in &methods {
            for headers in [
                &[][..],
                &[(HEADER, "")],
                &[(HEADER, OLD)],
                &[(HEADER, &TOKEN[1..])],
                &[("authorization", &authorization)],
                &[("authorization", TOKEN)],
            ] {
                let answer = worker.call(method, path, headers).await;
                assert_eq!(answer.status(), 401, "{method} {path} {headers:?}");
                assert_eq!(answer.headers()["x-manifold-error"], "untrusted");
                assert_eq!(answer.headers()["www-authenticate"], "Bearer");
                let body: Value = answer.json().await.unwrap();
                assert_eq!(body["type"], "untrusted");
                assert!(!body.to_string().contains(TOKEN));
            }
            let right = worker.call(method, path, &[(HEADER, TOKEN)]).await;
            assert_ne!(right.status(), 401, "{method} {path}");
        }
    }
    let ping = worker.call(&Method::GET, "/ping", &[]).await;
    assert_eq!(ping.status(), 200);
}

#[tokio::test]
async fn every_route_but_ping_is_for_bearers_alone() {
    assert!(paths().len() >= 8, "{:?}", paths());
    check_strangers(&Worker::start(&["--bind", "127.0.0.1:0"]).await).await;
}

#[tokio::test]
async fn a_token_opens_a_worker_beyond_loopback_to_its_bearers() {
    let worker = Worker::start(&["--bind", "0.0.0.0:0"]).await;
    check_strangers(&worker).await;
    let no_artifact = worker.call(&Method::POST, "/invocations", &[(HEADER, TOKEN)]).await;
    let text = no_artifact.text().await.unwrap();
    assert!(text.contains("x-manifold-artifact"), "it is served by address: {text}");
}

#[tokio::test]
async fn a_platform_that_has_a_token_for_its_port_must_show_it() {
    check_strangers(&Worker::start(&["--sagemaker-bind-to-port", "0"]).await).await;
}

#[tokio::test]
async fn an_exchanged_token_counts_and_a_broken_file_does_not() {
    let worker = Worker::start(&["--bind", "127.0.0.1:0"]).await;
    let new = "the-token-of-tomorrow";
    worker.exchange("");
    worker.exchange(&format!("{TOKEN}\n{new}"));
    until(async || worker.status("/metrics", new).await == 200).await;
    assert_eq!(worker.status("/metrics", TOKEN).await, 200);
    worker.exchange(new);
    until(async || worker.status("/metrics", TOKEN).await == 401).await;
    assert_eq!(worker.status("/metrics", new).await, 200);
}

async fn until<F: AsyncFnMut() -> bool>(mut condition: F) {
    let began = SystemTime::now();
    while !condition().await {
        assert!(began.elapsed().unwrap() < PATIENCE);
        tokio::time::sleep(POLL).await;
    }
}
