//! What a browser sends for a page of a stranger.

use crate::worker::Worker;
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn load(worker: &Worker, header: (&str, &str)) -> StatusCode {
    let body = json!({ "model_name": "m", "url": worker.model("m") });
    let call = worker.call(Method::POST, "/models").header(header.0, header.1);
    call.header("content-type", "text/plain").body(body.to_string()).send().await.unwrap().status()
}

#[tokio::test]
async fn a_page_loads_and_invokes_nothing() {
    let worker = Worker::start(&[]).await;
    let address = worker.packed("m.tar");
    for header in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("host", "evil.example:8080"),
        ("host", "127.0.0.1.nip.io"),
    ] {
        assert_eq!(load(&worker, header).await, 403, "{header:?}");
        assert_eq!(worker.invoke(&address, &[header]).await, 403, "{header:?}");
    }
    assert_eq!(worker.names("").await.0, [""; 0]);
    worker.has_on_disk(0).await;

    assert_eq!(load(&worker, ("host", "localhost:1")).await, 200);
    assert_eq!(worker.invoke(&address, &[("sec-fetch-site", "none")]).await, 200);
}

#[tokio::test]
async fn a_platform_reaches_its_container_under_its_own_name() {
    let worker = Worker::start(&["--bind", "0.0.0.0:0", "--allow-unauthenticated"]).await;
    assert_eq!(load(&worker, ("host", "model.aws.local")).await, 200);
    assert_eq!(load(&worker, ("origin", "http://evil.example")).await, 403);
}
