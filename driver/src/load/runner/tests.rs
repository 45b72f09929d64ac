use super::*;
use crate::load::{
    outcome::FailureClass,
    plan::{Input, Popularity},
    trace::Trace,
};
use bytes::Bytes;
use shared::id::TargetModel;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// What a server does with an invocation of a target model.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Echo,
    Unavailable,
    /// Close the connection without a word.
    Close,
    /// Echo, once the test lets it.
    Held,
    /// For ever.
    Silence,
}

/// A server that echoes bodies and notes who was asked for. It ends when it is dropped.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// So many held answers may go.
    gate: Arc<Semaphore>,
    _connections: JoinSet<()>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut connections = JoinSet::new();
        let gate = Arc::new(Semaphore::new(0));
        let (notes, permits) = (Arc::clone(&asked), Arc::clone(&gate));
        connections.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                served.spawn(serve(stream, answer, Arc::clone(&notes), Arc::clone(&permits)));
            }
        });
        Self { address, asked, gate, _connections: connections }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    answer: Answer,
    asked: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
) {
    let mut stream = BufReader::new(stream);
    while let Some((target, body)) = request(&mut stream).await {
        asked.lock().unwrap().push(target);
        if answer == Answer::Held {
            gate.acquire().await.unwrap().forget();
        }
        let (status, headers) = match answer {
            Answer::Echo | Answer::Held => {
                ("200 OK", "x-manifold-cache: hit\r\nx-manifold-instance: w\r\n")
            }
            Answer::Unavailable => {
                ("503 No", "x-amzn-errortype: ServiceUnavailable\r\nx-amz-retry-after: 5\r\n")
            }
            Answer::Close => return,
            Answer::Silence => std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}

/// Returns the target model and the body of the next request.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut target, mut n_bytes) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("x-amzn-sagemaker-target-model", value)) => target = value.to_owned(),
            Some(("content-length", value)) => n_bytes = value.parse().ok()?,
            None if line.trim().is_empty() => break,
            Some(_) | None => {}
        }
    }
    let mut body = vec![0; n_bytes];
    stream.read_exact(&mut body).await.ok()?;
    Some((target, body))
}

fn targets(n: usize) -> Vec<TargetModel> {
    (0..n).map(|n| format!("m{n}").parse().unwrap()).collect()
}

fn plan(url: &str, pace: Pace) -> Plan {
    let plan = Plan::closed(url, &targets(5), 1);
    Plan { pace, duration: Duration::from_millis(300), check: Check::Echo, ..plan }
}

fn even(rate: f64, max_in_flight: usize) -> Pace {
    Pace::Open { arrivals: Arrivals::Even { rate }, max_in_flight }
}

#[tokio::test]
async fn open_loop_sends_what_is_due_and_counts_every_answer() {
    let server = Server::start(Answer::Echo).await;
    let result = run(plan(&server.url(), even(500.0, 64))).await.unwrap();
    let totals = result.totals;
    assert!(totals.add_up(), "{totals:?}");
    assert_eq!((totals.n_due, totals.n_ok, totals.n_hits), (150, 150, 150), "{:?}", result.errors);
    assert_eq!(server.asked().len(), 150);
    assert_eq!(result.instances[0].instance, "w");
    assert!(!result.is_interrupted && (result.seconds - 0.3).abs() < 1e-9, "{}", result.seconds);
    assert_eq!(result.routers[0].n_sent, 150);
}

#[tokio::test]
async fn answers_that_come_after_the_window_do_not_raise_the_rate() {
    for (pace, n) in [(even(100.0, 64), 30), (Pace::Closed { concurrency: 3 }, 3)] {
        let server = Server::start(Answer::Held).await;
        let mut load = Load::start(plan(&server.url(), pace)).unwrap();
        let mut news = load.watch();
        let is_over = |progress: &Progress| progress.elapsed > Duration::from_millis(300);
        news.wait_for(is_over).await.unwrap();
        server.gate.add_permits(n);
        let result = load.result().await.unwrap();
        let totals = result.totals;
        assert_eq!((totals.n_ok, totals.n_late), (n as u64, n as u64), "{pace:?}");
        assert!(result.rate.abs() < 1e-9 && (result.seconds - 0.3).abs() < 1e-9, "{result:?}");
    }
}

#[tokio::test]
async fn trace_that_is_cut_tells_what_was_left_out() {
    let server = Server::start(Answer::Echo).await;
    let (trace, targets) = Trace::read("0 a\n10 b\n299 a\n300 a\n900000 b\n".as_bytes()).unwrap();
    let pace = Pace::Open { arrivals: Arrivals::Trace, max_in_flight: 64 };
    let popularity = Popularity::Trace(trace.into());
    let plan = Plan { popularity, targets: targets.into(), ..plan(&server.url(), pace) };
    let result = run(plan).await.unwrap();
    assert_eq!((result.totals.n_ok, result.n_left_out), (3, 2), "{result:?}");
    assert!((result.seconds - 0.3).abs() < 1e-9);
}

