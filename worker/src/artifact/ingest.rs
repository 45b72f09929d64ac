//! The story of one fetch: locate, then find on disk, or download and unpack in one pass.
//!
//! When the store does not give what it has, the version that came last is served from disk; only
//! its definite "there is none" ends that.
//!
//! Whoever calls [`Ingest::fetch`] makes sure that one address is fetched once at a time
//! (`actors/fetcher.rs` does).

use super::{
    ArtifactSource, ArtifactVersion, FetchError, Located, Otherwise, Standing,
    disk_cache::{ArtifactLease, DiskCache},
    unpack::{Layout, Limits, Packed, Room as _, UnpackError, unpack},
};
use shared::{address::ArtifactAddress, telemetry::Chain};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::io::SyncIoBridge;
use tracing::{info, warn};

/// How often an artifact may be replaced under one fetch. More often than twice in a row is no
/// upload but a loop.
const MAX_VERSIONS: usize = 3;

/// How long a fetch waits for the store's word when a version is on disk. Stores answer within 200 ms
/// nearly always; one that stalls must not hold what is here.
const PATIENCE_WITH_LAST: Duration = Duration::from_secs(2);

/// The same once a store has made one wait for so long in vain, and until it answers again.
const PATIENCE_WITH_SLOW: Duration = Duration::from_millis(50);

/// Questions to a slow store that are kept waiting although nobody wants the answer: it says that the
/// store is back. One would do; they end with the source's own time-outs.
const MAX_LATE: usize = 4;

/// Why a fetch breaks off when the worker ends.
pub const STOPPING: &str = "this instance is stopping";

/// An artifact on this instance's disk.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Holds the artifact on disk until it is dropped.
    pub lease: ArtifactLease,
    pub version: ArtifactVersion,
    pub standing: Standing,
    /// Whether its bytes came over the network for this fetch.
    pub downloaded: bool,
    pub elapsed: Duration,
}

/// Brings artifacts onto the disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    source: Arc<dyn ArtifactSource>,
    cache: Arc<DiskCache>,
    limits: Limits,
    layout: Layout,
    downloads: Arc<Semaphore>,
    is_stopping: Arc<AtomicBool>,
    /// Whether the store has kept somebody waiting in vain, and not answered since.
    is_slow: Arc<AtomicBool>,
    late: Arc<Semaphore>,
}

impl Ingest {
    /// At most `max_downloads` artifacts are downloaded and unpacked at once; more wait. An
    /// artifact that is on disk already waits for none of them.
    pub fn new(
        source: Arc<dyn ArtifactSource>,
        cache: Arc<DiskCache>,
        limits: Limits,
        max_downloads: usize,
    ) -> Self {
        let downloads = Arc::new(Semaphore::new(max_downloads));
        let late = Arc::new(Semaphore::new(MAX_LATE));
        let (is_stopping, is_slow) = Default::default();
        let layout = Layout::default();
        Self { source, cache, limits, layout, downloads, is_stopping, is_slow, late }
    }

