//! The fetcher through its handle, on a real disk cache and sources made here.

use super::*;
use crate::artifact::{
    ArtifactBytes, ArtifactSource, Located, disk_cache::DiskCache, unpack::Limits,
};
use futures_util::{StreamExt as _, future::join_all, poll, stream::FuturesUnordered};
use parking_lot::Mutex;
use shared::api::error::ErrorKind;
use std::{
    fs,
    io::{self, Cursor, Write as _},
    path::PathBuf,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::Barrier,
};

mod last_version;

/// Artifacts in memory; their names say how they misbehave.
#[derive(Debug, Default)]
struct Shelf {
    objects: Mutex<HashMap<String, Vec<u8>>>,
    n_located: AtomicUsize,
    n_opened: AtomicUsize,
    /// Whether it answers at all.
    is_out: AtomicBool,
    /// Whether it takes questions and answers none.
    is_stalled: AtomicBool,
    /// Two downloads at a time, or none goes on.
    pairs: Option<Barrier>,
    n_open: Arc<AtomicUsize>,
    peak_open: AtomicUsize,
}

/// Counts a reader for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Reader {
    bytes: Cursor<Vec<u8>>,
    _open: Open,
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().bytes).poll_read(ctx, buffer)
    }
}

impl Shelf {
    fn put(&self, name: &str, bytes: Vec<u8>) {
        self.objects.lock().insert(address(name).to_string(), bytes);
    }

    fn version(bytes: &[u8]) -> ArtifactVersion {
        let etag = xxhash_rust::xxh3::xxh3_64(bytes).to_string();
        ArtifactVersion { etag, size_bytes: bytes.len() as u64 }
    }
}

#[async_trait::async_trait]
impl ArtifactSource for Shelf {
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        self.n_located.fetch_add(1, Ordering::SeqCst);
        let name = address.to_string();
        assert!(!name.ends_with("cursed"), "cursed");
        if name.ends_with("folder") {
            let version = Self::version(b"");
            return Ok(Located::Folder { path: PathBuf::from("/srv/folder"), version });
        }
        if self.is_out.load(Ordering::SeqCst) {
            return Err(FetchError::unavailable(address, "out of order"));
        }
        if name.ends_with("never") || self.is_stalled.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let bytes = self.objects.lock().get(&name).cloned();
        let bytes = bytes.ok_or_else(|| FetchError::NotFound(address.clone()))?;
        Ok(Located::Packed(Self::version(&bytes)))
    }

    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError> {
        self.n_opened.fetch_add(1, Ordering::SeqCst);
        let name = address.to_string();
        let n_open = self.n_open.fetch_add(1, Ordering::SeqCst) + 1;
        let open = Open(Arc::clone(&self.n_open));
        self.peak_open.fetch_max(n_open, Ordering::SeqCst);
        if let Some(pairs) = &self.pairs {
            pairs.wait().await;
        }
        let bytes = self.objects.lock().get(&name).cloned().unwrap_or_default();
        if name.ends_with("replaced-once") && self.n_opened.load(Ordering::SeqCst) == 1 {
            self.objects.lock().insert(name.clone(), archive("second"));
        }
        if name.ends_with("replaced-always") {
            let nth = self.n_opened.load(Ordering::SeqCst);
            self.objects.lock().insert(name.clone(), archive(&nth.to_string()));
        }
        let current = self.objects.lock().get(&name).cloned().unwrap_or_default();
        if Self::version(&current) != *version {
            return Err(FetchError::Changed(address.clone()));
        }
        let keep = if name.ends_with("truncated") { bytes.len() / 2 } else { bytes.len() };
        Ok(Box::new(Reader { bytes: Cursor::new(bytes[..keep].to_vec()), _open: open }))
    }
}

fn address(name: &str) -> ArtifactAddress {
    format!("s3://bucket/{name}").parse().unwrap()
}

