//! The cache through its handle, on a real folder.

use super::*;
use crate::artifact::unpack::Room as _;
use std::sync::Arc;

const STEP: u64 = 16 << 20;

fn address(name: &str) -> ArtifactAddress {
    format!("s3://bucket/{name}").parse().unwrap()
}

fn version(etag: &str) -> ArtifactVersion {
    ArtifactVersion { etag: etag.to_owned(), size_bytes: 1 }
}

/// Puts an artifact of `size_bytes` accounted bytes into the cache.
fn put(cache: &Arc<DiskCache>, name: &str, size_bytes: u64) -> Result<ArtifactLease, NoRoom> {
    let mut incoming = cache.begin().unwrap();
    incoming.cover(size_bytes)?;
    fs::create_dir(incoming.folder().join(ARTIFACT)).unwrap();
    fs::write(incoming.folder().join(ARTIFACT).join("name"), name).unwrap();
    Ok(incoming.finish(&address(name), &version("1"), size_bytes).unwrap())
}

fn find(cache: &Arc<DiskCache>, name: &str) -> Option<ArtifactLease> {
    cache.find(&address(name), &version("1"))
}

fn n_below(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn an_artifact_is_found_by_address_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    assert!(find(&cache, "a").is_none());
    let lease = put(&cache, "a", 10).unwrap();
    assert_eq!(fs::read_to_string(lease.path().join("name")).unwrap(), "a");
    assert_eq!(find(&cache, "a").unwrap().path(), lease.path());
    assert!(find(&cache, "b").is_none());
    assert!(cache.find(&address("a"), &version("2")).is_none());
    assert_eq!(cache.used_bytes(), 10);
}

#[test]
fn least_recently_used_artifacts_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 3 * STEP).unwrap();
    for name in ["a", "b", "c"] {
        put(&cache, name, STEP).unwrap();
    }
    find(&cache, "a").unwrap();
    put(&cache, "d", STEP).unwrap();
    assert!(find(&cache, "b").is_none());
    assert!(["a", "c", "d"].iter().all(|name| find(&cache, name).is_some()));
    assert_eq!(cache.used_bytes(), 3 * STEP);
    assert_eq!(n_below(&folder.path().join("artifacts")), 3);
    assert_eq!(n_below(&folder.path().join("incoming")), 0);
}

#[test]
fn a_leased_artifact_stays_until_its_last_lease_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    let lease = put(&cache, "a", STEP).unwrap();
    let second = find(&cache, "a").unwrap();
    let third = second.clone();
    drop((lease, second));
    let error = put(&cache, "b", STEP).unwrap_err();
    assert_eq!(error, NoRoom { needed_bytes: STEP, in_use_bytes: STEP, budget_bytes: STEP });
    assert!(third.path().join("name").exists());
    drop(third);
    put(&cache, "b", STEP).unwrap();
    assert!(find(&cache, "a").is_none());
}

#[test]
fn an_unfinished_artifact_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 3 * STEP).unwrap();
    let mut incoming = cache.begin().unwrap();
    incoming.cover(10).unwrap();
    assert_eq!(cache.used_bytes(), STEP);
    incoming.cover(STEP + 1).unwrap();
    assert_eq!(cache.used_bytes(), 2 * STEP);
    fs::write(incoming.folder().join("half"), "x").unwrap();
    drop(incoming);
    assert_eq!(cache.used_bytes(), 0);
    assert_eq!(n_below(&folder.path().join("incoming")), 0);
}

#[test]
fn the_budget_is_used_to_its_last_byte_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 100).unwrap();
    let whole = put(&cache, "a", 100).unwrap();
    assert!(put(&cache, "b", 1).is_err());
    drop(whole);
    assert!(put(&cache, "c", 101).is_err());
    put(&cache, "d", 100).unwrap();
    assert_eq!(cache.used_bytes(), 100);
}

#[test]
fn persisted_artifacts_survive_a_restart_in_the_order_of_their_use() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 3 * STEP).unwrap();
    for name in ["a", "b", "c"] {
        put(&cache, name, STEP).unwrap();
        cache.persist(&address(name), &version("1")).unwrap();
    }
    put(&cache, "not persisted", 0).unwrap();
    find(&cache, "a").unwrap();
    drop(cache);
    // As a killed process leaves it.
    fs::create_dir_all(folder.path().join("incoming/7/unpacked")).unwrap();

    let cache = DiskCache::open(folder.path(), 3 * STEP).unwrap();
    assert_eq!(cache.used_bytes(), 3 * STEP);
    assert_eq!(n_below(&folder.path().join("incoming")), 0);
    assert_eq!(n_below(&folder.path().join("artifacts")), 3);
    put(&cache, "d", STEP).unwrap();
    assert!(find(&cache, "b").is_none());
    let lease = find(&cache, "a").unwrap();
    assert_eq!(fs::read_to_string(lease.path().join("name")).unwrap(), "a");
}

#[test]
fn what_has_no_valid_record_is_deleted_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path().join("artifacts");
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    let lease = put(&cache, "a", 10).unwrap();
    cache.persist(&address("a"), &version("1")).unwrap();
    let good = lease.path().parent().unwrap().to_owned();
    drop((lease, cache));
    fs::create_dir_all(artifacts.join("empty")).unwrap();
    fs::write(artifacts.join("file"), "x").unwrap();
    let broken = artifacts.join("broken");
    fs::create_dir_all(broken.join(ARTIFACT)).unwrap();
    fs::write(broken.join("record.json"), "{").unwrap();
    // A record that belongs to another artifact.
    let moved = artifacts.join("moved");
    fs::create_dir_all(moved.join(ARTIFACT)).unwrap();
    fs::copy(good.join("record.json"), moved.join("record.json")).unwrap();

    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    assert_eq!(n_below(&artifacts), 1);
    assert!(good.is_dir());
    assert_eq!(cache.used_bytes(), 10);
}

#[test]
fn a_smaller_budget_is_kept_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 3 * STEP).unwrap();
    for name in ["a", "b", "c"] {
        put(&cache, name, STEP).unwrap();
        cache.persist(&address(name), &version("1")).unwrap();
    }
    drop(cache);
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    assert_eq!(cache.used_bytes(), STEP);
    assert!(find(&cache, "c").is_some());
}

#[test]
fn two_workers_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = DiskCache::open(folder.path(), STEP).unwrap();
    let error = DiskCache::open(folder.path(), STEP).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cache folder `{}` is used by another worker", folder.path().display())
    );
    drop(first);
    DiskCache::open(folder.path(), STEP).unwrap();
}

#[test]
fn many_threads_that_make_room_keep_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 4 * STEP).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..25 {
                    let lease = put(cache, &format!("{thread}-{n}"), STEP);
                    assert!(cache.used_bytes() <= cache.budget_bytes());
                    assert!(lease.unwrap().path().join("name").exists());
                }
            });
        }
    });
    assert_eq!(n_below(&folder.path().join("artifacts")), 4);
}