    /// Unpacks archives in this way. What is in the cache has to be unpacked so, too.
    #[must_use]
    pub fn laid_out(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// Returns an artifact as a folder on disk: its current version, or what may be given otherwise.
    pub async fn fetch(
        &self,
        address: &ArtifactAddress,
        otherwise: Otherwise,
    ) -> Result<Fetched, FetchError> {
        let started = Instant::now();
        let mut outcome = Err(FetchError::Changed(address.clone()));
        for _ in 0..MAX_VERSIONS {
            outcome = self.fetch_current(address, otherwise).await;
            if !matches!(outcome, Err(FetchError::Changed(_))) {
                break;
            }
            info!(%address, "artifact changed, fetching again");
        }
        let (lease, version, downloaded) = match outcome {
            Ok(current) => current,
            Err(error) => return self.last(address, error, otherwise),
        };
        let standing = Standing::Current;
        Ok(Fetched { lease, version, standing, downloaded, elapsed: started.elapsed() })
    }

    /// Returns which version an address stands for now.
    pub async fn locate(&self, address: &ArtifactAddress) -> Result<ArtifactVersion, FetchError> {
        self.ask(address).await.map(Located::into_version)
    }

    /// Deletes artifacts from the disk, leased ones when their last lease is dropped.
    pub async fn discard(
        &self,
        is_to_go: impl Fn(&ArtifactAddress, &ArtifactVersion) -> bool + Send + 'static,
    ) {
        let cache = Arc::clone(&self.cache);
        // At a stop there is nobody to tell.
        let _ = tokio::task::spawn_blocking(move || cache.remove(is_to_go)).await;
    }

    /// Makes a fetched artifact survive a restart. Takes as long as the disk does, so nobody
    /// waits for it: an artifact that is not persisted is only fetched again.
    pub async fn persist(&self, address: ArtifactAddress, version: ArtifactVersion) {
        let cache = Arc::clone(&self.cache);
        let persist = move || {
            if let Err(error) = cache.persist(&address, &version) {
                warn!(%address, error = %Chain(&error), "artifact will not survive a restart");
            }
        };
        // It logs its own failure, and at a stop there is nobody to tell.
        let _ = tokio::task::spawn_blocking(persist).await;
    }

    /// Breaks off every download at its next byte: at its end a process waits for its threads.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the version that came last, if this failure leaves it standing.
    fn last(
        &self,
        address: &ArtifactAddress,
        error: FetchError,
        otherwise: Otherwise,
    ) -> Result<Fetched, FetchError> {
        let Some(standing) = error.standing(otherwise) else { return Err(error) };
        let Some((version, lease)) = self.cache.last(address) else { return Err(error) };
        let etag = &version.etag;
        warn!(%address, etag, error = %Chain(&error), "serving the last version from disk");
        Ok(Fetched { lease, version, standing, downloaded: false, elapsed: Duration::ZERO })
    }

    async fn fetch_current(
        &self,
        address: &ArtifactAddress,
        otherwise: Otherwise,
    ) -> Result<(ArtifactLease, ArtifactVersion, bool), FetchError> {
        let version = match self.locate_for(address, otherwise).await? {
            Located::Folder { path, version } => {
                return Ok((ArtifactLease::in_place(path), version, false));
            }
            Located::Packed(version) => version,
        };
        if let Some(lease) = self.cache.find(address, &version) {
            return Ok((lease, version, false));
        }
        let lease = self.download(address, &version).await?;
        Ok((lease, version, true))
    }

    /// Asks the store, and waits for long only if nothing else could be given.
    async fn locate_for(
        &self,
        address: &ArtifactAddress,
        otherwise: Otherwise,
    ) -> Result<Located, FetchError> {
        if otherwise == Otherwise::Nothing || self.cache.last(address).is_none() {
            return self.ask(address).await;
        }
        let is_slow = self.is_slow.load(Ordering::Relaxed);
        let patience = if is_slow { PATIENCE_WITH_SLOW } else { PATIENCE_WITH_LAST };
        let mut asking = {
            let (ingest, address) = (self.clone(), address.clone());
            Box::pin(async move { ingest.ask(&address).await })
        };
        if let Ok(located) = timeout(patience, &mut asking).await {
            return located;
        }
        self.is_slow.store(true, Ordering::Relaxed);
        if let Ok(permit) = Arc::clone(&self.late).try_acquire_owned() {
            // An answer that comes late still says that the store is back.
            tokio::spawn(async move {
                let _permit = permit;
                // What it says is asked for again by who needs it.
                let _ = asking.await;
            });
        }
        Err(FetchError::unavailable(address, "the store did not say in time what it has"))
    }

    /// Asks the store what an address stands for, and notes that it answers.
    async fn ask(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        let located = self.source.locate(address).await;
        if !matches!(located, Err(FetchError::Unavailable(..))) {
            self.is_slow.store(false, Ordering::Relaxed);
        }
        located
    }

    async fn download(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactLease, FetchError> {
        let downloads = Arc::clone(&self.downloads);
        let permit = downloads.acquire_owned().await.expect("the semaphore is never closed");
        let download = Download {
            ingest: self.clone(),
            address: address.clone(),
            version: version.clone(),
            _permit: permit,
        };
        // On a blocking thread: unpacking computes and writes. It ends, because every read of a
        // source does.
        let done = tokio::task::spawn_blocking(move || download.run()).await;
        done.unwrap_or_else(|_| {
            Err(FetchError::Interrupted(address.clone(), "unpacking it panicked"))
        })
    }
}

/// One download, on its blocking thread.
struct Download {
    ingest: Ingest,
    address: ArtifactAddress,
    version: ArtifactVersion,
    _permit: OwnedSemaphorePermit,
}

impl Download {
    fn run(&self) -> Result<ArtifactLease, FetchError> {
        let Ingest { source, cache, limits, layout, .. } = &self.ingest;
        let mut incoming = cache.begin().map_err(|error| self.no_space(&error))?;
        // Hardly anything unpacks to less than its packed size: ask before a byte is fetched.
        incoming.cover(self.version.size_bytes).map_err(|error| self.no_space(&error))?;

        let bytes = Handle::current().block_on(source.open(&self.address, &self.version))?;
        let bytes = Stoppable { bytes: SyncIoBridge::new(bytes), download: self };
        let packed = Packed::new(bytes, self.version.size_bytes);
        let folder = incoming.folder().to_owned();
        let unpacked = unpack(&packed, &folder, &mut incoming, limits, *layout);
        let size_bytes = unpacked.map_err(|error| match packed.take_failure() {
            Some(failure) => FetchError::from_reader(&self.address, failure),
            None => self.unpack_failed(&error),
        })?;
        let finished = incoming.finish(&self.address, &self.version, size_bytes);
        finished.map_err(|error| self.no_space(&error))
    }

    fn unpack_failed(&self, error: &UnpackError) -> FetchError {
        match error {
            UnpackError::Flaw(flaw) => {
                let version = Some(Box::new(self.version.clone()));
                FetchError::Refused(self.address.clone(), flaw.to_string(), version)
            }
            UnpackError::NoRoom(_) | UnpackError::Disk(_) => self.no_space(error),
        }
    }

    fn no_space(&self, error: &(dyn std::error::Error + 'static)) -> FetchError {
        FetchError::NoSpace(self.address.clone(), Chain(error).to_string())
    }
}

/// The bytes of a download until the instance stops.
struct Stoppable<'a, R> {
    bytes: R,
    download: &'a Download,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Download { ingest, address, .. } = self.download;
        if ingest.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other(FetchError::Interrupted(address.clone(), STOPPING)));
        }
        self.bytes.read(buffer)
    }
}
