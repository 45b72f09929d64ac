//! Promise: a router killed at any moment comes back with every acknowledged change and no half one.

mod log;

use log::{Log, Operation};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;
use tests::{RestartedRouter, eventually};
use tokio::{task::yield_now, time::Instant};

/// Start of the pseudo-random script and of its kill points.
const SEED: u64 = 2026;

/// At least; more until enough of them have hit a call.
const N_KILLS: usize = 100;

/// A machine on which so many do not hit enough calls tests nothing.
const MAX_KILLS: usize = 300;

/// As many must hit a call that was under way.
const MIN_KILLS_DURING: usize = 30;

/// How much the last call counts in the running mean of their times.
const WEIGHT: f64 = 0.2;

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

/// What became of a call.
struct Called {
    heard: Heard,
    is_under_way: bool,
    /// How long it took, if it was answered undisturbed.
    took: Option<Duration>,
}

/// Makes a call, and kills the router at a point of it.
async fn call(router: &mut RestartedRouter, operation: &Operation, at: KillPoint) -> Called {
    if let KillPoint::Before = at {
        router.kill().await;
    }
    let (client, name) = (router.client().clone(), operation.name);
    let input = operation.input.clone();
    let began = Instant::now();
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
    let took = answer.is_some().then(|| began.elapsed());
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
    Called { heard, is_under_way, took }
}

/// What the kills have hit so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "all are counts")]
struct Tally {
    n_kills: usize,
    n_during: usize,
    n_acknowledged: usize,
    /// Of the calls that were under way and not answered.
    n_done: usize,
    n_not_done: usize,
}

impl Tally {
    fn is_enough(&self) -> bool {
        self.n_kills >= N_KILLS
            && self.n_during >= MIN_KILLS_DURING
            && self.n_acknowledged > 0
            && self.n_done > 0
            && self.n_not_done > 0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_is_lost_however_often_the_router_is_killed() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut router = RestartedRouter::start().await;
    let started = Instant::now();
    let mut log = Log::start(router.client()).await;
    let mut call_time = started.elapsed() / log::N_CALLS_AT_START;
    let mut tally = Tally::default();
    while !tally.is_enough() && tally.n_kills < MAX_KILLS {
        let operation = log.next(&mut random);
        let called = call(&mut router, &operation, kill_point(&mut random, call_time)).await;
        tally.n_kills += 1;
        tally.n_during += usize::from(called.is_under_way);
        if let Some(took) = called.took {
            call_time = call_time.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT);
        }
        match called.heard {
            Heard::Acknowledged => {
                tally.n_acknowledged += 1;
                log.done(&operation);
            }
            Heard::Refused => {}
            Heard::Nothing => log.perhaps_done(&operation),
        }
        router.restart().await;
        log.compare(router.client(), &format!("after {tally:?} around {operation:?}")).await;
        if called.is_under_way && matches!(called.heard, Heard::Nothing) {
            let was_done = log.was_done(&operation);
            tally.n_done += usize::from(was_done == Some(true));
            tally.n_not_done += usize::from(was_done == Some(false));
        }
    }
    assert!(tally.is_enough(), "{tally:?}, a call takes {call_time:?}");

    // What was caught in the middle goes on to an end, and leaves no worker behind.
    eventually(async || log::is_settled(router.client()).await).await;
    let n_wanted = log.n_instances();
    eventually(async || router.n_workers() == n_wanted).await;
    log::delete_endpoint(router.client()).await;
    eventually(async || router.n_workers() == 0).await;
    router.stop().await;
}