#[tokio::test]
async fn same_seed_asks_a_server_for_the_same_models() {
    let server = Server::start(Answer::Echo).await;
    let mut asked = Vec::new();
    for seed in [1, 1, 2] {
        // One at a time, so that they arrive in the order in which they were sent.
        let plan = Plan { seed, ..plan(&server.url(), Pace::Closed { concurrency: 1 }) };
        run(plan).await.unwrap();
        asked.push(std::mem::take(&mut *server.asked.lock().unwrap()));
    }
    let n = asked.iter().map(Vec::len).min().unwrap();
    assert!(n > 20, "{n}");
    assert_eq!(asked[0][..n], asked[1][..n]);
    assert_ne!(asked[0][..n], asked[2][..n]);
}

#[tokio::test]
async fn closed_loop_has_as_many_in_flight_as_clients() {
    let server = Server::start(Answer::Silence).await;
    let mut plan = plan(&server.url(), Pace::Closed { concurrency: 3 });
    plan.answer_timeout = Duration::from_millis(400);
    let result = run(plan).await.unwrap();
    assert_eq!(server.asked().len(), 3);
    let error = &result.errors[0];
    assert_eq!((&*error.kind, error.n, result.totals.n_failed), ("timed out", 3, 3));
}

#[tokio::test]
async fn what_is_due_while_too_many_are_in_flight_is_a_failure() {
    let server = Server::start(Answer::Silence).await;
    let mut plan = plan(&server.url(), even(100.0, 2));
    plan.answer_timeout = Duration::from_millis(400);
    let result = run(plan).await.unwrap();
    let totals = result.totals;
    assert_eq!((totals.n_due, totals.n_failed, totals.n_not_sent), (30, 2, 28));
    assert_eq!(result.errors[0].kind, "not sent: too many in flight");
    assert!(totals.add_up());
}

#[tokio::test]
async fn dead_router_costs_one_retry_and_no_failure() {
    let server = Server::start(Answer::Echo).await;
    for dead in [Answer::Close, Answer::Echo] {
        let other = Server::start(dead).await;
        let url = other.url();
        // One closes each connection, the other one has gone.
        let other = (dead == Answer::Close).then_some(other);
        let mut plan = plan(&server.url(), even(200.0, 64));
        plan.routers.push(url);
        let result = run(plan).await.unwrap();
        let totals = result.totals;
        assert_eq!(
            (totals.n_ok, totals.n_retried, totals.n_retried_ok),
            (60, 30, 30),
            "{result:?}"
        );
        assert_eq!(result.routers[1].n_unanswered, 30);
        drop(other);
    }
}

#[tokio::test]
async fn both_routers_dead_is_one_failure_each() {
    let gone = Server::start(Answer::Echo).await.url();
    let mut plan = plan(&gone, even(100.0, 64));
    plan.routers.push(gone);
    let result = run(plan).await.unwrap();
    let totals = result.totals;
    assert_eq!((totals.n_failed, totals.n_retried, totals.n_retried_ok), (30, 30, 0));
    assert_eq!(result.errors[0].kind, "no connection");
}

#[tokio::test]
async fn unavailable_is_counted_apart() {
    let server = Server::start(Answer::Unavailable).await;
    let result = run(plan(&server.url(), even(100.0, 64))).await.unwrap();
    assert_eq!((result.totals.n_unavailable, result.totals.n_failed), (30, 0));
    assert_eq!(result.errors[0].class, FailureClass::Unavailable);
}

#[tokio::test]
async fn run_that_is_ended_early_has_what_it_has() {
    // In a closed loop no client comes round to see it.
    for pace in [even(100.0, 64), Pace::Closed { concurrency: 5 }] {
        let server = Server::start(Answer::Silence).await;
        let plan = Plan { duration: Duration::from_mins(1), ..plan(&server.url(), pace) };
        let mut load = Load::start(plan).unwrap();
        let mut news = load.watch();
        news.wait_for(|progress| progress.n_in_flight >= 5).await.unwrap();
        load.end();
        load.abandon();
        let result = load.result().await.unwrap();
        let totals = result.totals;
        assert!(totals.n_abandoned >= 5 && totals.n_abandoned == totals.n_due, "{totals:?}");
        assert!(result.seconds < 60.0 && totals.add_up());
        assert!(result.is_interrupted, "{pace:?}");
    }
}

#[tokio::test]
async fn body_in_pieces_is_compared_as_a_whole() {
    let server = Server::start(Answer::Echo).await;
    let mut plan = plan(&server.url(), even(50.0, 64));
    let bytes = Bytes::from(vec![7; 300_000]);
    plan.bodies = vec![Input { name: "large".to_owned(), content_type: None, bytes }];
    let result = run(plan).await.unwrap();
    assert_eq!(result.totals.n_ok, 15, "{:?}", result.errors);
}
