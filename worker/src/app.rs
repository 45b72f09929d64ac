//! Builds the parts, binds, runs, drains. The only file that knows all others.

mod door;
mod runtimes;

use crate::{
    actors::{
        evictor::{Evictor, EvictorParts},
        fetcher::Fetcher,
        heartbeat::{Heartbeat, HeartbeatParts},
        instance::Instance,
        model_cache::{ModelCache, ModelCacheParts},
    },
    artifact::{
        dir::DirSource,
        disk_cache::{self, DiskCache},
        ingest::Ingest,
        s3::{Patience, S3Config, S3Source},
        sources::Sources,
        unpack::{Layout, Limits},
    },
    compute::{Compute, ComputeLimits},
    config::Config,
    contract::ContractModels,
    discovery::Discovery,
    http::{Bodies, Face},
    lifecycle::Lifecycle,
    memory::probe::{Machine, MemoryProbe as _},
    metrics::Metrics,
    policy::{budget, handover},
    router_client::RouterClient,
    runtime::{
        backend::{Backend, Vigil},
        prepare_thread,
    },
};
use anyhow::Context as _;
use prometheus_client::registry::Registry;
use runtimes::Chosen;
use shared::{
    address_file,
    id::InstanceId,
    shutdown::{Request, Signals},
    token::TokenFile,
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    env,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// Downloads at the same time: enough to fill a network that one stream does not, few enough that
/// the first invocation waiting is served before the last has begun.
const MAX_DOWNLOADS: usize = 4;

/// How often it is looked whether a model holds its slot for too long. Nothing waits for it.
const STUCK_POLL: Duration = Duration::from_secs(1);

/// How long workers that were stopped together have to come back for their folders.
const SWEEP_DELAY: Duration = Duration::from_mins(2);

/// How long the models at a backend may take to leave when everything is answered. With the rest of the
/// drain within the 30 s that SageMaker gives; what stays is found by the next agent.
const BACKEND_LEAVES: Duration = Duration::from_secs(4);

/// How often a drain looks whether everything is answered.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A worker that listens but does not serve yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    instance: Instance,
    cache: ModelCache,
    compute: Arc<Compute>,
    face: Face,
    token_file: Option<TokenFile>,
}

