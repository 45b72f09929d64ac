//! A worker within the test's process, and a client of it.

use clap::Parser as _;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use worker::{app::App, config::Config};

/// How long a worker may take to do what it must do in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The worker shares the test's cores: asked without a pause it gets to nothing else.
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut condition: F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}");
        sleep(POLL).await;
    }
}

/// A worker on a free port with a folder of artifacts. It ends with the test's runtime.
pub(crate) struct Worker {
    pub(crate) url: String,
    client: Client,
    pub(crate) models: TempDir,
    cache: TempDir,
}

impl Worker {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let (models, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let bind = if flags.contains(&"--bind") { &[][..] } else { &["--bind", "127.0.0.1:0"][..] };
        let root = models.path().to_str().unwrap();
        let folder = cache.path().to_str().unwrap();
        let own = ["manifold-worker", "--file-root", root, "--cache-dir", folder];
        let arguments = own.iter().chain(bind).chain(flags);
        let app = App::build(Config::parse_from(arguments).validate().unwrap()).await.unwrap();
        let url = format!("http://127.0.0.1:{}", app.address().port());
        tokio::spawn(app.run());
        let worker = Self { url, client: Client::new(), models, cache };
        assert_eq!(worker.call(Method::GET, "/ping").send().await.unwrap().status(), 200);
        worker
    }

    /// Makes an unpacked model as SageMaker does, and returns its folder.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        let folder = self.models.path().join(name).join("model");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifold.toml"), "[model]\nruntime = \"echo\"\n").unwrap();
        folder
    }

    /// Makes a packed model, and returns its address.
    pub(crate) fn packed(&self, name: &str) -> String {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let manifest = b"[model]\nruntime = \"echo\"\n";
        header.set_size(manifest.len() as u64);
        archive.append_data(&mut header, "manifold.toml", &manifest[..]).unwrap();
        let path = self.models.path().join(name);
        fs::write(&path, archive.into_inner().unwrap()).unwrap();
        format!("file://{}", path.display())
    }

    /// Invokes a packed model by its address.
    pub(crate) async fn invoke(&self, address: &str, headers: &[(&str, &str)]) -> StatusCode {
        let mut call = self.call(Method::POST, "/invocations").body("hello");
        call = call.header("x-manifold-artifact", address);
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        call.send().await.unwrap().status()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn shows(&self, line: &str) {
        let metrics =
            async || self.call(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        until(async || metrics().await.contains(line)).await;
    }

    /// Waits until so many artifacts are on disk.
    pub(crate) async fn has_on_disk(&self, n_artifacts: usize) {
        let count = || fs::read_dir(self.cache.path().join("artifacts")).unwrap().count();
        until(async || count() == n_artifacts).await;
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn json(&self, request: RequestBuilder) -> (StatusCode, Value) {
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub(crate) async fn load(&self, name: &str) -> (StatusCode, Value) {
        let body = json!({ "model_name": name, "url": self.model(name) });
        self.json(self.call(Method::POST, "/models").json(&body)).await
    }

    pub(crate) async fn names(&self, query: &str) -> (Vec<String>, Option<String>) {
        let (_, page) = self.json(self.call(Method::GET, &format!("/models{query}"))).await;
        let names = page["models"].as_array().unwrap().iter();
        let names = names.map(|it| it["modelName"].as_str().unwrap().to_owned()).collect();
        (names, page["nextPageToken"].as_str().map(str::to_owned))
    }
}
