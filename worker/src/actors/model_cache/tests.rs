//! The model cache through its handle.

use super::{
    fixture::{Fixture, MAX_QUEUED, MIB},
    *,
};
use shared::api::error::ErrorKind;
use tokio::time::Instant;

mod leaving;
mod versions;

#[tokio::test]
async fn concurrent_acquires_share_one_load() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");

    let (first, second) =
        tokio::join!(fixture.cache.acquire(&model), fixture.cache.acquire(&model));

    assert!(first.unwrap().waited.is_some() && second.unwrap().waited.is_some());
    assert_eq!(fixture.n_loads(), 1);
}

#[tokio::test]
async fn a_resident_model_is_a_hit() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    fixture.use_once(&model).await;

    assert!(fixture.cache.acquire(&model).await.unwrap().waited.is_none());
    assert_eq!(fixture.n_loads(), 1);
}

#[tokio::test]
async fn a_failed_load_is_tried_again() {
    let fixture = Fixture::new().await;
    let model = fixture.artifact("a", "bad");

    for _ in 0..2 {
        let error = fixture.cache.acquire(&model).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadArtifact);
    }
    assert_eq!(fixture.n_loads(), 2);
    fixture.artifact("a", "1");
    fixture.use_once(&model).await;
}

#[tokio::test]
async fn a_load_that_panics_answers_its_callers_and_harms_no_other() {
    let fixture = Fixture::new().await;
    let (panics, model) = (fixture.artifact("p", "panic"), fixture.model("a"));
    fixture.use_once(&model).await;

    let error = fixture.cache.acquire(&panics).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::BadArtifact, "{error}");
    assert!(fixture.cache.acquire(&model).await.unwrap().waited.is_none());
    assert!(!fixture.instance.is_broken());
}

#[tokio::test]
async fn the_longest_unused_idle_replica_makes_room() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c", "d"].map(|name| fixture.model(name));
    for model in &models[..3] {
        fixture.use_once(model).await;
    }
    let _leased = fixture.cache.acquire(&models[0]).await.unwrap();

    fixture.use_once(&models[3]).await;

    let resident = models.each_ref().map(|model| fixture.is_resident(model));
    assert_eq!(resident, [true, false, true, true]);
    assert!(fixture.cache.used_bytes() <= 3 * MIB);
}

/// Loads and leases three models, which is what fits, and returns a fourth.
async fn full(fixture: &Fixture) -> (Vec<Acquired>, ArtifactAddress) {
    let mut leased = Vec::new();
    for name in ["a", "b", "c"] {
        leased.push(fixture.cache.acquire(&fixture.model(name)).await.unwrap());
    }
    (leased, fixture.model("d"))
}

#[tokio::test]
async fn a_load_waits_for_a_leased_replica_to_become_idle() {
    let fixture = Fixture::new().await;
    let (mut leased, model) = full(&fixture).await;
    let cache = fixture.cache.clone();
    let load = tokio::spawn(async move { cache.acquire(&model).await });
    while fixture.n_estimates() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(!load.is_finished());

    drop(leased.remove(1));

    load.await.unwrap().unwrap();
    assert!(!fixture.is_resident(&fixture.model("b")));
}

#[tokio::test]
async fn a_load_waits_for_room_that_another_has_reserved_and_may_not_take() {
    let fixture = Fixture::new().await;
    let (first, second) =
        (fixture.artifact("first", "outside"), fixture.artifact("second", "outside"));
    fixture.hold_starts(true);
    let release = async {
        // Both want two of three MiB.
        while (fixture.n_loads(), fixture.n_estimates()) != (1, 2) {
            tokio::task::yield_now().await;
        }
        fixture.hold_starts(false);
    };
    let (first, second, ()) =
        tokio::join!(fixture.cache.acquire(&first), fixture.cache.acquire(&second), release);
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_load_gives_up_when_no_replica_becomes_idle() {
    let fixture = Fixture::new().await;
    let (_leased, model) = full(&fixture).await;
    let started = Instant::now();

    let error = fixture.cache.acquire(&model).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InsufficientMemory);
    assert!(started.elapsed() >= ROOM_PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn pinned_models_leave_no_hope_so_the_refusal_comes_at_once() {
    let fixture = Fixture::new().await;
    let (leased, model) = full(&fixture).await;
    let _pins: Vec<_> = leased.into_iter().map(|it| it.lease.pin().unwrap()).collect();
    let started = Instant::now();

    let error = fixture.cache.acquire(&model).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InsufficientMemory);
    assert!(started.elapsed() < ROOM_PATIENCE);
    assert_eq!(fixture.cache.n_in_flight(), 0);
}

#[tokio::test]
async fn an_unload_leaves_what_somebody_has_pinned() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    let pin = fixture.cache.acquire(&model).await.unwrap().lease.pin().unwrap();

    fixture.cache.unload(&model).await;
    assert!(fixture.is_resident(&model));

    drop(pin);
    fixture.cache.unload(&model).await;
    assert!(!fixture.is_resident(&model));
}

#[tokio::test]
async fn a_model_that_is_unloaded_while_it_loads_does_not_stay() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    let use_once = async { drop(fixture.cache.acquire(&model).await.unwrap()) };

    tokio::join!(use_once, fixture.cache.unload(&model));

    assert!(!fixture.is_resident(&model));
    assert_eq!(fixture.n_loads(), 1);
}

