//! Versions of an artifact: which one a fetch gives.

use super::*;
use crate::artifact::Standing;

#[tokio::test]
async fn the_last_version_is_served_from_disk_while_its_store_gives_nothing() {
    let setup = Setup::with_models(&["a"]).await;
    let standing = async |content_is: &str| {
        let fetched = setup.fetch("a").await.unwrap();
        assert_eq!(content(&fetched), content_is);
        fetched.standing
    };
    assert_eq!(standing("a").await, Standing::Current);
    setup.shelf.is_out.store(true, Ordering::SeqCst);
    assert_eq!(standing("a").await, Standing::Last);
    let error = setup.fetch("b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);

    // Nor if what the store has now is no archive.
    setup.shelf.is_out.store(false, Ordering::SeqCst);
    setup.shelf.put("a", b"garbage".to_vec());
    assert_eq!(standing("a").await, Standing::Last);
    setup.shelf.put("a", archive("new"));
    assert_eq!(standing("new").await, Standing::Current);
    setup.shelf.is_out.store(true, Ordering::SeqCst);
    assert_eq!(standing("new").await, Standing::Last);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_disk_does_not_wait_for_a_store_that_stalls() {
    let setup = Setup::with_models(&["a"]).await;
    setup.fetch("a").await.unwrap();
    setup.shelf.is_stalled.store(true, Ordering::SeqCst);
    let fetched_within = async |patience_ms: u64| {
        let asked = tokio::time::Instant::now();
        let fetched = setup.fetch("a").await.unwrap();
        assert_eq!(content(&fetched), "a");
        assert!(asked.elapsed() <= std::time::Duration::from_millis(patience_ms));
        fetched.standing
    };
    assert_eq!(fetched_within(2_100).await, Standing::Last);
    assert_eq!(fetched_within(100).await, Standing::Last, "it is known to stall");

    setup.shelf.is_stalled.store(false, Ordering::SeqCst);
    assert_eq!(fetched_within(100).await, Standing::Current);
}

#[tokio::test]
async fn a_deleted_artifact_is_served_to_those_alone_who_want_it_all_the_same() {
    let setup = Setup::with_models(&["a"]).await;
    setup.fetch("a").await.unwrap();
    setup.shelf.objects.lock().clear();

    let error = setup.fetch("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArtifactNotFound);
    let fetched = setup.fetcher.fetch(address("a"), Otherwise::Orphan).await.unwrap();
    assert_eq!((content(&fetched).as_str(), fetched.standing), ("a", Standing::Orphan));
}

#[tokio::test]
async fn who_wants_the_current_version_alone_is_given_no_other() {
    let setup = Setup::with_models(&["a"]).await;
    setup.fetch("a").await.unwrap();
    setup.shelf.put("a", b"garbage".to_vec());

    let error = setup.fetcher.fetch(address("a"), Otherwise::Nothing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadArtifact);
}

#[tokio::test]
async fn a_replaced_artifact_is_downloaded_beside_the_one_in_use() {
    let setup = Setup::with_models(&["a"]).await;
    let old = setup.fetch("a").await.unwrap();
    setup.shelf.put("a", archive("new"));
    let new = setup.fetch("a").await.unwrap();
    assert_eq!((content(&old), content(&new)), ("a".to_owned(), "new".to_owned()));
    assert_ne!(old.version, new.version);
}
