//! Answers: what a client sees of them, and that none is completed that was not whole.

use crate::{
    instance::{Act, Instance, answer, ok},
    router::{Router, eventually},
};
use tokio::io::AsyncWriteExt as _;

async fn invoke(flags: &[&str], act: Act) -> crate::router::Response {
    let instance = Instance::answering("a", act).await;
    Router::with(flags, &[&instance]).await.invoke("m.tar.gz", b"body").await
}

#[actix_web::test]
async fn a_client_sees_what_sagemaker_shows_and_nothing_else() {
    let headers = "content-type: text/csv\r\nx-amzn-sagemaker-custom-attributes: c=1\r\n\
                   x-amzn-sagemaker-session-id: s-1; Expires=2030-01-01T00:00:00Z\r\n\
                   x-amzn-sagemaker-closed-session-id: s-0\r\nx-manifold-cache: miss\r\n\
                   x-manifold-load-ms: 12\r\nset-cookie: secret\r\nserver: worker\r\n";
    let answer = invoke(&[], Act::Send(answer(201, headers, "1,2"))).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.is_whole), (200, "1,2", true));
    for (name, value) in [
        ("content-type", Some("text/csv")),
        ("content-length", Some("3")),
        ("x-amzn-sagemaker-custom-attributes", Some("c=1")),
        ("x-amzn-sagemaker-new-session-id", Some("s-1; Expires=2030-01-01T00:00:00Z")),
        ("x-amzn-sagemaker-closed-session-id", Some("s-0")),
        ("x-amzn-invoked-production-variant", Some("AllTraffic")),
        ("x-manifold-instance", Some("a")),
        ("x-manifold-cache", Some("miss")),
        ("x-manifold-load-ms", Some("12")),
        ("set-cookie", None),
        ("server", None),
        ("x-amzn-sagemaker-session-id", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(answer.header("x-amzn-requestid").map(str::len), Some(36));
}

#[actix_web::test]
async fn an_instance_sees_the_artifact_and_the_request_id() {
    let instance = Instance::answering("a", Act::Send(ok("", ""))).await;
    let router = Router::with(&[], &[&instance]).await;
    let answer = router.invoke("sub/m.tar.gz", b"body").await;
    let received = instance.received();
    assert!(received[0].head.starts_with("POST /invocations HTTP/1.1\r\n"));
    assert_eq!(received[0].header("x-manifold-artifact"), Some("s3://bucket/models/sub/m.tar.gz"));
    let id = received[0].header("x-manifold-invocation-id");
    assert_eq!(id, answer.header("x-amzn-requestid"));
    assert_eq!(received[0].header("x-amzn-sagemaker-target-model"), Some("sub/m.tar.gz"));
    assert_eq!((answer.status, answer.is_whole), (200, true));
}

#[actix_web::test]
async fn a_chunked_answer_is_passed_on() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                    5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answer = invoke(&[], Act::Send(chunked.to_vec())).await;
    assert_eq!((answer.text().as_str(), answer.is_whole), ("hello world", true));
}

/// The chunks decide where it ends; a client that got the length, too, would stop there.
#[actix_web::test]
async fn the_length_of_an_answer_in_chunks_is_not_passed_on() {
    let both = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n\
                 5\r\nhello\r\n0\r\n\r\n";
    let answer = invoke(&[], Act::Send(both.to_vec())).await;
    assert_eq!(answer.header("content-length"), None);
    assert_eq!((answer.text().as_str(), answer.is_whole), ("hello", true));
}

#[actix_web::test]
async fn an_answer_in_a_coding_that_we_do_not_undo_is_a_model_error() {
    for coding in ["identity", "gzip", "gzip, chunked"] {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n");
        let both = format!("{head}content-length: 3\r\n\r\nabc").into_bytes();
        let answer = invoke(&[], Act::SendAndClose(both)).await;
        assert_eq!(answer.status, 424, "{coding}");
        assert_eq!(answer.json()["OriginalStatusCode"], 0, "{coding}");
    }
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_never_completed() {
    let sized = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let answer = invoke(&[], Act::SendAndClose(sized)).await;
    assert!(!answer.is_whole, "{answer:?}");

    for half in ["5\r\nhello\r\n", "5\r\nhello\r\n6\r\n wor", ""] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = invoke(&[], Act::SendAndClose(format!("{head}{half}").into_bytes())).await;
        assert!(!answer.is_whole, "{half:?}: {answer:?}");
    }
}

#[actix_web::test]
async fn an_answer_without_any_length_cannot_be_told_from_a_broken_one() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"] {
        let answer = invoke(&[], Act::SendAndClose(format!("{head}all?").into_bytes())).await;
        assert_eq!((answer.status, &answer.json()["OriginalStatusCode"]), (424, &0.into()));
    }
    // But nothing is nothing.
    let answer = invoke(&[], Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())).await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
}

#[actix_web::test]
async fn a_larger_answer_is_a_model_error() {
    let answer = invoke(&["--max-answer", "10"], Act::Send(ok("", "more than ten"))).await;
    assert_eq!(answer.status, 424);
    let text = "The response of 13 bytes is too large and was not loaded.";
    assert_eq!(answer.json()["OriginalMessage"], text);

    let answer = invoke(&["--max-answer", "10"], Act::Send(ok("", "0123456789"))).await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
}

#[actix_web::test]
async fn an_answer_that_grows_beyond_the_limit_is_cut() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                    5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answer = invoke(&["--max-answer", "10"], Act::Send(chunked.to_vec())).await;
    assert!(!answer.is_whole, "{answer:?}");
}

#[actix_web::test]
async fn an_answer_that_falls_silent_is_cut() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let answer = invoke(&["--answer-idle-ms", "50"], Act::Send(half)).await;
    assert!(!answer.is_whole, "{answer:?}");
}

#[actix_web::test]
async fn an_empty_answer_is_one() {
    let instance = Instance::answering("a", Act::Send(ok("", ""))).await;
    let router = Router::with(&[], &[&instance]).await;
    let answer = router.invoke("m", b"").await;
    assert_eq!((answer.status, answer.body.len(), answer.is_whole), (200, 0, true));
    assert!(router.metrics().await.contains(r#"outcome="ok"} 1"#));
}

/// A client that is stopped, or that means harm, would hold memory and a model's slot.
#[actix_web::test]
async fn a_client_that_stops_reading_its_answer_is_cut_off() {
    let huge = "x".repeat(20 << 20);
    let instance = Instance::answering("a", Act::Send(ok("", &huge))).await;
    let router = Router::with(&["--client-stall-ms", "200"], &[&instance]).await;
    let mut connection = router.connect().await;
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
                x-amzn-sagemaker-target-model: m\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    eventually(async || router.metrics().await.contains(r#"outcome="abandoned"} 1"#)).await;
    assert!(router.metrics().await.contains("router_invocations_in_flight 0"));
    drop(connection);
}

#[actix_web::test]
async fn connections_to_instances_are_kept() {
    let instance = Instance::answering("a", Act::Send(ok("", "x"))).await;
    let router = Router::with(&[], &[&instance]).await;
    for _ in 0..20 {
        assert_eq!(router.invoke("m", b"").await.status, 200);
    }
    assert_eq!(instance.n_connections(), 1);
}
