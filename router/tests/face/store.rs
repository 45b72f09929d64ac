//! S3, STS and IAM on the router's port. The store is a socket with a script: what it sees counts.

use crate::{
    instance::{Act, Instance, answer, ok},
    router::{Router, eventually},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 \
    Credential=A/20261123/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00\r\n";

async fn with_store(act: Act, flags: &[&str]) -> (Instance, Router) {
    let store = Instance::answering("store", act).await;
    let url = format!("http://{}", store.address);
    let router = Router::start(&[&["--local-store", &url], flags].concat()).await;
    (store, router)
}

#[actix_web::test]
async fn what_is_signed_for_s3_goes_to_the_store_as_it_came() {
    let headers = "etag: \"e\"\r\nx-amz-meta-a: 1\r\nx-amz-meta-a: 2\r\n";
    let (store, router) = with_store(Act::Send(ok(headers, "object")), &[]).await;
    let asked = format!("{SIGNED}range: bytes=0-5\r\nx-amz-date: d\r\nte: trailers\r\n");
    // A bucket may be called as a route of ours is.
    let line = "GET /metrics/a%2Fb//c%20d+e?prefix=x%2F&list-type";
    let answer = router.send(line, &asked, b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "object"));
    assert_eq!(answer.header("etag"), Some("\"e\""));
    assert_eq!(answer.head.matches("x-amz-meta-a: ").count(), 2);
    let received = &store.received()[0];
    assert!(received.head.starts_with(&format!("{line} HTTP/1.1\r\n")), "{}", received.head);
    assert_eq!(received.header("host"), Some(store.address.to_string().as_str()));
    assert_eq!(received.header("range"), Some("bytes=0-5"));
    assert!(received.header("authorization").is_some() && received.header("te").is_none());
    // What is signed for nobody is ours.
    assert_eq!(router.send("GET /ping", "", b"").await.text(), "");
}

#[actix_web::test]
async fn the_store_is_asked_before_a_body_goes_up() {
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", store.local_addr().unwrap());
    let router = Router::start(&["--local-store", &url]).await;
    let refuses = async {
        let (mut connection, _) = store.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let n_bytes = connection.read(&mut head).await.unwrap();
        let refusal = answer(404, "content-type: application/xml\r\n", "<Error/>");
        connection.write_all(&refusal).await.unwrap();
        String::from_utf8(head[..n_bytes].to_vec()).unwrap()
    };
    // It sends all before it reads, more than any buffer holds.
    let body = vec![7; 9_000_000];
    let (head, answer) = tokio::join!(refuses, router.send("PUT /none/k", SIGNED, &body));
    assert!(head.contains("expect: 100-continue") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!((answer.status, answer.text().as_str()), (404, "<Error/>"));
}

#[actix_web::test]
async fn answers_without_a_body_keep_their_length() {
    let (_, router) =
        with_store(Act::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".to_vec()), &[]).await;
    let answer = router.send("HEAD /b/k", SIGNED, b"").await;
    assert_eq!(
        (answer.status, answer.header("content-length"), answer.body.len()),
        (200, Some("7"), 0)
    );
    let (_, router) = with_store(Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), &[]).await;
    let answer = router.send("DELETE /b/k", SIGNED, b"").await;
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
}

#[actix_web::test]
async fn a_store_that_breaks_or_says_nothing_ends_the_answer() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf".to_vec();
    let (_, router) = with_store(Act::SendAndClose(half), &[]).await;
    assert!(!router.send("GET /b/k", SIGNED, b"").await.is_whole);
    let (_, router) = with_store(Act::Die, &[]).await;
    let answer = router.send("GET /b/k", SIGNED, b"").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("<Code>ServiceUnavailable</Code>"));
    let (_, router) = with_store(Act::Hang, &["--store-idle-ms", "50"]).await;
    let answer = router.send("GET /b/k", SIGNED, b"").await;
    assert!(answer.status == 400 && answer.text().contains("<Code>RequestTimeout</Code>"));
}

#[actix_web::test]
async fn requests_at_the_store_are_bounded() {
    let (store, router) =
        with_store(Act::Hold(ok("", "held")), &["--max-store-requests", "1"]).await;
    let held = async {
        let held = router.send("GET /b/k", SIGNED, b"").await;
        assert_eq!(held.text(), "held");
    };
    let refused = async {
        eventually(async || store.received().len() == 1).await;
        let answer = router.send("GET /b/k", SIGNED, b"").await;
        assert!(answer.status == 503 && answer.text().contains("<Code>SlowDown</Code>"));
        store.release();
    };
    tokio::join!(held, refused);
    assert_eq!(router.send("GET /b/k", SIGNED, b"").await.status, 200);
}

#[actix_web::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let (store, router) = with_store(Act::Hang, &[]).await;
    let mut connection = router.connect().await;
    let head = format!("GET /b/k HTTP/1.1\r\nhost: localhost\r\n{SIGNED}\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    eventually(async || store.received().len() == 1).await;
    drop(connection);
    eventually(async || store.n_abandoned() == 1).await;
}

#[actix_web::test]
async fn without_a_store_s3_clients_are_told_so() {
    let router = Router::start(&[]).await;
    let answer = router.send("PUT /bucket/k", SIGNED, b"body").await;
    assert_eq!((answer.status, answer.header("content-type")), (501, Some("application/xml")));
    assert!(answer.text().contains("<Code>NotImplemented</Code>"), "{}", answer.text());
    let head = router.send("HEAD /bucket", SIGNED, b"").await;
    assert_eq!((head.status, head.body.len()), (501, 0));
}

#[actix_web::test]
async fn sts_and_iam_answer_forms() {
    let router = Router::start(&["--account-id", "111122223333"]).await;
    let form = "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    let call = async |body: &str| router.send("POST /", form, body.as_bytes()).await;
    let answer = call("Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/xml")));
    assert!(answer.text().contains("<Account>111122223333</Account>"), "{}", answer.text());
    let answer = call("Action=GetRole&Version=2010-05-08&RoleName=r").await;
    assert!(answer.text().contains("<Arn>arn:aws:iam::111122223333:role/r</Arn>"));
    let answer = call("Action=AssumeRole&Version=2011-06-15").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("<Code>InvalidAction</Code>"), "{}", answer.text());
}
