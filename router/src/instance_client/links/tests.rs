//! Invocations over links: what is used again, and what a failure is.

mod server;

use self::server::{Caller, Server, eventually, read, receive, receive_head};
use crate::instance_client::{InstanceError, answer::AnswerError};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use std::{
    io::{Read as _, Write as _},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nx-manifold-invocation-id: value\r\ncontent-length: 3\r\n\r\nyes";

/// A body that fits into no socket's buffers.
const HUGE: usize = 32 << 20;

/// Invokes twice, and checks whether the second one went over the connection of the first.
async fn check_used_again(answer: &'static [u8], expected: bool) {
    let server = Server::answering(answer);
    let caller = Caller::of(server.address);
    // Whether the answer is a good one, other tests ask.
    let (first, second) = (caller.invoke().await, caller.invoke().await);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    let shown = String::from_utf8_lossy(answer);
    assert_eq!(server.n_connections.get() == 1, expected, "{shown}: {first:?}");
    if !expected {
        eventually(|| server.n_open.get() == 0).await;
    }
}

#[actix_web::test]
async fn a_connection_is_used_again_after_an_answer_that_surely_ended() {
    check_used_again(OK, true).await;
    check_used_again(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true).await;
    check_used_again(b"HTTP/1.1 204 No Content\r\n\r\n", true).await;
    check_used_again(b"HTTP/1.1 503 X\r\ncontent-length: 2\r\n\r\nno", true).await;
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nye\r\n1\r\ns\r\n0\r\n\r\n";
    check_used_again(chunked, true).await;
    check_used_again(
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
        true,
    )
    .await;
}

#[actix_web::test]
async fn a_connection_is_not_used_again_where_an_answer_may_go_on() {
    check_used_again(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", false)
        .await;
    check_used_again(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", false).await;
    check_used_again(b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    check_used_again(b"HTTP/1.1 500 X\r\n\r\nwhy", false).await;
    check_used_again(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxyz", false).await;
    check_used_again(b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n", false).await;
    let both = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n\
                 1\r\nx\r\n0\r\n\r\n";
    check_used_again(both, false).await;
}

#[actix_web::test]
async fn an_answer_that_does_not_say_whose_it_is_is_the_only_one_of_its_connection() {
    let server = Server::start(|mut connection: TcpStream| async move {
        while receive(&mut connection).await.is_some() {
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    });
    let caller = Caller::of(server.address);
    for n_connections in 1..4 {
        caller.invoke().await.unwrap();
        assert_eq!(server.n_connections.get(), n_connections);
    }
}

#[actix_web::test]
async fn an_answer_too_many_is_not_taken_for_that_to_the_next_question() {
    let server = Server::start(|mut connection: TcpStream| async move {
        receive(&mut connection).await;
        connection.write_all(OK).await.unwrap();
        // It comes after the next question has gone up, so that nobody could have noticed it before.
        receive(&mut connection).await;
        let of_another = str::from_utf8(OK).unwrap().replace("value", "other");
        let _ = connection.write_all(of_another.as_bytes()).await;
        while receive(&mut connection).await.is_some() {}
    });
    let caller = Caller::of(server.address);
    assert_eq!(caller.invoke().await.unwrap(), b"yes");
    let error = caller.invoke().await.unwrap_err();
    assert!(matches!(error, InstanceError::Died(_)), "{error:?}");
    eventually(|| server.n_open.get() == 0).await;
}

#[actix_web::test]
async fn an_interim_answer_is_refused_and_what_follows_is_nobodys() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    check_used_again(interim, false).await;
    let server = Server::answering(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    let error = Caller::of(server.address).invoke().await.unwrap_err();
    assert!(matches!(&error, InstanceError::Refused(it) if it.status == 103), "{error:?}");
}

#[actix_web::test]
async fn an_answer_may_come_in_pieces_of_one_byte() {
    let answer = b"HTTP/1.1 200 OK\r\nx-manifold-invocation-id: value\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n";
    let server = Server::start(move |mut connection: TcpStream| async move {
        connection.set_nodelay(true).unwrap();
        while receive(&mut connection).await.is_some() {
            for byte in answer {
                connection.write_u8(*byte).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let caller = Caller::of(server.address);
    for _ in 0..3 {
        assert_eq!(caller.invoke().await.unwrap(), b"yes");
    }
    assert_eq!(server.n_connections.get(), 1);
}

#[actix_web::test]
async fn what_is_no_answer_is_sorted_by_whether_it_may_have_run() {
    let failure = async |answer: &'static [u8]| {
        let server = Server::answering_once(answer);
        Caller::of(server.address).invoke().await.unwrap_err()
    };
    for garbage in [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
        assert!(matches!(failure(garbage).await, InstanceError::Garbled(Some(_))));
    }
    let two_lengths = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx";
    assert!(matches!(failure(two_lengths).await, InstanceError::Garbled(Some(_))));
    assert!(matches!(failure(b"HTTP/1.1 200 OK\r\n\r\n").await, InstanceError::Garbled(None)));
    let head_without_end: &[u8] = vec![b'x'; 200_000].leak();
    let endless = [b"HTTP/1.1 200 OK\r\na: ", head_without_end].concat().leak();
    assert!(matches!(failure(endless).await, InstanceError::Garbled(Some(_))));
    for half in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-le"] {
        assert!(matches!(failure(half).await, InstanceError::Died(_)));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Caller::of(nobody).invoke().await.unwrap_err();
    assert!(matches!(error, InstanceError::Connect(_)), "{error:?}");
}

#[actix_web::test]
async fn a_body_that_breaks_off_is_never_whole() {
    for broken in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n",
    ] {
        let server = Server::answering_once(broken);
        let caller = Caller::of(server.address);
        let answer = caller.send(&Bytes::new()).await.unwrap();
        assert!(matches!(read(answer).await, Err(AnswerError::Broken(_))));
    }
}

#[actix_web::test]
async fn an_answer_that_nobody_reads_to_its_end_closes_its_connection() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let caller = Caller::of(server.address);
    let mut stream = caller.send(&Bytes::new()).await.unwrap().into_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), "half");
    assert_eq!(server.n_open.get(), 1);
    drop(stream);
    eventually(|| server.n_open.get() == 0).await;
}

/// It would otherwise send the rest of a large body to somebody who does not listen.
#[actix_web::test]
async fn a_refusal_ends_the_way_up_of_a_body() {
    let server = Server::start(|mut connection: TcpStream| async move {
        receive_head(&mut connection).await.unwrap();
        connection.write_all(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        // Until it is closed.
        while let Ok(1..) = connection.read(&mut [0; 4096]).await {}
    });
    let error = Caller::of(server.address).send(&vec![0; HUGE].into()).await.unwrap_err();
    assert!(matches!(&error, InstanceError::Refused(it) if it.status == 413), "{error:?}");
    eventually(|| server.n_open.get() == 0).await;
}

#[actix_web::test]
async fn a_success_counts_once_all_of_the_body_went_up() {
    let server = Server::start(|mut connection: TcpStream| async move {
        let n_bytes = receive_head(&mut connection).await.unwrap();
        connection.write_all(OK).await.unwrap();
        connection.read_exact(&mut vec![0; n_bytes]).await.unwrap();
        receive(&mut connection).await.unwrap();
        connection.write_all(OK).await.unwrap();
    });
    let caller = Caller::of(server.address);
    let answer = caller.send(&vec![0; HUGE].into()).await.unwrap();
    assert_eq!(read(answer).await.unwrap(), b"yes");
    assert_eq!(caller.invoke().await.unwrap(), b"yes");

    let closing = Server::start(|mut connection: TcpStream| async move {
        receive_head(&mut connection).await.unwrap();
        connection.write_all(OK).await.unwrap();
    });
    let error = Caller::of(closing.address).send(&vec![0; HUGE].into()).await.unwrap_err();
    assert!(matches!(error, InstanceError::Died(_)), "{error:?}");
}

#[actix_web::test]
async fn a_connection_that_the_instance_closed_while_it_was_idle_is_replaced() {
    let server = Server::answering_once(OK);
    let caller = Caller::of(server.address);
    for n_connections in 1..4 {
        assert_eq!(caller.invoke().await.unwrap(), b"yes");
        eventually(|| server.n_open.get() == 0).await;
        assert_eq!(server.n_connections.get(), n_connections);
    }
}

/// Has an instance answer once and close its connection in a moment at which nobody looks at it; if
/// `is_reset`, so that it takes nothing more. Then invokes a second time.
async fn invoke_unnoticed(is_reset: bool) -> Result<Vec<u8>, InstanceError> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ((close, closing), (closed, is_closed)) = (mpsc::channel(), mpsc::channel());
    let serving = thread::spawn(move || {
        let serve = || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nbody") {
                let mut bytes = [0; 1024];
                let n_bytes = connection.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..n_bytes]);
            }
            connection.write_all(OK).unwrap();
            connection
        };
        let first = serve();
        closing.recv().unwrap();
        if is_reset {
            rustix::net::sockopt::set_socket_linger(&first, Some(Duration::ZERO)).unwrap();
        }
        drop(first);
        closed.send(()).unwrap();
        if is_reset {
            serve();
        }
    });
    let caller = Caller::of(address);
    assert_eq!(caller.invoke().await.unwrap(), b"yes");
    close.send(()).unwrap();
    // Blocks the thread, so that the runtime learns of nothing.
    is_closed.recv().unwrap();
    let outcome = caller.invoke().await;
    serving.join().unwrap();
    outcome
}

#[actix_web::test]
async fn an_invocation_of_which_nothing_was_taken_goes_over_another_connection() {
    assert_eq!(invoke_unnoticed(true).await.unwrap(), b"yes");
}

#[actix_web::test]
async fn an_invocation_that_may_have_been_taken_is_not_sent_again_from_here() {
    let error = invoke_unnoticed(false).await.unwrap_err();
    assert!(matches!(error, InstanceError::Died(_)), "{error:?}");
}

#[actix_web::test]
async fn what_is_kept_is_bounded_in_number_and_age() {
    let (release, released) = watch::channel(false);
    let server = Server::start(move |mut connection: TcpStream| {
        let mut released = released.clone();
        async move {
            while receive(&mut connection).await.is_some() {
                let _ = released.wait_for(|it| *it).await.unwrap();
                let _ = connection.write_all(OK).await;
            }
        }
    });
    let caller = Caller::of(server.address);
    let n_invoked = super::MAX_IDLE + 10;
    let all = join_all((0..n_invoked).map(|_| caller.invoke()));
    let release = async {
        eventually(|| server.n_open.get() == n_invoked).await;
        release.send_replace(true);
    };
    let (outcomes, ()) = tokio::join!(all, release);
    assert!(outcomes.iter().all(Result::is_ok));
    eventually(|| server.n_open.get() == super::MAX_IDLE).await;
    // They go with the instance.
    drop(caller.instance);
    eventually(|| server.n_open.get() == 0).await;

    let caller = Caller::keeping(server.address, Duration::from_millis(10));
    caller.invoke().await.unwrap();
    eventually(|| server.n_open.get() == 0).await;
}
