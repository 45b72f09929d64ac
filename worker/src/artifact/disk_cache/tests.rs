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

/// The smallest that counts for an artifact.
const LEAST: u64 = FRAME_BYTES;

/// Puts an artifact into the cache that counts as `whole_bytes`.
fn put(cache: &Arc<DiskCache>, name: &str, whole_bytes: u64) -> Result<ArtifactLease, NoRoom> {
    let mut incoming = cache.begin().unwrap();
    let size_bytes = whole_bytes - LEAST;
    incoming.cover(size_bytes)?;
    fs::create_dir(incoming.folder().join(ARTIFACT)).unwrap();
    fs::write(incoming.folder().join(ARTIFACT).join("name"), name).unwrap();
    Ok(incoming.finish(&address(name), &version("1"), size_bytes).unwrap())
}

/// Puts another version of an artifact into the cache.
fn put_version(cache: &Arc<DiskCache>, name: &str, etag: &str) -> ArtifactLease {
    let mut incoming = cache.begin().unwrap();
    incoming.cover(0).unwrap();
    fs::create_dir(incoming.folder().join(ARTIFACT)).unwrap();
    incoming.finish(&address(name), &version(etag), 0).unwrap()
}

fn last(cache: &Arc<DiskCache>, name: &str) -> Option<String> {
    cache.last(&address(name)).map(|(version, _)| version.etag)
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
    let lease = put(&cache, "a", LEAST + 10).unwrap();
    assert_eq!(fs::read_to_string(lease.path().join("name")).unwrap(), "a");
    assert_eq!(find(&cache, "a").unwrap().path(), lease.path());
    assert!(find(&cache, "b").is_none());
    assert!(cache.find(&address("a"), &version("2")).is_none());
    assert_eq!(cache.used_bytes(), LEAST + 10);
}

#[test]
fn the_last_version_is_the_one_that_was_used_last_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    assert_eq!(last(&cache, "a"), None);
    for etag in ["1", "2"] {
        put_version(&cache, "a", etag);
        cache.persist(&address("a"), &version(etag)).unwrap();
    }
    put_version(&cache, "b", "3");
    assert_eq!(last(&cache, "a").as_deref(), Some("2"));
    cache.find(&address("a"), &version("1")).unwrap();
    assert_eq!(last(&cache, "a").as_deref(), Some("1"));

    drop(cache);
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    assert_eq!(last(&cache, "a").as_deref(), Some("1"));
}

#[test]
fn what_is_told_to_go_goes_at_once_or_with_its_last_lease() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    let leased = put_version(&cache, "a", "1");
    for (name, etag) in [("a", "2"), ("a", "3"), ("b", "1")] {
        put_version(&cache, name, etag);
    }

    cache.remove(|it, version| *it == address("a") && version.etag != "3");

    assert_eq!(n_below(&folder.path().join("artifacts")), 3);
    assert!(leased.path().exists());
    assert_eq!(last(&cache, "a").as_deref(), Some("3"), "one that is to go is not the last");
    drop(leased);
    assert!(find(&cache, "a").is_none() && find(&cache, "b").is_some());
    assert_eq!(n_below(&folder.path().join("artifacts")), 2);
    assert_eq!(n_below(&folder.path().join("incoming")), 0);
    assert_eq!(cache.used_bytes(), 2 * LEAST);
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
    let budget_bytes = LEAST + 100;
    let cache = DiskCache::open(folder.path(), budget_bytes).unwrap();
    let whole = put(&cache, "a", budget_bytes).unwrap();
    assert!(put(&cache, "b", LEAST).is_err());
    drop(whole);
    assert!(put(&cache, "c", budget_bytes + 1).is_err());
    put(&cache, "d", budget_bytes).unwrap();
    assert_eq!(cache.used_bytes(), budget_bytes);
}

#[test]
fn persisted_artifacts_survive_a_restart_in_the_order_of_their_use() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 4 * STEP).unwrap();
    for name in ["a", "b", "c"] {
        put(&cache, name, STEP).unwrap();
        cache.persist(&address(name), &version("1")).unwrap();
    }
    put(&cache, "not persisted", LEAST).unwrap();
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
    let lease = put(&cache, "a", LEAST + 10).unwrap();
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
    assert_eq!(cache.used_bytes(), LEAST + 10);
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

