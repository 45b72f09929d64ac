//! Promise: a router killed at any moment comes back with every acknowledged change and no half one.

mod log;

use log::{Log, Operation};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;
use tests::{RestartedRouter, eventually};
use tokio::{task::yield_now, time::Instant};

/// Start of the pseudo-random script and of its kill points.
const SEED: u64 = 2026;

const N_KILLS: usize = 100;

/// Of these, as many must hit a call that was under way.
const MIN_KILLS_DURING: usize = 30;

/// Where in a call the router is killed.
#[derive(Clone, Copy, Debug)]
enum KillPoint {
    Before,
    /// So long after it was sent, if it is not answered by then.
    During(Duration),
    After,
}

/// Chooses a point of a call that takes as long as `call_time`.
fn kill_point(random: &mut StdRng, call_time: Duration) -> KillPoint {
    match random.random_range(0..10) {
        0 => KillPoint::Before,
        1 | 2 => KillPoint::After,
        _ => KillPoint::During(call_time.mul_f64(random.random())),
    }
}

/// Waits for less than a millisecond, which timers cannot.
async fn spin(delay: Duration) {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        yield_now().await;
    }
}

/// What a client knows of a call after the router was killed around it.
enum Heard {
    Acknowledged,
    Refused,
    /// It may have been done.
    Nothing,
}

/// Makes a call, kills the router at a point of it, and returns what the client heard, and whether
/// the call was under way.
async fn call(router: &mut RestartedRouter, operation: &Operation, at: KillPoint) -> (Heard, bool) {
    if let KillPoint::Before = at {
        router.kill().await;
    }
    let (client, name) = (router.client().clone(), operation.name);
    let input = operation.input.clone();
    let mut called = tokio::spawn(async move { client.try_control(name, input).await });
    let mut answer = None;
    match at {
        KillPoint::Before => {}
        KillPoint::During(delay) => tokio::select! {
            done = &mut called => answer = Some(done),
            () = spin(delay) => {}
        },
        KillPoint::After => answer = Some((&mut called).await),
    }
    let is_under_way = answer.is_none() && matches!(at, KillPoint::During(_));
    router.kill().await;
    let answer = match answer {
        Some(answer) => answer,
        None => called.await,
    };
    let heard = match answer.expect("the call does not panic") {
        Ok(_) => Heard::Acknowledged,
        Err(error) if error.is_refusal() => Heard::Refused,
        Err(_) => Heard::Nothing,
    };
    (heard, is_under_way)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_is_lost_however_often_the_router_is_killed() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut router = RestartedRouter::start().await;
    let started = Instant::now();
    let mut log = Log::start(router.client()).await;
    let call_time = started.elapsed() / log::N_CALLS_AT_START;
    let (mut n_during, mut n_acknowledged) = (0, 0);
    for kill in 0..N_KILLS {
        let operation = log.next(&mut random);
        let (heard, is_under_way) =
            call(&mut router, &operation, kill_point(&mut random, call_time)).await;
        n_during += usize::from(is_under_way);
        match heard {
            Heard::Acknowledged => {
                n_acknowledged += 1;
                log.done(&operation);
            }
            Heard::Refused => {}
            Heard::Nothing => log.perhaps_done(&operation),
        }
        router.restart().await;
        log.compare(router.client(), &format!("after kill {kill} around {operation:?}")).await;
    }
    assert!(n_during >= MIN_KILLS_DURING, "only {n_during} of {N_KILLS} kills hit a call");
    assert!(n_acknowledged > 0);

    // What was caught in the middle goes on to an end, and leaves no worker behind.
    eventually(async || log::is_settled(router.client()).await).await;
    let n_wanted = log.n_instances();
    eventually(async || router.n_workers() == n_wanted).await;
    log::delete_endpoint(router.client()).await;
    eventually(async || router.n_workers() == 0).await;
    router.stop().await;
}