/// A gzip'd tar with one file.
fn archive(content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, "content", content.as_bytes()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

fn content(fetched: &Fetched) -> String {
    fs::read_to_string(fetched.lease.path().join("content")).unwrap()
}

struct Setup {
    fetcher: Fetcher,
    shelf: Arc<Shelf>,
    cache: Arc<DiskCache>,
    folder: tempfile::TempDir,
}

impl Setup {
    async fn new(shelf: Shelf, budget_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, cache) =
            (Arc::new(shelf), DiskCache::open(folder.path(), budget_bytes).unwrap());
        let source = Arc::clone(&shelf) as Arc<dyn ArtifactSource>;
        let ingest = Ingest::new(source, Arc::clone(&cache), Limits::DEFAULT, 2);
        let fetcher = Fetcher::spawn(ingest, supervisor().await).await.unwrap();
        Self { fetcher, shelf, cache, folder }
    }

    async fn with_models(names: &[&str]) -> Self {
        let setup = Self::new(Shelf::default(), 1 << 30).await;
        for name in names {
            setup.shelf.put(name, archive(name));
        }
        setup
    }

    async fn fetch(&self, name: &str) -> Result<Fetched, FetchError> {
        self.fetcher.fetch(address(name), Otherwise::Last).await
    }

    fn n_opened(&self) -> usize {
        self.shelf.n_opened.load(Ordering::SeqCst)
    }

    fn assert_disk_is_empty(&self) {
        assert_eq!(self.cache.used_bytes(), 0);
        for folder in ["artifacts", "incoming"] {
            assert_eq!(fs::read_dir(self.folder.path().join(folder)).unwrap().count(), 0);
        }
    }
}

/// Watches and does nothing.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn supervisor() -> ActorCell {
    Actor::spawn(None, Supervisor, ()).await.unwrap().0.get_cell()
}

#[tokio::test]
async fn concurrent_fetches_share_one_download() {
    let setup = Setup::with_models(&["a"]).await;
    let outcomes = join_all((0..50).map(|_| setup.fetch("a"))).await;
    for outcome in &outcomes {
        let fetched = outcome.as_ref().unwrap();
        assert_eq!(content(fetched), "a");
        assert!(fetched.downloaded);
    }
    assert_eq!(setup.n_opened(), 1);
}

#[tokio::test]
async fn an_artifact_on_disk_is_not_downloaded_again() {
    let setup = Setup::with_models(&["a"]).await;
    let first = setup.fetch("a").await.unwrap();
    let second = setup.fetch("a").await.unwrap();
    assert!(first.downloaded && !second.downloaded);
    assert_eq!(first.lease.path(), second.lease.path());
    assert_eq!(setup.n_opened(), 1);
}

#[tokio::test]
async fn an_artifact_uploaded_after_a_failure_is_found_at_once() {
    let setup = Setup::with_models(&[]).await;
    for _ in 0..2 {
        let error = setup.fetch("late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArtifactNotFound);
    }
    setup.shelf.put("late", archive("late"));
    assert_eq!(content(&setup.fetch("late").await.unwrap()), "late");
}

#[tokio::test]
async fn a_failed_fetch_leaves_nothing_on_disk() {
    let setup = Setup::with_models(&["truncated"]).await;
    setup.shelf.put("garbage", b"garbage".to_vec());
    setup.shelf.put("cut", archive("cut")[..40].to_vec());
    for (name, kind) in [
        ("truncated", ErrorKind::StoreUnavailable),
        ("garbage", ErrorKind::BadArtifact),
        ("cut", ErrorKind::BadArtifact),
        ("absent", ErrorKind::ArtifactNotFound),
    ] {
        let error = setup.fetch(name).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        setup.assert_disk_is_empty();
    }
    let error = setup.fetch("cut").await.unwrap_err();
    assert_eq!(error.to_string(), "artifact `s3://bucket/cut` is refused: it is truncated");
}

#[tokio::test]
async fn an_artifact_beyond_the_disk_budget_is_refused_before_it_is_opened() {
    let setup = Setup::new(Shelf::default(), 50).await;
    setup.shelf.put("large", archive("large"));
    let error = setup.fetch("large").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientMemory);
    assert_eq!(setup.n_opened(), 0);
    setup.assert_disk_is_empty();
}

#[tokio::test]
async fn a_panic_comes_back_and_the_fetcher_goes_on() {
    let setup = Setup::with_models(&["a"]).await;
    let error = setup.fetch("cursed").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "fetch of artifact `s3://bucket/cursed` broke off: fetching it panicked"
    );
    assert_eq!(content(&setup.fetch("a").await.unwrap()), "a");
}

#[tokio::test]
async fn an_artifact_replaced_while_it_is_fetched_comes_in_its_new_version() {
    let setup = Setup::with_models(&["replaced-once"]).await;
    assert_eq!(content(&setup.fetch("replaced-once").await.unwrap()), "second");
}