#[test]
fn threads_with_artifacts_of_unequal_size_never_lack_room_that_is_being_made() {
    let folder = tempfile::tempdir().unwrap();
    // Four threads hold a step each at most, so there is always room for one more artifact.
    let cache = DiskCache::open(folder.path(), 4 * STEP).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..50_u64 {
                    let size_bytes = STEP >> ((thread + n * 7) % 5);
                    let lease = put(cache, &format!("{thread}-{n}"), size_bytes);
                    assert!(lease.unwrap().path().join("name").exists());
                    assert!(cache.used_bytes() <= cache.budget_bytes());
                }
            });
        }
    });
}

/// Takes an artifact out of the cache without deleting it yet.
fn move_out(cache: &DiskCache, name: &str) -> Vec<Trash> {
    let digest = record::digest(&address(name), &version("1"));
    cache.move_out(&mut cache.state.lock(), vec![digest])
}

#[test]
fn room_that_another_thread_makes_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    put(&cache, "a", STEP).unwrap();
    let leaving = move_out(&cache, "a");
    assert_eq!(cache.used_bytes(), STEP, "it counts until it is gone");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| put(&cache, "b", STEP).map(drop));
        cache.delete(leaving);
        assert_eq!(second.join().unwrap(), Ok(()));
    });
    assert_eq!(cache.used_bytes(), STEP);
}

#[test]
fn an_artifact_comes_again_while_it_is_being_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 2 * STEP).unwrap();
    put(&cache, "a", STEP).unwrap();
    let leaving = move_out(&cache, "a");
    assert!(find(&cache, "a").is_none());
    let lease = put(&cache, "a", STEP).unwrap();
    cache.delete(leaving);
    assert_eq!(fs::read_to_string(lease.path().join("name")).unwrap(), "a");
    assert_eq!(cache.used_bytes(), STEP);
}

#[test]
fn an_artifact_that_cannot_leave_stays_counted_and_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), STEP).unwrap();
    put(&cache, "a", STEP).unwrap();
    let mut incoming = cache.begin().unwrap();
    // Nothing can be moved into a file.
    let (place, aside) = (folder.path().join("incoming"), folder.path().join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "").unwrap();
    let no_room = NoRoom { needed_bytes: LEAST, in_use_bytes: STEP, budget_bytes: STEP };
    assert_eq!(incoming.cover(0), Err(no_room));
    assert_eq!(cache.used_bytes(), STEP);
    assert!(find(&cache, "a").is_some());
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
}

#[test]
fn an_artifact_whose_files_are_gone_is_forgotten_and_can_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 2 * STEP).unwrap();
    let path = put(&cache, "a", STEP).unwrap().path().to_owned();
    cache.persist(&address("a"), &version("1")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert!(find(&cache, "a").is_none());
    assert_eq!(cache.used_bytes(), 0);
    let lease = put(&cache, "a", STEP).unwrap();
    assert_eq!(n_below(&folder.path().join("incoming")), 0);

    // Also while somebody holds it.
    fs::remove_dir_all(&path).unwrap();
    assert!(find(&cache, "a").is_none());
    let second = put(&cache, "a", STEP).unwrap();
    assert_eq!(cache.used_bytes(), STEP);
    drop(lease);
    assert!(put(&cache, "b", 2 * STEP).is_err(), "the second lease holds it");
    drop(second);
    put(&cache, "b", 2 * STEP).unwrap();
}

#[test]
fn a_folder_into_which_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("cache");
    drop(DiskCache::open(&folder, STEP).unwrap());
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for open_to_others in [0o777, 0o1777, 0o770, 0o720, 0o702] {
        mode(open_to_others);
        let error = DiskCache::open(&folder, STEP).unwrap_err().to_string();
        let text = format!("cache folder `{}` can be changed by others", folder.display());
        assert!(error.starts_with(&text), "{open_to_others:o}: {error}");
    }
    mode(0o755);
    DiskCache::open(&folder, STEP).unwrap();
}
