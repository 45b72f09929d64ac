use super::*;
use futures_util::stream;
use proptest::prelude::*;
use std::time::Duration;

const CONFIG: BodyConfig = BodyConfig {
    max_bytes: 1000,
    budget_bytes: 2500,
    grace: Duration::from_secs(10),
    min_rate: 100,
    drain_bytes: 5000,
    drain_patience: Duration::from_secs(10),
};

fn reader() -> BodyReader {
    BodyReader::new(CONFIG, Gauge::default())
}

type Item = Result<Bytes, PayloadError>;

fn chunks(sizes: &[usize]) -> impl Stream<Item = Item> + Unpin + use<> {
    stream::iter(sizes.iter().map(|n| Ok(Bytes::from(vec![7; *n]))).collect::<Vec<Item>>())
}

/// One chunk of `n_bytes` every second, for ever.
fn trickle(n_bytes: usize) -> impl Stream<Item = Item> + Unpin {
    Box::pin(stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok(Bytes::from(vec![7; n_bytes])), ()))
    }))
}

fn free(reader: &BodyReader) -> u64 {
    CONFIG.budget_bytes - reader.budget.reserved.get().cast_unsigned()
}

#[tokio::test]
async fn the_limit_itself_is_allowed_and_one_more_is_not() {
    let body = reader().read(&mut chunks(&[600, 400]), Some(1000)).await.unwrap();
    assert_eq!(body.bytes.len(), 1000);
    let body = reader().read(&mut chunks(&[600, 400]), None).await.unwrap();
    assert_eq!(body.bytes.len(), 1000);

    for announced in [Some(1001), None] {
        let error = reader().read(&mut chunks(&[600, 401]), announced).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge(1000)), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_comes_at_once_is_not_copied() {
    let chunk = Bytes::from(vec![7; 10]);
    let mut stream = stream::iter([Ok(chunk.clone())]);
    let body = reader().read(&mut stream, Some(10)).await.unwrap();
    assert_eq!(body.bytes.as_ptr(), chunk.as_ptr());
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_until_others_are_dropped() {
    let reader = reader();
    let first = reader.read(&mut chunks(&[1000]), Some(1000)).await.unwrap();
    let _second = reader.read(&mut chunks(&[500, 500]), None).await.unwrap();
    let error = reader.read(&mut chunks(&[600]), Some(600)).await.unwrap_err();
    assert!(matches!(error, BodyError::BudgetSpent), "{error}");

    drop(first);
    assert!(reader.read(&mut chunks(&[600]), Some(600)).await.is_ok());
    assert_eq!(free(&reader), 1500);
}

#[tokio::test(start_paused = true)]
async fn a_body_slower_than_the_minimum_rate_ends() {
    let error = reader().read(&mut trickle(1), None).await.unwrap_err();
    assert!(matches!(error, BodyError::TooSlow), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_above_the_minimum_rate_is_read() {
    let mut slow = trickle(50).take(15);
    // 50 bytes a second are half of the rate, which the grace of 10 s makes up for.
    assert_eq!(reader().read(&mut slow, None).await.unwrap().bytes.len(), 750);
}

/// Bytes that came fast once earned minutes, in which a stalled body kept its room.
#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_after_a_fast_start_ends_within_the_grace() {
    let start = Instant::now();
    let mut stalled = chunks(&[900]).chain(stream::pending());
    let error = reader().read(&mut stalled, Some(1000)).await.unwrap_err();
    assert!(matches!(error, BodyError::TooSlow), "{error}");
    assert_eq!(start.elapsed(), CONFIG.grace);
}

/// A few stalled bodies once took the budget from all others.
#[tokio::test]
async fn large_bodies_leave_room_for_small_ones() {
    let large = 4 * usize::try_from(SMALL_BYTES).unwrap();
    let max_bytes = large as u64;
    let config = BodyConfig { max_bytes, budget_bytes: 4 * max_bytes, ..CONFIG };
    let reader = BodyReader::new(config, Gauge::default());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(reader.read(&mut chunks(&[large]), Some(max_bytes)).await.unwrap());
    }
    for announced in [Some(max_bytes), None] {
        let error = reader.read(&mut chunks(&[large]), announced).await.unwrap_err();
        assert!(matches!(error, BodyError::BudgetSpent), "{error}");
    }
    assert!(reader.read(&mut chunks(&[1]), Some(1)).await.is_ok());
}

#[tokio::test]
async fn a_client_that_stops_is_told_from_one_that_ends() {
    let mut broken =
        stream::iter([Ok(Bytes::from_static(b"x")), Err(PayloadError::Incomplete(None))]);
    let error = reader().read(&mut broken, Some(10)).await.unwrap_err();
    assert!(matches!(error, BodyError::Broken(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn draining_ends_at_its_limits() {
    let start = Instant::now();
    reader().drain(&mut trickle(1)).await;
    assert_eq!(start.elapsed(), CONFIG.drain_patience);

    let mut endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 100])));
    reader().drain(&mut endless).await;
}

proptest! {
    /// Whatever comes in whatever pieces: it comes out whole or not at all, and nothing stays
    /// reserved.
    #[test]
    fn reservations_are_given_back(
        sizes in proptest::collection::vec(0_usize..400, 0..6),
        announce in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let reader = reader();
        let total: usize = sizes.iter().sum();
        let announced = announce.then_some(total as u64);
        let body = runtime.block_on(reader.read(&mut chunks(&sizes), announced));
        match body {
            Ok(body) => {
                prop_assert_eq!(body.bytes.len(), total);
                prop_assert!(free(&reader) <= CONFIG.budget_bytes - total as u64);
            }
            Err(_) => prop_assert!(total > 1000),
        }
        prop_assert_eq!(free(&reader), CONFIG.budget_bytes);
    }
}
