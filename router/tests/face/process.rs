//! Start, health and stop.

use crate::{
    instance::{Act, Instance, ok, refusal},
    router::{ENDPOINTS, Router, eventually},
};
use shared::api::error::ErrorKind;
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
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
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

/// The soft limit is 1024 nearly everywhere, and two connections go to each invocation.
#[actix_web::test]
async fn a_router_takes_as_many_open_files_as_it_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address");
    let limited = "ulimit -Sn 128 && ulimit -Hn 512 && exec \"$0\" \"$@\"";
    let mut router = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_manifold-router"), "--listen", "127.0.0.1:0"])
        .args(["--http-threads", "1", "--exit-with-parent", "--address-file"])
        .arg(&file)
        // Its records go there.
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(async || file.exists()).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", router.id())).unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = open_files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["512", "512"]);
    drop(router.stdin.take());
    router.wait().unwrap();
}

/// A client is told what it can do; why it happened is the operator's to know.
#[actix_web::test]
async fn a_bug_of_ours_is_logged_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (file, endpoints) = (folder.path().join("address"), folder.path().join("endpoints"));
    std::fs::write(&endpoints, ENDPOINTS).unwrap();
    let process = binary()
        .args(["--listen", "127.0.0.1:0", "--exit-with-parent", "--endpoints"])
        .arg(&endpoints)
        .arg("--address-file")
        .arg(&file)
        .env("RUST_LOG", "error")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(async || file.exists()).await;
    let address = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let router = Router::of_process(address);

    let bug = Act::Send(refusal(ErrorKind::BadRequest, "no artifact"));
    let instance = Instance::answering("a", bug).await;
    router.heartbeat("a", instance.address, "serving").await;
    eventually(async || router.metrics().await.contains("router_ring_instances 1")).await;
    let answer = router.invoke("m.tar.gz", b"").await;
    assert_eq!(answer.status, 500);

    // Its standard input closes, and it ends.
    let log = String::from_utf8(process.wait_with_output().unwrap().stderr).unwrap();
    let id = answer.header("x-amzn-requestid").unwrap();
    for part in [id, "demo", "m.tar.gz", r#"400 (bad-request): "no artifact""#] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
    assert_eq!(log.lines().count(), 1, "{log}");
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
