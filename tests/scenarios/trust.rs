//! Processes of one cluster know each other by its token, also while it is exchanged.

use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tests::{Cluster, Launcher, SteadyLoad, eventually};

const OLD: &str = "old-token-0123456789abcdef";
const NEW: &str = "new-token-fedcba9876543210";
const HEADER: &str = "x-manifold-cluster-token";

/// The files of a cluster's token, which may differ.
struct Files {
    of_router: PathBuf,
    of_workers: PathBuf,
    _folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [of_router, of_workers] = ["router", "workers"].map(|it| folder.path().join(it));
        let files = Self { of_router, of_workers, _folder: folder };
        files.say(OLD);
        files
    }

    fn say(&self, tokens: &str) {
        write(&self.of_router, tokens);
        write(&self.of_workers, tokens);
    }
}

fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("writable");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("writable");
    fs::rename(draft, path).expect("writable");
}

async fn status(url: &str, token: Option<&str>) -> StatusCode {
    let request = Client::new().get(url);
    let request = token.into_iter().fold(request, |request, it| request.header(HEADER, it));
    request.send().await.expect("an answer").status()
}

/// By the new token, whatever the cluster's own client has read.
async fn n_in_service(router_url: &str) -> usize {
    let request = Client::new().get(format!("{router_url}/manifold/v1/instances"));
    let answer = request.header(HEADER, NEW).send().await.expect("an answer");
    let instances: Vec<Value> = answer.json().await.expect("a list");
    instances.iter().filter(|it| it["in_service"] == true).count()
}

/// The metrics of every process: what is for the cluster alone.
async fn guarded(cluster: &Cluster) -> Vec<String> {
    let workers = [cluster.worker(0).url().await, cluster.worker(1).url().await];
    let urls = workers.into_iter().chain([cluster.client().router_url().to_owned()]);
    urls.map(|it| format!("{it}/metrics")).collect()
}

#[tokio::test]
async fn a_token_is_exchanged_under_load_and_nothing_fails() {
    let files = Files::new();
    let builder = Cluster::builder().workers(2).token_files(&files.of_router, &files.of_workers);
    let cluster = builder.start().await;
    let models = cluster.publish_echo_models(4).await;
    let load = SteadyLoad::start(cluster.client(), &models, 2);
    let processes = guarded(&cluster).await;
    for (tokens, n_read) in [
        (format!("{OLD}\n{NEW}"), processes.len()),
        (format!("{NEW}\n{OLD}"), 2 * processes.len()),
        (NEW.to_owned(), 3 * processes.len()),
    ] {
        files.say(&tokens);
        eventually(async || cluster.logs().matches("read again").count() == n_read).await;
        let n_before = load.n_answered();
        eventually(async || load.n_answered() > n_before + 100).await;
    }
    assert_eq!(load.end().await, [""; 0]);
    for url in &processes {
        assert_eq!(status(url, None).await, 401, "{url}");
        assert_eq!(status(url, Some(OLD)).await, 401, "{url}");
        assert_eq!(status(url, Some(NEW)).await, 200, "{url}");
        assert_eq!(status(&url.replace("/metrics", "/ping"), None).await, 200, "{url}");
    }
    // Heartbeats have gone on, too.
    eventually(async || n_in_service(cluster.client().router_url()).await == 2).await;
    let logs = cluster.logs();
    assert!(!logs.contains(OLD) && !logs.contains(NEW), "{logs}");
    assert_eq!(logs.matches("logged once for each peer").count(), processes.len(), "{logs}");
}

#[tokio::test]
async fn a_worker_whose_token_is_old_says_so_once_and_comes_back_with_the_right_one() {
    let files = Files::new();
    let builder = Cluster::builder().token_files(&files.of_router, &files.of_workers);
    let cluster = builder.start().await;
    let model = &cluster.publish_echo_models(1).await[0];
    assert_eq!(cluster.client().invoke(model, b"").await.status, 200);

    write(&files.of_router, NEW);
    eventually(async || cluster.worker_log(0).contains("see --cluster-token-file")).await;
    let router = format!("{}/metrics", cluster.client().router_url());
    eventually(async || status(&router, Some(NEW)).await == 200).await;
    // It lives, and is told from one that does not: nothing fails but what it refuses.
    eventually(async || cluster.client().invoke(model, b"").await.status == 503).await;
    cluster.client().invoke(model, b"").await.expect_error(503, "ServiceUnavailable");

    write(&files.of_workers, NEW);
    eventually(async || cluster.client().invoke(model, b"").await.status == 200).await;
    let log = cluster.worker_log(0);
    assert_eq!(log.matches("router does not take reports").count(), 1, "{log}");
    let logs = cluster.logs();
    assert!(!logs.contains(OLD) && !logs.contains(NEW), "{logs}");
}

#[tokio::test]
async fn manifold_up_with_credentials_lets_nobody_past_the_router_to_its_workers() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials.toml");
    write(&credentials, "[[credential]]\naccess_key_id = \"AK\"\nsecret_access_key = \"hush\"\n");
    let path = credentials.display().to_string();
    let flags = ["up", "--no-models", "--exit-with-parent", "--listen", "127.0.0.1:0"];
    let flags = [&flags[..], &["--workers", "1", "--credentials", &path]].concat();
    let mut launcher = Launcher::start(folder.path(), &flags);
    let client = launcher.in_service().await;

    let run = launcher.data().join("run");
    let file = run.join("cluster.token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap().trim().to_owned();
    for entry in fs::read_dir(run).unwrap() {
        let path = entry.unwrap().path();
        let is_store = path.file_stem().is_some_and(|it| it == "store");
        if path.extension().is_none_or(|it| it != "addr") || is_store {
            continue;
        }
        let url = format!("http://{}/metrics", fs::read_to_string(&path).unwrap().trim());
        assert_eq!(status(&url, None).await, 401, "{}", path.display());
        assert_eq!(status(&url, Some(OLD)).await, 401, "{}", path.display());
        assert_eq!(status(&url, Some(&token)).await, 200, "{}", path.display());
    }
    let instances = format!("{}/manifold/v1/instances", client.router_url());
    assert_eq!(status(&instances, None).await, 401);
    assert!(!launcher.output().contains(&token));
    launcher.stop().await;
}
