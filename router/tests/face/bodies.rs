//! Request bodies: limits in size, rate and sum; what goes up is what came in.

use crate::{
    instance::{Act, Instance, ok},
    router::{Response, Router, eventually},
};
use tokio::io::AsyncWriteExt as _;

const TOO_LARGE: &str = "1 validation error detected: Value at 'body' failed to satisfy \
    constraint: Member must have length less than or equal to 1000";

async fn instance() -> Instance {
    Instance::answering("a", Act::Send(ok("", "yes"))).await
}

/// A request whose body comes in chunks of `size` bytes.
fn chunked(n_chunks: usize, size: usize) -> Vec<u8> {
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: localhost\r\n\
                x-amzn-sagemaker-target-model: m\r\ntransfer-encoding: chunked\r\n\
                connection: close\r\n\r\n";
    let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
    [head.as_bytes(), &chunk.repeat(n_chunks), b"0\r\n\r\n"].concat()
}

#[actix_web::test]
async fn the_limit_itself_is_served_and_one_byte_more_is_not() {
    let instance = instance().await;
    let router = Router::with(&["--max-body", "1000"], &[&instance]).await;
    assert_eq!(router.invoke("m", &[b'x'; 1000]).await.status, 200);
    assert_eq!(router.send_raw(&chunked(10, 100)).await.status, 200);
    assert!(instance.received().iter().all(|it| it.body == [b'x'; 1000]));

    router.invoke("m", &[b'x'; 1001]).await.check_error(413, "ValidationError", TOO_LARGE);
    let answer = router.send_raw(&chunked(11, 100)).await;
    answer.check_error(413, "ValidationError", TOO_LARGE);
    assert_eq!(instance.received().len(), 2);
}

#[actix_web::test]
async fn a_client_that_sends_everything_first_still_reads_why_it_was_refused() {
    let router = Router::start(&["--max-body", "1000"]).await;
    let huge = vec![b'x'; 8 << 20];
    router.invoke("m", &huge).await.check_error(413, "ValidationError", TOO_LARGE);
    let unknown = "Endpoint nowhere of account 123456789012 not found.";
    let answer = router.invoke_endpoint("nowhere", "m", &huge).await;
    answer.check_error(400, "ValidationError", unknown);
    let answer = router.send("POST /nonsense", "", &huge).await;
    assert_eq!(answer.status, 404);
}

#[actix_web::test]
async fn a_body_without_end_is_not_read_for_ever() {
    let router = Router::start(&["--max-body", "1000", "--drain-body", "100000"]).await;
    let mut connection = router.connect().await;
    let endless = chunked(10_000, 4096);
    // The router stops reading: writing fails in the end, or what was written is ignored.
    let _ = connection.write_all(&endless).await;
    eventually(async || {
        let metrics = router.metrics().await;
        metrics.contains(r#"outcome="client-error"} 1"#) && metrics.contains("in_flight 0")
    })
    .await;
}

#[actix_web::test]
async fn a_body_slower_than_the_minimum_rate_ends_with_408() {
    let router = Router::start(&["--body-grace-ms", "50", "--body-min-rate", "1000000"]).await;
    let mut connection = router.connect().await;
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\
                x-amzn-sagemaker-target-model: m\r\n\r\nsome of it";
    connection.write_all(head.as_bytes()).await.unwrap();
    let answer = Response::read(&mut connection).await;
    let text = "Your socket connection to the server was not written to fast enough.";
    answer.check_error(408, "RequestTimeoutException", text);
}

#[actix_web::test]
async fn bodies_beyond_the_budget_get_503_until_one_is_answered() {
    let instance = Instance::answering("a", Act::Hold(ok("", "yes"))).await;
    let flags = ["--max-body", "1000", "--body-budget", "1500"];
    let router = Router::with(&flags, &[&instance]).await;
    let invoke = async { router.invoke("m", &[b'x'; 1000]).await };
    let refused = async {
        eventually(async || !instance.received().is_empty()).await;
        let refused = router.invoke("m", &[b'x'; 1000]).await;
        instance.release();
        refused
    };
    let (served, refused) = tokio::join!(invoke, refused);
    refused.check_error(503, "ServiceUnavailable", "Too many large requests are in progress.");
    assert_eq!(refused.header("x-amz-retry-after"), Some("1000"));
    assert_eq!(served.status, 200);
    assert_eq!(router.invoke("m", &[b'x'; 1000]).await.status, 200);
    assert!(router.metrics().await.contains("router_body_reserved_bytes 0"));
}

#[actix_web::test]
async fn a_body_that_breaks_off_is_not_invoked_with() {
    let instance = instance().await;
    let router = Router::with(&[], &[&instance]).await;
    let mut broken = chunked(1, 100);
    let end = broken.len() - b"0\r\n\r\n".len();
    broken.splice(end.., *b"no size\r\n");
    let answer = router.send_raw(&broken).await;
    // Mostly the connection is closed before the answer gets out.
    assert!([0, 400].contains(&answer.status), "{answer:?}");
    assert!(instance.received().is_empty());
}

#[actix_web::test]
async fn a_large_body_goes_up_verbatim() {
    let instance = instance().await;
    let router = Router::with(&[], &[&instance]).await;
    let body: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(router.invoke("m", &body).await.status, 200);
    assert!(instance.received()[0].body == body);
}

#[actix_web::test]
async fn an_invocation_whose_client_has_left_is_dropped_upstream() {
    let instance = Instance::answering("a", Act::Hang).await;
    let router = Router::with(&[], &[&instance]).await;
    let mut connection = router.connect().await;
    let head = "POST /endpoints/demo/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
                x-amzn-sagemaker-target-model: m\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    eventually(async || !instance.received().is_empty()).await;
    drop(connection);
    eventually(async || instance.n_abandoned() == 1).await;
    eventually(async || router.metrics().await.contains(r#"outcome="abandoned"} 1"#)).await;
}
