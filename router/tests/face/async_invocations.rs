//! Asynchronous invocations: a router in a process of its own, killed and started again, with a
//! scripted store and a scripted instance. Only its records last.

use crate::{
    instance::{Act, Instance, Received, answer, ok},
    router::{Response, Router, eventually},
};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

const ENDPOINTS: &str = r#"
[[endpoint]]
name = "demo"
[[endpoint.variant]]
name = "AllTraffic"
model_data_url = "s3://bucket/models/"
[endpoint.asynchronous]
output = "s3://bucket/out/"
failure = "s3://bucket/failed"

[[endpoint]]
name = "synchronous"
[[endpoint.variant]]
name = "AllTraffic"
model_data_url = "s3://bucket/models/"
"#;

/// A router's process, killed when it is dropped.
struct Process {
    child: Child,
    router: Router,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    async fn start(folder: &TempDir, store: &Instance, flags: &[&str]) -> Self {
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("endpoints"), ENDPOINTS).expect("writable");
        let _ = std::fs::remove_file(at("address"));
        let child = Command::new(env!("CARGO_BIN_EXE_manifold-router"))
            .args(["--listen", "127.0.0.1:0", "--lease-ms", "3600000", "--http-threads", "1"])
            .args(["--endpoints".as_ref(), at("endpoints").as_os_str()])
            .args(["--address-file".as_ref(), at("address").as_os_str()])
            .args(["--records".as_ref(), at("records").as_os_str()])
            .args(["--s3-endpoint", &format!("http://{}", store.address)])
            .args(flags)
            .env("AWS_ACCESS_KEY_ID", "any")
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        eventually(async || read(&at("address")).trim().parse::<std::net::SocketAddr>().is_ok())
            .await;
        let address = read(&at("address")).trim().parse().expect("an address");
        Self { child, router: Router::of_process(address) }
    }

    async fn join(&self, instance: &Instance) {
        let status = self.router.heartbeat(&instance.id, instance.address, "serving").await.status;
        assert_eq!(status, 200);
    }

    async fn invoke(&self, headers: &str, body: &[u8]) -> Response {
        let headers = format!("x-amzn-sagemaker-target-model: m.tar.gz\r\n{headers}");
        self.router.send("POST /endpoints/demo/async-invocations", &headers, body).await
    }
}

/// A store that takes everything, and gives `input` for whatever is read.
async fn store(input: &'static str) -> Instance {
    Instance::answering("store", Act::Send(ok("etag: \"e\"\r\n", input))).await
}

/// What has been written to the store, by path.
fn written(store: &Instance) -> Vec<(String, Received)> {
    let received = store.received().into_iter();
    let path = |it: &Received| it.head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    received.filter(|it| it.head.starts_with("PUT ")).map(|it| (path(&it), it)).collect()
}

fn path_of(location: Option<&str>) -> String {
    location.and_then(|it| it.strip_prefix("s3:/")).expect("a location").to_owned()
}

#[actix_web::test]
async fn an_answer_comes_to_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store("from the store").await;
    let csv = ok("content-type: text/csv\r\n", "1,2");
    let instance = Instance::answering("a", Act::Send(csv)).await;
    let process = Process::start(&folder, &store, &[]).await;
    process.join(&instance).await;

    let headers = "content-type: x/y\r\nx-amzn-sagemaker-content-type: text/plain\r\n\
                   x-amzn-sagemaker-inference-id: mine\r\n";
    let answer = process.invoke(headers, b"inline").await;
    assert_eq!((answer.status, &answer.json()["InferenceId"]), (202, &"mine".into()));
    let output = path_of(answer.header("x-amzn-sagemaker-outputlocation"));
    // A UUID and its extension.
    let name = output.strip_prefix("/bucket/out/").expect("below the output path");
    assert_eq!(name.split_once('.').map(|(id, rest)| (id.len(), rest)), Some((36, "out")));
    let failure = path_of(answer.header("x-amzn-sagemaker-failurelocation"));
    assert!(failure.starts_with("/bucket/failed/") && failure.ends_with("-error.out"), "{failure}");
    eventually(async || written(&store).iter().any(|(path, _)| *path == output)).await;
    let (_, put) = &written(&store)[0];
    assert_eq!((&put.body[..], put.header("content-type")), (&b"1,2"[..], Some("text/csv")));
    let received = &instance.received()[0];
    assert_eq!(
        (&received.body[..], received.header("content-type")),
        (&b"inline"[..], Some("text/plain"))
    );

    let named = "x-amzn-sagemaker-inputlocation: s3://bucket/in/1\r\n\
                 x-amzn-sagemaker-s3outputpathextension: sub\r\nx-amzn-sagemaker-filename: f.txt\r\n";
    let answer = process.invoke(named, b"").await;
    let output = path_of(answer.header("x-amzn-sagemaker-outputlocation"));
    assert_eq!(output, "/bucket/out/sub/f.txt");
    eventually(async || written(&store).iter().any(|(path, _)| *path == output)).await;
    assert_eq!(instance.received()[1].body, b"from the store");
}