#[tokio::test]
async fn those_who_wait_for_one_load_are_bounded() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    let callers = (0..=MAX_QUEUED).map(|_| fixture.cache.acquire(&model));

    let outcomes = futures_util::future::join_all(callers).await;

    let refused: Vec<_> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(matches!(refused[..], [AcquireError::QueueFull(MAX_QUEUED)]), "{refused:?}");
}

#[tokio::test]
async fn a_model_larger_than_the_budget_is_refused_and_evicts_nothing() {
    let fixture = Fixture::new().await;
    let (small, large) = (fixture.model("a"), fixture.artifact("l", &(4 * MIB).to_string()));
    fixture.use_once(&small).await;

    let error = fixture.cache.acquire(&large).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InsufficientMemory);
    assert!(fixture.is_resident(&small));
}

#[tokio::test]
async fn a_replica_that_panics_dies_alone_and_is_loaded_anew() {
    let fixture = Fixture::new().await;
    let (cursed, model) = (fixture.artifact("c", "cursed"), fixture.model("a"));
    fixture.use_once(&model).await;

    assert_eq!(fixture.invoke(&cursed).await, Err(ErrorKind::ModelFailed));
    while fixture.metrics.died_replicas.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!fixture.is_resident(&cursed));

    fixture.artifact("c", "1");
    assert!(fixture.invoke(&cursed).await.is_ok());
    assert!(fixture.cache.acquire(&model).await.unwrap().waited.is_none());
    assert!(!fixture.instance.is_broken());
}

#[tokio::test]
async fn unloading_waits_for_the_last_lease_and_gives_no_new_one() {
    let fixture = Fixture::new().await;
    let model = fixture.model("a");
    let acquired = fixture.cache.acquire(&model).await.unwrap();
    let unload = fixture.cache.unload(&model);
    tokio::pin!(unload);
    while fixture.is_resident(&model) {
        assert!(futures_util::poll!(&mut unload).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(futures_util::poll!(&mut unload).is_pending());
    assert!(acquired.replica.leases().lease().is_none());

    drop(acquired);
    unload.await;

    assert_eq!(fixture.cache.n_resident(), 0);
    assert_eq!(fixture.cache.used_bytes(), 0);
}

#[tokio::test]
async fn shedding_lets_idle_models_go_and_keeps_leased_ones() {
    let fixture = Fixture::new().await;
    let (idle, leased) = (fixture.model("a"), fixture.model("b"));
    fixture.use_once(&idle).await;
    let _lease = fixture.cache.acquire(&leased).await.unwrap();

    fixture.cache.relieve(100 * MIB);
    while fixture.is_resident(&idle) {
        tokio::task::yield_now().await;
    }
    assert!(fixture.is_resident(&leased));
}

#[tokio::test]
async fn a_load_evicts_what_it_needs_while_another_model_is_leaving() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c", "d"].map(|name| fixture.model(name));
    let [leaving, oldest, other, new] = &models;
    let lease = fixture.cache.acquire(leaving).await.unwrap();
    fixture.use_once(oldest).await;
    fixture.use_once(other).await;
    let unload = fixture.cache.unload(leaving);
    tokio::pin!(unload);
    assert!(futures_util::poll!(&mut unload).is_pending());
    fixture.cache.set_budget(2 * MIB);

    let load = fixture.cache.acquire(new);
    tokio::pin!(load);
    // The bytes that leave were never part of what it may take.
    while fixture.is_resident(oldest) {
        assert!(futures_util::poll!(&mut load).is_pending());
        tokio::task::yield_now().await;
    }

    drop(lease);
    unload.await;
    assert!(load.await.is_ok());
    assert!(fixture.is_resident(other));
}

#[tokio::test]
async fn a_smaller_budget_sheds_at_once() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c"].map(|name| fixture.model(name));
    for model in &models {
        fixture.use_once(model).await;
    }

    fixture.cache.set_budget(MIB);
    while fixture.cache.n_resident() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(fixture.is_resident(&models[2]));
    assert_eq!(fixture.cache.budget_bytes(), MIB);
}

#[tokio::test]
async fn the_model_that_works_is_hot_and_comes_first() {
    let fixture = Fixture::new().await;
    let (idle, works) = (fixture.model("a"), fixture.artifact("b", "slow"));
    fixture.use_once(&works).await;
    // Not yet: nothing has run.
    assert!(fixture.cache.hot().is_empty());
    while fixture.cache.hot().is_empty() {
        fixture.invoke(&works).await.unwrap();
        fixture.use_once(&idle).await;
    }
    let hot = fixture.cache.hot();
    assert_eq!((hot.len(), hot[0].artifact.clone()), (1, works.to_string()));
    assert!(hot[0].fast_millicores > hot[0].slow_millicores, "{hot:?}");
    // Although the other one was used last.
    let residents = fixture.cache.residents().models;
    assert_eq!(residents[0].artifact, works.to_string());
    assert_eq!((residents[1].fast_millicores, residents[1].resident_bytes), (0, MIB));

    // A model that shall not stay is nothing that another instance should have.
    fixture.cache.acquire(&works).await.unwrap().replica.set_passing();
    assert!(fixture.cache.hot().is_empty() && fixture.cache.residents().models[0].is_bound);
    // But somebody else wants it to.
    fixture.cache.acquire(&works).await.unwrap().replica.set_staying();
    assert!(!fixture.cache.hot().is_empty() && !fixture.cache.residents().models[0].is_bound);
}
