//! The model cache through its handle: real fetcher, folders as artifacts, a scripted runtime.

use super::*;
use crate::{
    actors::instance::Instance,
    artifact::{dir::DirSource, disk_cache::DiskCache, ingest::Ingest, unpack::Limits},
    compute::ComputeLimits,
    runtime::{Footprint, Model, ModelInput, ModelOutput},
};
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tempfile::TempDir;
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
const COMPUTE: ComputeLimits =
    ComputeLimits { n_slots: 2, n_queued_invocations: 8, n_queued_loads: 8 };

/// Loads folders that say in a file `script` what shall happen: a size in bytes, `bad`, `panic`
/// (at the load), or `cursed` (a panic at each invocation).
#[derive(Debug, Default)]
struct Scripted {
    n_loads: AtomicUsize,
}

#[derive(Debug)]
struct ScriptedModel {
    size_bytes: u64,
    is_cursed: bool,
}

impl Scripted {
    fn script(artifact: &Path) -> String {
        fs::read_to_string(artifact.join("script")).unwrap()
    }
}

impl Runtime for Scripted {
    fn estimate(&self, artifact: &Path) -> Result<u64, RuntimeError> {
        Ok(Self::script(artifact).parse().unwrap_or(0))
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, RuntimeError> {
        self.n_loads.fetch_add(1, Ordering::SeqCst);
        let script = Self::script(artifact);
        match script.as_str() {
            "panic" => panic!("scripted panic of a load"),
            "bad" => return Err(RuntimeError::BadArtifact("scripted".to_owned())),
            _ => {}
        }
        let size_bytes = script.parse().unwrap_or(0);
        Ok(Arc::new(ScriptedModel { size_bytes, is_cursed: script == "cursed" }))
    }
}

impl Model for ScriptedModel {
    fn footprint(&self) -> Footprint {
        Footprint { resident_bytes: self.size_bytes, workspace_bytes: 0 }
    }

    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError> {
        assert!(!self.is_cursed, "scripted panic of an invocation");
        Ok(ModelOutput { content_type: "text/plain".into(), body: input.body.clone() })
    }
}

/// A model cache with a budget of 3 MiB and a folder of artifacts.
struct Fixture {
    cache: ModelCache,
    instance: Instance,
    runtime: Arc<Scripted>,
    artifacts: TempDir,
    _disk: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let (artifacts, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let instance = Instance::spawn().await.unwrap();
        let source = Arc::new(DirSource::new(vec![artifacts.path().to_owned()]));
        let cache = DiskCache::open(disk.path(), 100 * MIB).unwrap();
        let ingest = Ingest::new(source, cache, Limits::DEFAULT, 4);
        let runtime = Arc::new(Scripted::default());
        let parts = ModelCacheParts {
            fetcher: Fetcher::spawn(ingest, instance.supervisor()).await.unwrap(),
            runtime: Arc::clone(&runtime) as _,
            compute: Arc::new(Compute::new(COMPUTE, || {}).unwrap()),
            budget_bytes: 3 * MIB,
            max_queued: 4,
            metrics: CacheMetrics::default(),
            replica_metrics: ReplicaMetrics::default(),
        };
        let cache = ModelCache::spawn(parts, instance.supervisor()).await.unwrap();
        Self { cache, instance, runtime, artifacts, _disk: disk }
    }

    /// Publishes an artifact with a script.
    fn artifact(&self, name: &str, script: &str) -> ArtifactAddress {
        let path = self.artifacts.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("script"), script).unwrap();
        ArtifactAddress::File { path }
    }

    /// Publishes an artifact of one MiB.
    fn model(&self, name: &str) -> ArtifactAddress {
        self.artifact(name, &MIB.to_string())
    }

    async fn use_once(&self, address: &ArtifactAddress) {
        drop(self.cache.acquire(address).await.unwrap());
    }

    fn is_resident(&self, address: &ArtifactAddress) -> bool {
        self.cache.snapshot.load().residents.contains_key(address)
    }

    fn n_loads(&self) -> usize {
        self.runtime.n_loads.load(Ordering::SeqCst)
    }

    async fn invoke(&self, address: &ArtifactAddress) -> Result<ModelOutput, ErrorKind> {
        let Acquired { replica, lease, .. } = self.cache.acquire(address).await.unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        replica.invoke(lease, ModelInput::default(), deadline).await.map_err(|it| it.kind())
    }
}

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

#[tokio::test]
async fn a_load_waits_for_a_leased_replica_to_become_idle() {
    let fixture = Fixture::new().await;
    let models = ["a", "b", "c", "d"].map(|name| fixture.model(name));
    let mut leased = Vec::new();
    for model in &models[..3] {
        leased.push(fixture.cache.acquire(model).await.unwrap());
    }
    let load = fixture.cache.acquire(&models[3]);
    tokio::pin!(load);
    assert!(futures_util::poll!(&mut load).is_pending());

    drop(leased.remove(1));

    load.await.unwrap();
    assert!(!fixture.is_resident(&models[1]));
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
    while fixture.is_resident(&cursed) {
        tokio::task::yield_now().await;
    }

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
    assert!(futures_util::poll!(&mut unload).is_pending());

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