#[actix_web::test]
async fn a_failure_comes_to_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store("").await;
    let instance = Instance::answering("a", Act::Send(answer(500, "", "oh no"))).await;
    let process = Process::start(&folder, &store, &[]).await;
    process.join(&instance).await;
    let answer = process.invoke("", b"inline").await;
    let failure = path_of(answer.header("x-amzn-sagemaker-failurelocation"));
    eventually(async || !written(&store).is_empty()).await;
    let (path, put) = written(&store).remove(0);
    let document: serde_json::Value = serde_json::from_slice(&put.body).expect("JSON");
    assert_eq!(path, failure);
    assert_eq!(
        (&document["Code"], &document["OriginalMessage"]),
        (&"ModelError".into(), &"oh no".into())
    );
}

#[actix_web::test]
async fn what_was_accepted_is_done_after_a_kill_and_once_done_never_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store("").await;
    let process = Process::start(&folder, &store, &[]).await;
    // There is no instance yet, so it waits.
    let answer = process.invoke("", b"inline").await;
    assert_eq!(answer.status, 202);
    drop(process);

    let instance = Instance::answering("a", Act::Send(ok("", "done"))).await;
    let process = Process::start(&folder, &store, &[]).await;
    process.join(&instance).await;
    eventually(async || written(&store).len() == 1).await;
    let (path, _) = &written(&store)[0];
    assert_eq!(*path, path_of(answer.header("x-amzn-sagemaker-outputlocation")));
    // The next one is done after the one before has left the records.
    process.invoke("", b"next").await;
    eventually(async || written(&store).len() == 2).await;
    drop(process);

    let process = Process::start(&folder, &store, &[]).await;
    process.join(&instance).await;
    process.invoke("", b"last").await;
    eventually(async || instance.received().iter().any(|it| it.body == b"last")).await;
    let n_first = instance.received().iter().filter(|it| it.body == b"inline").count();
    assert_eq!(n_first, 1);
}

#[actix_web::test]
async fn what_cannot_be_done_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store("").await;
    let process = Process::start(&folder, &store, &["--max-async", "1"]).await;
    let both = process.invoke("x-amzn-sagemaker-inputlocation: s3://bucket/in\r\n", b"x").await;
    let neither = process.invoke("", b"").await;
    for answer in [both, neither] {
        let message = "Body and InputLocation are mutually exclusive. Provide exactly one of them.";
        answer.check_error(400, "ValidationError", message);
    }
    let large = process.invoke("", &vec![b'x'; 128_001]).await;
    let message = "1 validation error detected: Value at 'body' failed to satisfy constraint: \
                   Member must have length less than or equal to 128000";
    large.check_error(400, "ValidationError", message);
    let target = "x-amzn-sagemaker-target-model: m\r\n";
    let line = "POST /endpoints/synchronous/async-invocations";
    let synchronous = process.router.send(line, target, b"x").await;
    assert_eq!(
        (synchronous.status, synchronous.header("x-amzn-errortype")),
        (400, Some("ValidationError"))
    );

    assert_eq!(process.invoke("", &vec![b'x'; 128_000]).await.status, 202);
    let full = process.invoke("", b"x").await;
    let message = "The queue of asynchronous invocations is full. Please try again.";
    full.check_error(503, "ServiceUnavailable", message);
}
