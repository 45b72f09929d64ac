//! Streamed answers: their frames, and what a client learns of one that breaks.

use crate::{
    instance::{Act, Instance, ok},
    router::{Response, Router},
};
use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;

const STREAM: &str = "POST /endpoints/demo/invocations-response-stream";

async fn invoke(act: Act, flags: &[&str], headers: &str) -> (Instance, Response) {
    let instance = Instance::answering("a", act).await;
    let router = Router::with(flags, &[&instance]).await;
    let headers = format!("x-amzn-sagemaker-target-model: m.tar.gz\r\n{headers}");
    let answer = router.send(STREAM, &headers, b"body").await;
    (instance, answer)
}

fn frames(answer: &Response) -> Vec<Message> {
    let mut rest = &answer.body[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        frames.push(read_message_from(&mut rest).expect("a frame"));
    }
    frames
}

fn header<'a>(frame: &'a Message, name: &str) -> &'a str {
    let header = frame.headers().iter().find(|header| header.name().as_str() == name);
    header.expect("it is there").value().as_string().expect("text").as_str()
}

#[actix_web::test]
async fn an_answer_comes_in_parts_of_bounded_size() {
    let model = "0123456789".repeat(20_000);
    let headers = "content-type: text/csv\r\nx-amzn-sagemaker-custom-attributes: c=1\r\n";
    let asked = "accept: */*\r\nx-amzn-sagemaker-accept: text/csv\r\n";
    let (instance, answer) = invoke(Act::Send(ok(headers, &model)), &[], asked).await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
    for (name, value) in [
        ("content-type", "application/vnd.amazon.eventstream"),
        ("x-amzn-sagemaker-content-type", "text/csv"),
        ("x-amzn-sagemaker-custom-attributes", "c=1"),
        ("x-amzn-invoked-production-variant", "AllTraffic"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let frames = frames(&answer);
    assert!(frames.iter().all(|frame| header(frame, ":event-type") == "PayloadPart"));
    assert!(frames.iter().all(|frame| (1..=65_536).contains(&frame.payload().len())));
    let payloads: Vec<u8> = frames.iter().flat_map(|frame| frame.payload().to_vec()).collect();
    assert!(payloads == model.as_bytes());
    assert_eq!(instance.received()[0].header("accept"), Some("text/csv"));
}

#[actix_web::test]
async fn an_empty_answer_is_an_empty_stream() {
    let (_, answer) = invoke(Act::Send(ok("", "")), &[], "").await;
    assert_eq!((answer.status, answer.is_whole, frames(&answer).len()), (200, true, 0));
}

#[track_caller]
fn check_exception(answer: &Response, code: &str) {
    let frames = frames(answer);
    assert!(answer.is_whole, "the client reads the exception as the last frame");
    assert_eq!(frames[0].payload().as_ref(), b"half");
    assert_eq!(header(&frames[1], ":exception-type"), "ModelStreamError");
    let payload: serde_json::Value = serde_json::from_slice(frames[1].payload()).expect("JSON");
    assert_eq!(payload["ErrorCode"], code);
}

#[actix_web::test]
async fn an_answer_that_breaks_ends_with_an_exception() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf".to_vec();
    let (_, answer) = invoke(Act::SendAndClose(half.clone()), &[], "").await;
    check_exception(&answer, "StreamBroken");
    let (_, answer) = invoke(Act::Send(half), &["--answer-idle-ms", "50"], "").await;
    check_exception(&answer, "ModelInvocationTimeExceeded");
}

#[actix_web::test]
async fn errors_before_the_stream_are_those_of_any_invocation() {
    let (_, answer) = invoke(Act::Send(crate::instance::answer(500, "", "oh")), &[], "").await;
    assert_eq!(answer.header("x-amzn-errortype"), Some("ModelError"));
    assert_eq!((answer.status, &answer.json()["OriginalMessage"]), (424, &"oh".into()));
    let session = "x-amzn-sagemaker-session-id: NEW_SESSION\r\n";
    let (_, answer) = invoke(Act::Send(ok("", "")), &[], session).await;
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (400, Some("ValidationError")));
}