#[tokio::test]
async fn an_artifact_replaced_again_and_again_is_given_up() {
    let setup = Setup::with_models(&["replaced-always"]).await;
    let error = setup.fetch("replaced-always").await.unwrap_err();
    assert!(matches!(error, FetchError::Changed(_)), "{error}");
    assert_eq!(setup.n_opened(), 3);
}

#[tokio::test]
async fn an_unpacked_folder_is_used_where_it_lies() {
    let setup = Setup::with_models(&[]).await;
    let fetched = setup.fetch("folder").await.unwrap();
    assert_eq!(fetched.lease.path(), std::path::Path::new("/srv/folder"));
    assert!(!fetched.downloaded);
    setup.assert_disk_is_empty();
}

#[tokio::test]
async fn only_so_many_downloads_run_at_once() {
    let names = ["a", "b", "c", "d"];
    let shelf = Shelf { pairs: Some(Barrier::new(2)), ..Shelf::default() };
    let setup = Setup::new(shelf, 1 << 30).await;
    for name in names {
        setup.shelf.put(name, archive(name));
    }
    // Each pair waits for one another: with fewer than two at once this would hang.
    for fetched in join_all(names.map(|name| setup.fetch(name))).await {
        fetched.unwrap();
    }
    assert_eq!(setup.shelf.peak_open.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_on_disk_does_not_wait_for_downloads() {
    let shelf = Shelf { pairs: Some(Barrier::new(3)), ..Shelf::default() };
    let setup = Setup::new(shelf, 1 << 30).await;
    setup.shelf.put("a", archive("a"));
    let lease = {
        // Put there without the shelf's barrier.
        let version = Shelf::version(&archive("a"));
        let incoming = setup.cache.begin().unwrap();
        fs::create_dir(incoming.folder().join("artifact")).unwrap();
        incoming.finish(&address("a"), &version, 0).unwrap()
    };
    setup.shelf.put("b", archive("b"));
    setup.shelf.put("c", archive("c"));
    let mut downloads: FuturesUnordered<_> =
        ["b", "c"].map(|name| Box::pin(setup.fetch(name))).into_iter().collect();
    assert!(poll!(downloads.next()).is_pending());
    assert_eq!(setup.fetch("a").await.unwrap().lease.path(), lease.path());
    // A third reader lets the two go on.
    let (address, version) = (address("a"), Shelf::version(&archive("a")));
    let third = setup.shelf.open(&address, &version);
    let ((), opened) = tokio::join!(async { while downloads.next().await.is_some() {} }, third);
    assert!(opened.is_ok());
}

#[tokio::test]
async fn more_callers_than_can_wait_are_turned_away() {
    let setup = Setup::with_models(&["a"]).await;
    let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(setup.fetch("never"))).collect();
    for fetch in &mut waiting {
        assert!(poll!(fetch).is_pending());
    }
    let error = setup.fetch("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_stopped_fetcher_says_so() {
    let setup = Setup::with_models(&["a"]).await;
    setup.fetcher.actor.stop_and_wait(None, None).await.unwrap();
    let error = setup.fetch("a").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "fetch of artifact `s3://bucket/a` broke off: this instance is stopping"
    );
}

#[tokio::test]
async fn a_stopped_fetcher_breaks_off_its_downloads() {
    let shelf = Shelf { pairs: Some(Barrier::new(2)), ..Shelf::default() };
    let setup = Setup::new(shelf, 1 << 30).await;
    setup.shelf.put("a", archive("a"));
    let mut fetch = Box::pin(setup.fetch("a"));
    while setup.n_opened() == 0 {
        assert!(poll!(&mut fetch).is_pending());
        tokio::task::yield_now().await;
    }
    setup.fetcher.actor.stop_and_wait(None, None).await.unwrap();
    // The second of the pair lets the download go on.
    setup.shelf.open(&address("a"), &Shelf::version(&archive("a"))).await.unwrap();
    assert!(matches!(fetch.await, Err(FetchError::Interrupted(_, STOPPING))));
    while setup.cache.used_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    setup.assert_disk_is_empty();
}

#[tokio::test]
async fn leases_keep_an_artifact_and_their_end_lets_it_go() {
    // Room for one artifact at a time.
    let setup = Setup::new(Shelf::default(), 24 << 10).await;
    for name in ["a", "b"] {
        setup.shelf.put(name, archive(&name.repeat(5000)));
    }
    let first = setup.fetch("a").await.unwrap();
    let error = setup.fetch("b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientMemory);
    let path = first.lease.path().to_owned();
    drop(first);
    setup.fetch("b").await.unwrap();
    assert!(!path.exists());
}
