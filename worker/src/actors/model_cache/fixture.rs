//! A model cache for tests: real fetcher, folders as artifacts, a scripted runtime.

use super::*;
use crate::{
    actors::instance::Instance,
    artifact::{
        ArtifactBytes, ArtifactSource, Located, dir::DirSource, disk_cache::DiskCache,
        ingest::Ingest, unpack::Limits,
    },
    compute::ComputeLimits,
    runtime::{
        Artifact, Description, Footprint, Model, ModelInput, ModelOutput, Outside, Place, Prospect,
        RuntimeError,
    },
};
use shared::api::error::ErrorKind;
use std::{
    fs, future,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::SystemTime,
};
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const MAX_QUEUED: usize = 4;
const COMPUTE: ComputeLimits =
    ComputeLimits { n_slots: 2, n_queued_invocations: 8, n_queued_loads: 8 };

/// Loads folders that say in a file `script` what shall happen: a size in bytes, `bad`, `panic`
/// (at the load), `cursed` (a panic at each invocation), `slow`, or `outside` (two MiB are expected, none
/// are taken).
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    n_estimates: AtomicUsize,
    n_loads: AtomicUsize,
    /// Whether models outside are kept from starting.
    holds_starts: watch::Sender<bool>,
}

/// A model outside that answers nothing.
#[derive(Debug)]
struct ScriptedOutside;

#[async_trait::async_trait]
impl Outside for ScriptedOutside {
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    async fn invoke(&self, _: ModelInput, _: Instant) -> Result<ModelOutput, RuntimeError> {
        future::pending().await
    }

    async fn unload(&self) {}

    fn describe(&self) -> Description {
        Description::inside(SystemTime::now(), self.footprint())
    }

    async fn scale(&self, _: usize, _: usize) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[derive(Debug)]
struct ScriptedModel {
    size_bytes: u64,
    is_cursed: bool,
    takes: Duration,
}

impl Scripted {
    fn script(artifact: &Path) -> String {
        fs::read_to_string(artifact.join("script")).unwrap()
    }
}

#[async_trait::async_trait]
impl Runtime for Scripted {
    fn inspect(&self, _: &ArtifactAddress, artifact: &Path) -> Result<Prospect, RuntimeError> {
        self.n_estimates.fetch_add(1, Ordering::SeqCst);
        let script = Self::script(artifact);
        if script == "outside" {
            return Ok(Prospect { needed_bytes: 2 * MIB, place: Place::Outside });
        }
        Ok(Prospect { needed_bytes: script.parse().unwrap_or(0), place: Place::Slots })
    }

    fn load(&self, _: &ArtifactAddress, artifact: &Path) -> Result<Arc<dyn Model>, RuntimeError> {
        self.n_loads.fetch_add(1, Ordering::SeqCst);
        let script = Self::script(artifact);
        match script.as_str() {
            "panic" => panic!("scripted panic of a load"),
            "bad" => return Err(RuntimeError::BadArtifact("scripted".to_owned())),
            _ => {}
        }
        let size_bytes = script.parse().unwrap_or(0);
        let takes = Duration::from_millis(if script == "slow" { 20 } else { 0 });
        Ok(Arc::new(ScriptedModel { size_bytes, is_cursed: script == "cursed", takes }))
    }

    async fn start(&self, _: Artifact) -> Result<Arc<dyn Outside>, RuntimeError> {
        self.n_loads.fetch_add(1, Ordering::SeqCst);
        released(&self.holds_starts).await;
        Ok(Arc::new(ScriptedOutside))
    }
}

impl Model for ScriptedModel {
    fn footprint(&self) -> Footprint {
        Footprint { resident_bytes: self.size_bytes, workspace_bytes: 0 }
    }

    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError> {
        assert!(!self.is_cursed, "scripted panic of an invocation");
        std::thread::sleep(self.takes);
        Ok(ModelOutput::new("text/plain", input.body.clone()))
    }
}

/// A folder of artifacts that may fall silent.
#[derive(Debug)]
struct Store {
    folder: DirSource,
    is_silent: AtomicBool,
    n_opened: AtomicUsize,
    n_located: AtomicUsize,
    /// Whether answers that are found are kept back, and bytes are.
    holds_answers: watch::Sender<bool>,
    holds_bytes: watch::Sender<bool>,
}

async fn released(is_held: &watch::Sender<bool>) {
    // The sender is borrowed: it is not dropped meanwhile.
    let _ = is_held.subscribe().wait_for(|it| !*it).await;
}

#[async_trait::async_trait]
impl ArtifactSource for Store {
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        if self.is_silent.load(Ordering::SeqCst) {
            future::pending::<()>().await;
        }
        let located = self.folder.locate(address).await;
        self.n_located.fetch_add(1, Ordering::SeqCst);
        released(&self.holds_answers).await;
        located
    }

    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError> {
        self.n_opened.fetch_add(1, Ordering::SeqCst);
        released(&self.holds_bytes).await;
        self.folder.open(address, version).await
    }
}

