use super::*;
use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

fn compute(n_slots: usize) -> Compute {
    let limits = ComputeLimits { n_slots, n_queued_invocations: 64, n_queued_loads: 64 };
    Compute::new(limits, || {}).expect("threads can start")
}

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// Holds a slot until the returned sender is dropped; returns once the slot is held.
fn hold(compute: &Arc<Compute>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let compute = compute.clone();
    let held = tokio::spawn(async move {
        let job = move || {
            begun.send(()).expect("the test waits");
            let _dropped = released.recv();
        };
        compute.invoke(later(), job).await.expect("the slot is free");
    });
    // The runtime has a second thread, on which the task pushes its job.
    has_begun.recv().expect("the job begins");
    (release, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_does_not_end_is_seen() {
    let compute = Arc::new(compute(2));
    assert_eq!(compute.longest_running(), Duration::ZERO);
    let (release, held) = hold(&compute);
    assert!(compute.longest_running() > Duration::ZERO);
    drop(release);
    held.await.expect("the job ends");
    while compute.longest_running() > Duration::ZERO {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_job_gives_its_value() {
    let compute = compute(2);
    assert_eq!(compute.invoke(later(), || 6 * 7).await, Ok(42));
    assert_eq!(compute.load(|| "loaded").await, Ok("loaded"));
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_slot_lives_on() {
    let compute = compute(1);
    let outcome: Result<(), _> = compute.invoke(later(), || panic!("model {} broke", 7)).await;
    assert_eq!(outcome, Err(ComputeError::Panicked("model 7 broke".to_owned())));
    assert_eq!(compute.invoke(later(), || 1).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_past_its_deadline_is_told_from_one_that_never_began() {
    let compute = Arc::new(compute(1));
    let (release, released) = mpsc::channel::<()>();
    let soon = Instant::now() + Duration::from_millis(50);
    let running = compute.invoke(soon, move || {
        let _dropped = released.recv();
    });
    let waiting = compute.invoke(soon, || {});
    let (running, waiting) = tokio::join!(running, waiting);
    assert_eq!((running, waiting), (Err(ComputeError::Overrun), Err(ComputeError::Expired)));
    assert_eq!(ComputeError::Expired.kind(), ErrorKind::Overloaded);
    drop(release);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_past_its_deadline_does_not_begin() {
    let compute = Arc::new(compute(1));
    let (release, held) = hold(&compute);
    let n_runs = Arc::new(AtomicUsize::new(0));
    let counted = n_runs.clone();
    let job = move || counted.fetch_add(1, Ordering::Relaxed);
    assert_eq!(compute.invoke(Instant::now(), job).await, Err(ComputeError::Expired));
    drop(release);
    held.await.expect("the job ends");
    // Behind it in the queue.
    compute.invoke(later(), || {}).await.expect("the slot is free");
    assert_eq!(n_runs.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_caller_has_gone_does_not_begin() {
    let compute = Arc::new(compute(1));
    let (release, held) = hold(&compute);
    let n_runs = Arc::new(AtomicUsize::new(0));
    let counted = n_runs.clone();
    let abandoned = compute.invoke(later(), move || counted.fetch_add(1, Ordering::Relaxed));
    // Polled once, so that the job waits in the queue; then dropped.
    assert!(futures_util::FutureExt::now_or_never(abandoned).is_none());
    drop(release);
    held.await.unwrap();
    assert_eq!(compute.invoke(later(), || 1).await, Ok(1));
    assert_eq!(n_runs.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let limits = ComputeLimits { n_slots: 1, n_queued_invocations: 1, n_queued_loads: 0 };
    let compute = Arc::new(Compute::new(limits, || {}).unwrap());
    let (release, held) = hold(&compute);
    let mut waiting = Box::pin(compute.invoke(later(), || 1));
    assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
    assert_eq!(compute.invoke(later(), || 2).await, Err(ComputeError::Full("invocations")));
    assert_eq!(compute.load(|| 3).await, Err(ComputeError::Full("loads")));
    drop(release);
    assert_eq!(waiting.await, Ok(1));
    held.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_pool_fails_what_waits() {
    let compute = Arc::new(compute(1));
    let (release, held) = hold(&compute);
    let (tx, rx) = oneshot::channel::<Result<(), ComputeError>>();
    compute
        .shared
        .queue
        .lock()
        .push(Lane::Load, Box::new(move || drop(tx)), Instant::now())
        .unwrap();
    drop(compute.shared.queue.lock().close());
    assert!(rx.await.is_err(), "the job was dropped without an answer");
    assert_eq!(compute.load(|| 1).await, Err(ComputeError::Closed));
    drop(release);
    held.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_of_many_callers_runs_exactly_once() {
    let compute = Arc::new(compute(3));
    let n_runs = Arc::new(AtomicUsize::new(0));
    let jobs = (0..60).map(|idx| {
        let (compute, counted) = (compute.clone(), n_runs.clone());
        tokio::spawn(async move {
            let job = move || counted.fetch_add(1, Ordering::Relaxed);
            if idx % 5 == 0 { compute.load(job).await } else { compute.invoke(later(), job).await }
        })
    });
    for job in jobs.collect::<Vec<_>>() {
        assert!(job.await.unwrap().is_ok());
    }
    assert_eq!(n_runs.load(Ordering::Relaxed), 60);
}
