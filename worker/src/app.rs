//! Builds the parts, binds, runs, drains. The only file that knows all others.

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
        disk_cache::DiskCache,
        ingest::Ingest,
        s3::{Patience, S3Config, S3Source},
        sources::Sources,
        unpack::Limits,
    },
    compute::{Compute, ComputeLimits},
    config::Config,
    contract::ContractModels,
    http::{self, Bodies, Face},
    memory::probe::{Machine, MemoryProbe as _},
    metrics::Metrics,
    policy::budget,
    runtime::{Runtimes, prepare_thread},
};
use actix_web::{App as Application, HttpServer, dev::Server};
use anyhow::Context as _;
use prometheus_client::registry::Registry;
use shared::{address_file, id::InstanceId, shutdown};
use std::{
    collections::BTreeSet,
    env,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Routers keep connections open between invocations; a closed one costs a retry.
const KEEP_ALIVE: Duration = Duration::from_mins(5);

/// Downloads at the same time: enough to fill a network that one stream does not, few enough that
/// the first invocation waiting is served before the last has begun.
const MAX_DOWNLOADS: usize = 4;

/// How often it is looked whether a model holds its slot for too long. Nothing waits for it.
const STUCK_POLL: Duration = Duration::from_secs(1);

/// How long clients may take to read the last answers. With the default drain just within the 30 s
/// that SageMaker gives.
const WRITE_PATIENCE_S: u64 = 4;

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
}

impl App {
    /// Binds and builds every part but those that make the worker known.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.address())
            .with_context(|| format!("cannot listen on {}", config.address()))?;
        let address = listener.local_addr()?;

        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("worker"));
        let instance = Instance::spawn().await?;
        let compute = Arc::new(Compute::new(compute_limits(&config), prepare_thread)?);
        let (cache, evictor) = cache(&config, address, &instance, &compute, &metrics).await?;
        let face = Face {
            cache: cache.clone(),
            evictor,
            contract: ContractModels::new(cache.clone()),
            instance: instance.clone(),
            metrics,
            registry: Arc::new(registry),
            bodies: Bodies::new(config.http.max_body_bytes, config.http.body_budget),
            config: config.http.clone(),
            serves_by_address: config.serves_by_address(),
            is_draining: Arc::new(AtomicBool::new(false)),
            n_in_flight: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Self { config, listener, address, instance, cache, compute, face })
    }

    /// Where it listens: the port that the system chose, if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal comes or the instance breaks; then drains.
    pub async fn run(self) -> anyhow::Result<()> {
        let server = serve(&self.face, self.listener, n_slots(&self.config))?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        let heartbeat = Heartbeat::spawn(
            HeartbeatParts {
                routers: self.config.membership.routers.clone(),
                instance: instance_id(&self.config, self.address),
                fleet: self.config.membership.fleet.clone(),
                address: self.config.advertised(self.address.port()),
                boot_id: uuid::Uuid::new_v4().to_string(),
                n_slots: n_slots(&self.config),
                cache: self.cache.clone(),
            },
            self.instance.supervisor(),
        )
        .await?;
        info!(address = %self.address, "listening");
        if let Some(file) = &self.config.address_file {
            let written = address_file::write(file, self.address);
            written.with_context(|| format!("cannot write the address file {}", file.display()))?;
        }
        let max_compute = Duration::from_secs(self.config.models.max_compute_s);
        tokio::select! {
            signal = shutdown::requested() => info!(signal = signal?, "draining"),
            () = self.instance.broken() => anyhow::bail!("an actor died; see the log above"),
            () = stuck(&self.compute, max_compute) => anyhow::bail!(
                "a model has held a compute slot for {max_compute:?} and cannot be stopped"
            ),
        }
        // Routers first: until they know, what they send is still served.
        heartbeat.leave().await;
        self.face.is_draining.store(true, Ordering::SeqCst);
        let patience = Duration::from_secs(self.config.http.drain_timeout_s);
        // What is answered is still to be written.
        handle.stop(drain(&self.face, patience).await).await;
        server.await??;
        info!("stopped");
        Ok(())
    }
}

async fn cache(
    config: &Config,
    address: SocketAddr,
    instance: &Instance,
    compute: &Arc<Compute>,
    metrics: &Metrics,
) -> anyhow::Result<(ModelCache, Evictor)> {
    let supervisor = instance.supervisor();
    let fetcher = Fetcher::spawn(ingest(config, address).await?, supervisor.clone()).await?;
    let mut machine = Machine::new()?;
    let sample = machine.sample();
    let idle_bytes = sample.rss_bytes;
    let configured_bytes = config.models.memory_budget;
    let parts = ModelCacheParts {
        fetcher,
        runtime: Arc::new(Runtimes),
        compute: Arc::clone(compute),
        budget_bytes: budget::model_budget(configured_bytes, sample.limit_bytes, idle_bytes),
        max_age: Duration::from_secs(config.models.revalidate_s),
        max_queued: config.models.max_queued.get(),
        metrics: metrics.cache.clone(),
        replica_metrics: metrics.replica.clone(),
    };
    let cache = ModelCache::spawn(parts, supervisor.clone()).await?;
    let parts = EvictorParts {
        cache: cache.clone(),
        probe: Box::new(machine),
        configured_bytes,
        idle_bytes,
        metrics: metrics.memory.clone(),
    };
    let evictor = Evictor::spawn(parts, supervisor).await?;
    Ok((cache, evictor))
}

async fn ingest(config: &Config, address: SocketAddr) -> anyhow::Result<Ingest> {
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
    let own_folder = || env::temp_dir().join(format!("manifold-{}", instance_id(config, address)));
    let folder = config.artifacts.cache_dir.clone().unwrap_or_else(own_folder);
    let cache = DiskCache::open(&folder, config.artifacts.disk_budget)?;
    Ok(Ingest::new(Arc::new(sources), cache, Limits::DEFAULT, MAX_DOWNLOADS))
}

fn serve(face: &Face, listener: TcpListener, n_threads: usize) -> std::io::Result<Server> {
    let face = face.clone();
    let server = HttpServer::new(move || {
        let face = face.clone();
        Application::new().configure(move |app| http::routes(&face, app))
    });
    let server = server
        .workers(n_threads)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(WRITE_PATIENCE_S)
        // A client that closes has gone, and what it wanted need not run.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// Waits until everything accepted is answered, and says whether it was before the time was over.
async fn drain(face: &Face, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
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