impl App {
    /// Binds and builds every part but those that make the worker known.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let token_file = config.access.cluster_token_file.as_deref();
        let token_file = token_file.map(TokenFile::read).transpose()?;
        let listener = TcpListener::bind(config.address())
            .with_context(|| format!("cannot listen on {}", config.address()))?;
        let address = listener.local_addr()?;

        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("worker"));
        let instance = Instance::spawn().await?;
        let compute = Arc::new(Compute::new(compute_limits(&config), prepare_thread)?);
        let folder = cache_folder(&config, address);
        let ingest = ingest(&config, &folder).await?;
        let Chosen { runtime, backend, options } = runtimes::choose(&config, &folder, &metrics)?;
        let parts = ModelCacheParts {
            fetcher: Fetcher::spawn(ingest, instance.supervisor()).await?,
            runtime,
            compute: Arc::clone(&compute),
            // Until what it may be is known.
            budget_bytes: 0,
            max_age: Duration::from_secs(config.models.revalidate_s),
            max_queued: config.models.max_queued.get(),
            metrics: metrics.cache.clone(),
            replica_metrics: metrics.replica.clone(),
        };
        let (cache, evictor) = cache(&config, parts, &instance, &metrics).await?;
        let face = Face {
            cache: cache.clone(),
            evictor,
            contract: ContractModels::new(cache.clone(), options),
            backend,
            instance: instance.clone(),
            metrics,
            registry: Arc::new(registry),
            bodies: Bodies::new(config.http.max_body_bytes, config.http.body_budget),
            token: token_file.as_ref().map(TokenFile::token),
            config: config.http.clone(),
            is_local: config.is_loopback() && token_file.is_none(),
            serves_by_address: config.serves_by_address(),
            is_draining: Arc::new(AtomicBool::new(false)),
            n_in_flight: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Self { config, listener, address, instance, cache, compute, face, token_file })
    }

    /// Where it listens: the port that the system chose, if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal comes or the instance breaks; then drains.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut signals = Signals::listen()?;
        let token_file = self.token_file.take();
        let server = door::serve(&self.face, self.listener.try_clone()?, n_slots(&self.config))?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        info!(address = %self.address, "listening");
        if let Some(file) = &self.config.address_file {
            let written = address_file::write(file, self.address);
            written.with_context(|| format!("cannot write the address file {}", file.display()))?;
        }
        let mut vigil = self.face.backend.as_ref().map(Backend::vigil);
        let is_up = tokio::select! {
            is_up = come_up(vigil.as_mut()) => is_up.map(|()| true)?,
            // Nobody knows of it yet.
            _ = signals.next() => false,
        };
        let drained_at = if is_up {
            self.serve(&mut signals, vigil.as_mut(), token_file).await?
        } else {
            Instant::now()
        };
        self.face.is_draining.store(true, Ordering::SeqCst);
        // What is answered is still to be written.
        handle.stop(drain(&self.face, drained_at).await).await;
        server.await??;
        if let Some(backend) = &self.face.backend {
            backend.leave(BACKEND_LEAVES).await;
        }
        info!("stopped");
        Ok(())
    }

    /// Is known to routers until a signal comes. Returns until when what was accepted may be finished.
    async fn serve(
        &self,
        signals: &mut Signals,
        vigil: Option<&mut Vigil>,
        token_file: Option<TokenFile>,
    ) -> anyhow::Result<Instant> {
        let instance = instance_id(&self.config, self.address);
        let (mut discovery, found) = Discovery::start(&self.config.membership, &instance);
        let token = self.face.token.clone();
        let routers = RouterClient::new(found.routers.clone(), instance.clone(), token)?;
        let heartbeat = HeartbeatParts {
            routers: found.routers,
            registered: found.registered,
            instance,
            fleet: self.config.membership.fleet.clone(),
            address: self.config.advertised(self.address.port()),
            boot_id: uuid::Uuid::new_v4().to_string(),
            n_slots: n_slots(&self.config),
            cache: self.cache.clone(),
            token: self.face.token.clone(),
        };
        let heartbeat = Heartbeat::spawn(heartbeat, self.instance.supervisor()).await?;
        let lifecycle = Lifecycle { heartbeat, cache: self.cache.clone(), routers };
        let drained_at = tokio::select! {
            broken = broken(&self.instance, &self.compute, &self.config) => match broken? {},
            never = TokenFile::keep_current(token_file) => match never {},
            drained_at = live(&lifecycle, vigil, signals, &self.config) => drained_at?,
        };
        // Routers first: until they know, what they send is still served.
        lifecycle.heartbeat.leave().await;
        discovery.leave().await;
        Ok(drained_at)
    }
}

/// Waits until the backend serves, if there is one.
async fn come_up(vigil: Option<&mut Vigil>) -> anyhow::Result<()> {
    if let Some(vigil) = vigil {
        info!("waiting for the backend");
        // Nothing of this run is lost yet.
        vigil.up().await?;
    }
    Ok(())
}

/// Joins, serves until a signal comes, and hands over what it has. Returns until when what was accepted
/// may be finished.
async fn live(
    lifecycle: &Lifecycle,
    vigil: Option<&mut Vigil>,
    signals: &mut Signals,
    config: &Config,
) -> anyhow::Result<Instant> {
    let patience = Duration::from_secs(config.membership.join_timeout_s);
    let serving = async {
        match vigil {
            Some(vigil) => lifecycle.join_with(vigil, patience).await,
            None => match lifecycle.join(patience).await {},
        }
    };
    let request = tokio::select! {
        request = signals.next() => request,
        ended = serving => match ended? {},
    };
    info!(?request, "draining");
    let patience = Duration::from_secs(config.http.drain_timeout_s);
    let drained_at = Instant::now() + patience;
    // Whoever types Ctrl-C waits for the end.
    if request == Request::Terminate {
        tokio::select! {
            () = lifecycle.hand_over(handover::time_of(patience)) => {}
            again = signals.next() => info!(request = ?again, "no more models are handed over"),
        }
    }
    Ok(drained_at)
}

/// Returns when the process cannot go on.
async fn broken(
    instance: &Instance,
    compute: &Compute,
    config: &Config,
) -> anyhow::Result<Infallible> {
    let max_compute = Duration::from_secs(config.models.max_compute_s);
    tokio::select! {
        () = instance.broken() => anyhow::bail!("an actor died; see the log above"),
        () = stuck(compute, max_compute) => anyhow::bail!(
            "a model has held a compute slot for {max_compute:?} and cannot be stopped"
        ),
    }
}

