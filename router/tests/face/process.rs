//! Start, health and stop.

use crate::{
    instance::{Act, Instance, ok},
    router::{Router, eventually},
};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::net::TcpStream;

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_manifold-router"))
}

#[actix_web::test]
async fn a_router_in_service_says_so() {
    let router = Router::start(&[]).await;
    assert_eq!(router.send("GET /ping", "", b"").await.status, 200);
    let metrics = router.send("GET /metrics", "", b"").await;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.header("content-type"), Some(content_type));
    assert!(metrics.text().ends_with("# EOF\n"));
}

#[actix_web::test]
async fn a_stop_finishes_what_was_accepted_and_takes_nothing_new() {
    let instance = Instance::answering("a", Act::Hold(ok("", "late but whole"))).await;
    let mut router = Router::with(&[], &[&instance]).await;
    let address = router.address;
    let connection = router.connect().await;
    let invoking = tokio::task::spawn_local(invoke_over(connection));
    eventually(async || !instance.received().is_empty()).await;

    let stopped = router.stop();
    eventually(async || TcpStream::connect(address).await.is_err()).await;
    assert!(!stopped.is_finished());
    instance.release();
    let answer = invoking.await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late but whole"));
    stopped.await.unwrap();
}

/// Invokes without asking for the connection to be closed: the stopping router must do that.
async fn invoke_over(mut connection: TcpStream) -> crate::router::Response {
    use tokio::io::AsyncWriteExt as _;
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\
                x-amzn-sagemaker-target-model: m\r\n\r\n";
    connection.write_all(head.as_bytes()).await.expect("the router takes it");
    crate::router::Response::read(&mut connection).await
}

#[test]
fn a_bad_configuration_is_one_line_and_exit_code_64() {
    let no_file = "/no/such/endpoints.toml";
    for flags in [
        vec!["--nonsense"],
        vec!["--listen", "0.0.0.0:0"],
        vec!["--listen", "127.0.0.1:0", "--endpoints", no_file],
    ] {
        let output = binary().args(&flags).env("RUST_LOG", "error").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{flags:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("manifold-router: "), "{text}");
    }
}

#[actix_web::test]
async fn a_router_writes_its_address_and_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address");
    let mut router = binary()
        .args(["--listen", "127.0.0.1:0", "--exit-with-parent", "--address-file"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(async || file.exists()).await;
    let address = std::fs::read_to_string(&file).unwrap();
    assert!(TcpStream::connect(address.trim()).await.is_ok());

    drop(router.stdin.take());
    eventually(async || {
        tokio::time::sleep(Duration::from_millis(5)).await;
        router.try_wait().unwrap().is_some()
    })
    .await;
}