/// A model cache with a budget of 3 MiB and a folder of artifacts.
pub(crate) struct Fixture {
    pub(crate) cache: ModelCache,
    pub(crate) instance: Instance,
    pub(crate) metrics: CacheMetrics,
    runtime: Arc<Scripted>,
    store: Arc<Store>,
    artifacts: TempDir,
    disk: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with_age(Duration::from_secs(30)).await
    }

    /// A model cache whose stores are asked again at this age.
    pub(crate) async fn with_age(max_age: Duration) -> Self {
        let (artifacts, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let instance = Instance::spawn().await.unwrap();
        let folder = DirSource::new(vec![artifacts.path().to_owned()]);
        let store = Arc::new(Store {
            folder,
            is_silent: AtomicBool::new(false),
            n_opened: AtomicUsize::new(0),
            n_located: AtomicUsize::new(0),
            holds_answers: watch::Sender::new(false),
            holds_bytes: watch::Sender::new(false),
        });
        let cache = DiskCache::open(disk.path(), 100 * MIB).unwrap();
        let ingest = Ingest::new(Arc::clone(&store) as _, cache, Limits::DEFAULT, 4);
        let (runtime, metrics) = (Arc::new(Scripted::default()), CacheMetrics::default());
        let parts = ModelCacheParts {
            fetcher: Fetcher::spawn(ingest, instance.supervisor()).await.unwrap(),
            runtime: Arc::clone(&runtime) as _,
            compute: Arc::new(Compute::new(COMPUTE, || {}).unwrap()),
            budget_bytes: 3 * MIB,
            max_age,
            max_queued: MAX_QUEUED,
            metrics: metrics.clone(),
            replica_metrics: ReplicaMetrics::default(),
        };
        let cache = ModelCache::spawn(parts, instance.supervisor()).await.unwrap();
        Self { cache, instance, metrics, runtime, store, artifacts, disk }
    }

    /// Publishes an artifact with a script.
    pub(crate) fn artifact(&self, name: &str, script: &str) -> ArtifactAddress {
        let path = self.artifacts.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("script"), script).unwrap();
        ArtifactAddress::File { path }
    }

    /// Publishes an artifact as an archive, so that it comes onto the disk of the instance.
    pub(crate) fn packed(&self, name: &str, script: &str) -> ArtifactAddress {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(script.len() as u64);
        archive.append_data(&mut header, "script", script.as_bytes()).unwrap();
        let (fresh, path) = (self.artifacts.path().join("fresh"), self.artifacts.path().join(name));
        fs::write(&fresh, archive.into_inner().unwrap()).unwrap();
        // As an upload does: a new object takes the old one's place.
        fs::rename(fresh, &path).unwrap();
        ArtifactAddress::File { path }
    }

    /// Where artifacts are published.
    pub(crate) fn prefix(&self) -> String {
        format!("file://{}/", self.artifacts.path().display())
    }

    pub(crate) fn delete(&self, name: &str) {
        fs::remove_file(self.artifacts.path().join(name)).unwrap();
    }

    /// Lets the store answer no more, or again.
    pub(crate) fn silence_store(&self, is_silent: bool) {
        self.store.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Keeps models outside from starting, or lets them.
    pub(crate) fn hold_starts(&self, is_held: bool) {
        self.runtime.holds_starts.send_replace(is_held);
    }

    /// Keeps back what the store has found out from now on, or lets it go.
    pub(crate) fn hold_answers(&self, is_held: bool) {
        self.store.holds_answers.send_replace(is_held);
    }

    /// Keeps back the bytes of downloads that begin, or lets them go.
    pub(crate) fn hold_bytes(&self, is_held: bool) {
        self.store.holds_bytes.send_replace(is_held);
    }

    /// How often the store has found out about an artifact.
    pub(crate) fn n_located(&self) -> usize {
        self.store.n_located.load(Ordering::SeqCst)
    }

    /// Lets everything go whose name begins so.
    pub(crate) async fn unload_below(&self, name: &str) -> usize {
        let prefix = format!("{}{name}", self.prefix());
        self.cache.unload_below(Below { prefix, except: Vec::new() }).await
    }

    /// Downloads that have begun.
    pub(crate) fn n_opened(&self) -> usize {
        self.store.n_opened.load(Ordering::SeqCst)
    }

    /// Artifacts on the instance's disk.
    pub(crate) fn n_on_disk(&self) -> usize {
        let count = |name| fs::read_dir(self.disk.path().join(name)).unwrap().count();
        count("artifacts") + count("incoming")
    }

    /// Publishes an artifact of one MiB.
    pub(crate) fn model(&self, name: &str) -> ArtifactAddress {
        self.artifact(name, &MIB.to_string())
    }

    pub(crate) async fn use_once(&self, address: &ArtifactAddress) {
        drop(self.cache.acquire(address).await.unwrap());
    }

    pub(crate) fn is_resident(&self, address: &ArtifactAddress) -> bool {
        self.cache.snapshot.load().residents.contains_key(address)
    }

    pub(crate) fn n_revalidations(&self, outcome: Revalidation) -> u64 {
        self.metrics.revalidations.get_or_create(&[("outcome", outcome)]).get()
    }

    /// Loads that have begun, and got as far as to ask for room.
    pub(crate) fn n_estimates(&self) -> usize {
        self.runtime.n_estimates.load(Ordering::SeqCst)
    }

    pub(crate) fn n_loads(&self) -> usize {
        self.runtime.n_loads.load(Ordering::SeqCst)
    }

    pub(crate) async fn invoke(&self, address: &ArtifactAddress) -> Result<ModelOutput, ErrorKind> {
        let Acquired { replica, lease, .. } = self.cache.acquire(address).await.unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        replica.invoke(lease, ModelInput::default(), deadline).await.map_err(|it| it.kind())
    }
}