async fn cache(
    config: &Config,
    parts: ModelCacheParts,
    instance: &Instance,
    metrics: &Metrics,
) -> anyhow::Result<(ModelCache, Evictor)> {
    let mut machine = Machine::new()?;
    let sample = machine.sample();
    let idle_bytes = sample.rss_bytes;
    let configured_bytes = config.models.memory_budget;
    let budget_bytes = budget::model_budget(configured_bytes, sample.limit_bytes, idle_bytes);
    let parts = ModelCacheParts { budget_bytes, ..parts };
    let cache = ModelCache::spawn(parts, instance.supervisor()).await?;
    let parts = EvictorParts {
        cache: cache.clone(),
        probe: Box::new(machine),
        configured_bytes,
        idle_bytes,
        metrics: metrics.memory.clone(),
    };
    let evictor = Evictor::spawn(parts, instance.supervisor()).await?;
    Ok((cache, evictor))
}

/// Where artifacts are kept. Those of a backend are unpacked otherwise than a worker's own: they have
/// another folder.
fn cache_folder(config: &Config, address: SocketAddr) -> PathBuf {
    let is_own = config.backend.backend.is_none();
    let kind = if is_own { "" } else { "as-packed-" };
    let own_name =
        || format!("{}{kind}{}", disk_cache::FOLDER_PREFIX, instance_id(config, address));
    match &config.artifacts.cache_dir {
        None => env::temp_dir().join(own_name()),
        Some(folder) if is_own => folder.clone(),
        Some(folder) => folder.join("as-packed"),
    }
}

async fn ingest(config: &Config, folder: &Path) -> anyhow::Result<Ingest> {
    let s3 = S3Config {
        endpoint: config.artifacts.s3_endpoint.clone(),
        region: config.artifacts.s3_region.clone(),
        allowed_buckets: config.allowed_buckets().map(BTreeSet::from_iter),
        patience: Patience::DEFAULT,
    };
    let sources = Sources {
        s3: Arc::new(S3Source::new(s3).await),
        files: Arc::new(DirSource::new(config.access.file_roots.clone())),
    };
    let cache = DiskCache::open(folder, config.artifacts.disk_budget)?;
    if config.artifacts.cache_dir.is_none() {
        tokio::spawn(sweep(folder.to_owned()));
    }
    let is_own = config.backend.backend.is_none();
    let layout = if is_own { Layout::Unwrapped } else { Layout::AsPacked };
    Ok(Ingest::new(Arc::new(sources), cache, Limits::DEFAULT, MAX_DOWNLOADS).laid_out(layout))
}

/// Deletes what workers left beside this one's folder that have not come back.
async fn sweep(own_folder: PathBuf) {
    sleep(SWEEP_DELAY).await;
    // How many went is in the log; one that panics harms nothing else.
    let _ = spawn_blocking(move || disk_cache::sweep(&own_folder)).await;
}

/// Waits until everything accepted is answered, and says whether it was before the time was over.
async fn drain(face: &Face, deadline: Instant) -> bool {
    while face.n_in_flight.load(Ordering::SeqCst) > 0 {
        if Instant::now() >= deadline {
            let n_in_flight = face.n_in_flight.load(Ordering::SeqCst);
            warn!(n_in_flight, "drain timed out");
            return false;
        }
        sleep(DRAIN_POLL).await;
    }
    true
}

/// Returns when a model has held a compute slot for too long.
async fn stuck(compute: &Compute, max_compute: Duration) {
    while compute.longest_running() <= max_compute {
        sleep(STUCK_POLL).await;
    }
}

fn n_slots(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    config.models.compute_slots.map_or_else(cores, NonZeroUsize::get)
}

fn compute_limits(config: &Config) -> ComputeLimits {
    ComputeLimits {
        n_slots: n_slots(config),
        n_queued_invocations: config.models.max_queued_in_all.get(),
        // The model cache lets one load construct at a time.
        n_queued_loads: 1,
    }
}

fn instance_id(config: &Config, address: SocketAddr) -> InstanceId {
    let made = || format!("worker-{}", address.port()).parse().expect("letters, digits, a hyphen");
    config.membership.instance_id.clone().unwrap_or_else(made)
}
