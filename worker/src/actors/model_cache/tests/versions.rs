//! Resident models, and what becomes of the objects that they came from.

use super::*;
use crate::actors::replica::ReplicaId;
use tokio::{task::yield_now, time::advance};

const AGE: Duration = Duration::from_secs(30);

/// Every invocation waits for a check.
const NO_AGE: Duration = Duration::ZERO;

async fn id(fixture: &Fixture, address: &ArtifactAddress) -> ReplicaId {
    fixture.cache.acquire(address).await.unwrap().replica.id()
}

/// Asks until another replica than `old` answers, and returns it.
async fn successor(fixture: &Fixture, address: &ArtifactAddress, old: ReplicaId) -> ReplicaId {
    loop {
        let acquired = fixture.cache.acquire(address).await.unwrap();
        assert!(acquired.waited.is_none(), "nobody waits for a new version");
        if acquired.replica.id() != old {
            return acquired.replica.id();
        }
        drop(acquired);
        yield_now().await;
    }
}

async fn counted(fixture: &Fixture, outcome: Revalidation) {
    while fixture.n_revalidations(outcome) == 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn an_overwritten_model_is_loaded_beside_the_old_one_and_takes_its_place() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", &MIB.to_string());
    let old = fixture.cache.acquire(&model).await.unwrap();
    fixture.packed("a", &(2 * MIB).to_string());

    let new = successor(&fixture, &model, old.replica.id()).await;

    for _ in 0..20 {
        assert_eq!(id(&fixture, &model).await, new);
    }
    assert_eq!((fixture.n_loads(), fixture.n_revalidations(Revalidation::Replaced)), (2, 1));
    assert!(fixture.n_revalidations(Revalidation::Unchanged) > 0);
    // Who has the old one ends with it.
    assert_eq!(old.replica.footprint().resident_bytes, MIB);
    let replica = old.replica.clone();
    drop(old);
    while replica.footprint() != Footprint::default() || fixture.n_on_disk() > 1 {
        yield_now().await;
    }
    assert_eq!(fixture.cache.used_bytes(), 2 * MIB);
}

