//! Models that leave after their use, or by prefix.

use super::*;
use tokio::task::yield_now;

/// Waits until nothing of the artifact is left, in memory and on disk.
async fn gone(fixture: &Fixture, address: &ArtifactAddress) {
    while fixture.is_resident(address) || fixture.n_on_disk() > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_model_that_shall_not_stay_leaves_memory_and_disk_after_its_use() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "1");
    let acquired = fixture.cache.acquire(&model).await.unwrap();
    assert_eq!(fixture.n_on_disk(), 1);

    fixture.cache.discard(&model);
    drop(acquired);

    gone(&fixture, &model).await;
    assert_eq!(fixture.cache.used_bytes(), 0);
    assert!(fixture.cache.acquire(&model).await.unwrap().waited.is_some(), "it is loaded anew");
}

#[tokio::test]
async fn who_comes_before_it_is_gone_shares_the_replica() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "1");
    let first = fixture.cache.acquire(&model).await.unwrap();
    fixture.cache.discard(&model);
    // Twice, as each of two invocations says it.
    fixture.cache.discard(&model);

    let second = fixture.cache.acquire(&model).await.unwrap();
    drop(first);
    let third = fixture.cache.acquire(&model).await.unwrap();
    assert_eq!((second.waited, third.waited, fixture.n_loads()), (None, None, 1));

    drop((second, third));
    gone(&fixture, &model).await;
}

#[tokio::test]
async fn a_model_that_nobody_waits_for_any_more_leaves_once_it_is_loaded() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "1");
    let abandoned = fixture.cache.acquire(&model);
    tokio::pin!(abandoned);
    assert!(futures_util::poll!(&mut abandoned).is_pending());

    fixture.cache.discard(&model);
    while fixture.n_loads() == 0 {
        yield_now().await;
    }
    drop(abandoned.await);

    gone(&fixture, &model).await;
}

#[tokio::test]
async fn files_of_a_model_that_did_not_load_leave_too() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "bad");
    assert!(fixture.cache.acquire(&model).await.is_err());
    assert_eq!(fixture.n_on_disk(), 1);

    fixture.cache.discard(&model);
    gone(&fixture, &model).await;
}

#[tokio::test]
async fn a_pinned_model_stays_whatever_invocations_say() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "1");
    let _pin = fixture.cache.acquire(&model).await.unwrap().lease.pin().unwrap();

    fixture.cache.discard(&model);
    assert_eq!(fixture.unload_below("").await, 0);

    assert!(fixture.is_resident(&model));
}

#[tokio::test]
async fn models_below_a_prefix_leave_when_idle_and_no_other_does() {
    let fixture = Fixture::new().await;
    let (idle, leased) = (fixture.packed("a-idle", "1"), fixture.packed("a-leased", "1"));
    let other = fixture.packed("b", "1");
    fixture.use_once(&idle).await;
    fixture.use_once(&other).await;
    let acquired = fixture.cache.acquire(&leased).await.unwrap();

    assert_eq!(fixture.unload_below("a").await, 2);

    assert!(!fixture.is_resident(&idle) && !fixture.is_resident(&leased));
    assert!(fixture.is_resident(&other));
    while fixture.n_on_disk() > 1 {
        yield_now().await;
    }
    assert_ne!(acquired.replica.footprint(), Footprint::default(), "an invocation has it still");
    let replica = acquired.replica.clone();
    drop(acquired);
    while replica.footprint() != Footprint::default() {
        yield_now().await;
    }
    assert_eq!(fixture.unload_below("a").await, 0);
}

#[tokio::test]
async fn what_an_exception_names_stays_in_memory_and_on_disk() {
    let fixture = Fixture::new().await;
    let (gone, kept) = (fixture.packed("a-1", "1"), fixture.packed("a-2", "1"));
    let on_disk = fixture.packed("a-3", "1");
    for model in [&gone, &kept, &on_disk] {
        fixture.use_once(model).await;
    }
    fixture.cache.unload(&on_disk).await;
    let at = |name| format!("{}{name}", fixture.prefix());
    let below = Below { prefix: at("a"), except: vec![at("a-2"), at("a-3"), at("b")] };

    assert_eq!(fixture.cache.unload_below(below).await, 1);

    assert!(!fixture.is_resident(&gone) && fixture.is_resident(&kept));
    while fixture.n_on_disk() > 2 {
        yield_now().await;
    }
    fixture.use_once(&on_disk).await;
    assert_eq!(fixture.n_opened(), 3, "it came from disk");
}

#[tokio::test]
async fn a_cache_that_leaves_loads_nothing_and_serves_what_it_has() {
    let fixture = Fixture::new().await;
    let (resident, absent, loading) =
        (fixture.model("a"), fixture.model("b"), fixture.packed("c", "1"));
    fixture.use_once(&resident).await;
    fixture.hold_bytes(true);
    let waiting = fixture.cache.acquire(&loading);
    tokio::pin!(waiting);
    while fixture.n_opened() == 0 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        yield_now().await;
    }

    fixture.cache.leave();

    let refusal = async |address| fixture.cache.acquire(address).await.unwrap_err().kind();
    assert_eq!(refusal(&absent).await, ErrorKind::Draining);
    assert_eq!(refusal(&loading).await, ErrorKind::Draining);
    assert!(fixture.cache.acquire(&resident).await.unwrap().waited.is_none());
    // Who came before is served.
    fixture.hold_bytes(false);
    assert!(waiting.await.is_ok());
    // What was handed over is somebody else's to load.
    fixture.cache.unload(&resident).await;
    assert_eq!(refusal(&resident).await, ErrorKind::Draining);
}