#[tokio::test]
async fn a_cache_that_leaves_loads_no_new_version_and_serves_the_old_one() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    fixture.cache.leave();
    fixture.packed("a", "2");

    while fixture.n_revalidations(Revalidation::Failed) == 0 {
        assert_eq!(id(&fixture, &model).await, old);
    }
    assert_eq!(id(&fixture, &model).await, old);
    assert_eq!((fixture.n_opened(), fixture.n_loads()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_is_asked_beside_invocations_from_half_the_age_on() {
    let fixture = Fixture::with_age(AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    fixture.packed("a", "2");

    advance(Duration::from_secs(14)).await;
    assert_eq!(id(&fixture, &model).await, old);
    assert_eq!(fixture.n_loads(), 1);
    advance(Duration::from_secs(1)).await;
    assert_eq!(id(&fixture, &model).await, old, "who notices is served at once");

    successor(&fixture, &model, old).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_model_is_not_served_once_the_age_is_over() {
    let fixture = Fixture::with_age(AGE).await;
    let model = fixture.packed("a", "1");
    fixture.use_once(&model).await;
    fixture.delete("a");
    fixture.use_once(&model).await;
    advance(AGE).await;

    let error = fixture.cache.acquire(&model).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ArtifactNotFound);
    assert_eq!(fixture.n_revalidations(Revalidation::Deleted), 1);
    assert!(!fixture.is_resident(&model));
    while fixture.n_on_disk() > 0 {
        yield_now().await;
    }
    fixture.packed("a", "1");
    fixture.use_once(&model).await;
}

#[tokio::test]
async fn files_of_a_model_that_was_deleted_while_it_was_not_resident_leave_the_disk() {
    let fixture = Fixture::new().await;
    let model = fixture.packed("a", "1");
    fixture.use_once(&model).await;
    fixture.cache.unload(&model).await;
    assert_eq!(fixture.n_on_disk(), 1);
    fixture.delete("a");

    let error = fixture.cache.acquire(&model).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::ArtifactNotFound);
    while fixture.n_on_disk() > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_deleted_model_goes_on_for_those_alone_who_want_it() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    fixture.use_once(&model).await;
    let stale = async || fixture.cache.acquire_as(&model, OnDeleted::ServeStale).await.unwrap();
    drop(stale().await);
    fixture.delete("a");

    let refused = async || fixture.cache.acquire(&model).await.unwrap_err().kind();
    assert_eq!(refused().await, ErrorKind::ArtifactNotFound);
    assert!(stale().await.waited.is_none());

    // Also after an eviction, from disk.
    fixture.cache.unload(&model).await;
    assert!(stale().await.waited.is_some());
    assert_eq!(refused().await, ErrorKind::ArtifactNotFound);

    fixture.packed("a", "2");
    while fixture.cache.acquire(&model).await.is_err() {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_new_version_that_is_broken_is_tried_once_and_leaves_the_old_one_serving() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    fixture.packed("a", "bad");

    while fixture.n_revalidations(Revalidation::Failed) < 5 {
        assert_eq!(id(&fixture, &model).await, old);
    }
    assert_eq!(fixture.n_loads(), 2);

    // Nor is one that is no archive fetched twice.
    let ArtifactAddress::File { path } = &model else { panic!("the fixture has files") };
    std::fs::write(path, "no archive").unwrap();
    let n_failed = fixture.n_revalidations(Revalidation::Failed);
    let n_opened = fixture.n_opened();
    while fixture.n_revalidations(Revalidation::Failed) < n_failed + 5 {
        assert_eq!(id(&fixture, &model).await, old);
    }
    assert_eq!(fixture.n_opened(), n_opened + 1);

    fixture.packed("a", "2");
    successor(&fixture, &model, old).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_version_without_room_leaves_the_old_one_serving() {
    let fixture = Fixture::with_age(AGE).await;
    let model = fixture.packed("a", &(2 * MIB).to_string());
    let old = id(&fixture, &model).await;
    fixture.packed("a", &(2 * MIB + 1).to_string());
    advance(AGE / 2).await;

    assert_eq!(id(&fixture, &model).await, old);
    // It waits as long for room as any load.
    while fixture.n_revalidations(Revalidation::Failed) == 0 {
        tokio::time::sleep(ROOM_PATIENCE).await;
    }

    assert_eq!((id(&fixture, &model).await, fixture.n_loads()), (old, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_nothing_ends_no_version_and_delays_who_comes_for_a_moment_only() {
    let fixture = Fixture::with_age(AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    fixture.silence_store(true);
    advance(AGE).await;

    let started = Instant::now();
    assert_eq!(id(&fixture, &model).await, old);
    assert!(started.elapsed() >= CHECK_PATIENCE);
    let started = Instant::now();
    assert_eq!(id(&fixture, &model).await, old);
    assert_eq!(started.elapsed(), Duration::ZERO, "one check is waited for once");
}

#[tokio::test]
async fn a_refusal_other_than_not_found_ends_no_version() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    let ArtifactAddress::File { path } = &model else { panic!("the fixture has files") };
    std::fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink("/dev/null", path).unwrap();

    assert_eq!(id(&fixture, &model).await, old);
    counted(&fixture, Revalidation::Failed).await;
    assert_eq!(fixture.n_on_disk(), 1);
}

#[tokio::test]
async fn nobody_asks_about_a_model_that_a_platform_loaded_by_name() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    let acquired = fixture.cache.acquire(&model).await.unwrap();
    let old = acquired.replica.id();
    let pin = acquired.lease.pin().unwrap();
    fixture.packed("a", "2");
    for _ in 0..5 {
        assert_eq!(id(&fixture, &model).await, old);
    }
    assert_eq!(fixture.n_loads(), 1);

    drop(pin);
    successor(&fixture, &model, old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_after_an_answer_of_the_new_version_never_gets_the_old_one() {
    let fixture = Arc::new(Fixture::with_age(NO_AGE).await);
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    let has_new = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (fixture, model, has_new) = (Arc::clone(&fixture), model.clone(), Arc::clone(&has_new));
        clients.spawn(async move {
            for n_since in 0.. {
                let is_late = has_new.load(std::sync::atomic::Ordering::SeqCst);
                let is_old = id(&fixture, &model).await == old;
                assert!(!(is_late && is_old), "an old version after a new one");
                has_new.fetch_or(!is_old, std::sync::atomic::Ordering::SeqCst);
                if is_late && n_since > 100 {
                    return;
                }
            }
        });
    }
    fixture.packed("a", "2");
    clients.join_all().await;
}

#[tokio::test]
async fn files_of_a_version_whose_model_left_while_it_came_leave_the_disk_too() {
    for script in ["2", "bad"] {
        let fixture = Fixture::with_age(NO_AGE).await;
        let model = fixture.packed("a", "1");
        fixture.use_once(&model).await;
        fixture.hold_bytes(true);
        fixture.packed("a", script);
        fixture.use_once(&model).await;
        while fixture.n_opened() < 2 {
            yield_now().await;
        }

        assert_eq!(fixture.unload_below("a").await, 1);
        fixture.hold_bytes(false);

        while fixture.n_loads() < 2 || fixture.n_on_disk() > 0 {
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_version_is_not_called_broken_for_the_one_that_came_after_it() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    let old = id(&fixture, &model).await;
    let ArtifactAddress::File { path } = &model else { panic!("the fixture has files") };
    let (good, aside) = (path.clone(), path.with_extension("aside"));
    fixture.packed("a", "2");

    // The check sees the good one, the fetch gets the broken one.
    fixture.hold_answers(true);
    let n_located = fixture.n_located();
    let acquire = async { drop(fixture.cache.acquire(&model).await.unwrap()) };
    let exchange = async {
        while fixture.n_located() == n_located {
            yield_now().await;
        }
        std::fs::rename(&good, &aside).unwrap();
        fixture.packed("a", "bad");
        fixture.hold_answers(false);
    };
    tokio::join!(acquire, exchange);
    while fixture.n_loads() < 2 {
        yield_now().await;
    }
    counted(&fixture, Revalidation::Failed).await;
    std::fs::rename(&aside, &good).unwrap();

    successor(&fixture, &model, old).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_failed_late_is_not_waited_for_again_at_once() {
    let fixture = Fixture::with_age(AGE).await;
    let model = fixture.packed("a", "1");
    fixture.use_once(&model).await;
    let ArtifactAddress::File { path } = &model else { panic!("the fixture has files") };
    std::fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink("/dev/null", path).unwrap();
    fixture.hold_answers(true);
    advance(AGE).await;
    fixture.use_once(&model).await;
    advance(AGE).await;
    fixture.hold_answers(false);
    counted(&fixture, Revalidation::Failed).await;

    fixture.silence_store(true);
    let started = Instant::now();
    fixture.use_once(&model).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn without_an_age_nobody_is_served_on_what_the_store_said_before_they_came() {
    let fixture = Fixture::with_age(NO_AGE).await;
    let model = fixture.packed("a", "1");
    fixture.use_once(&model).await;
    fixture.hold_answers(true);
    let n_located = fixture.n_located();
    let early = fixture.cache.acquire(&model);
    let late = async {
        while fixture.n_located() == n_located {
            yield_now().await;
        }
        // The check under way has its answer, and is not over.
        fixture.delete("a");
        let late = fixture.cache.acquire(&model);
        tokio::pin!(late);
        assert!(futures_util::poll!(&mut late).is_pending());
        fixture.hold_answers(false);
        late.await
    };
    let (early, late) = tokio::join!(early, late);

    drop(early);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::ArtifactNotFound);
}
