//! `manifold up`: a local cluster, left running until it is told to stop.

use crate::{
    binaries::Binaries,
    child::Stopped,
    cli::UpArgs,
    client::Client,
    cluster::{Cluster, ClusterPlan},
    console::{self, Step},
    container::Containers,
    data::DataDir,
    endpoint::{self, ENDPOINT},
    machine,
    models::{self, BUCKET, ModelStore, PREFIX},
    share::Machine,
    signals::Signals,
    signing::Key,
    zoo::{self, Made},
};
use anyhow::Context as _;
use shared::token::TokenFile;
use std::{
    cell::Cell,
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// How long SIGKILL may take to empty the process table.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// How a run of a cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What was to be done is done.
    Finished,
    /// A signal came first; everything stopped in order.
    Stopped,
    /// Something had to be killed at once.
    Killed,
}

/// Runs `manifold up` to its end.
pub async fn run(args: UpArgs) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    let binaries = Binaries::beside_us()?;
    let data = DataDir::open(&args.data)?;
    let folder = args.models.clone().unwrap_or_else(|| data.path().join("models"));
    let has_models = !args.no_models && (args.models.is_some() || !args.are_containers());
    let wants_zoo = has_models && args.models.is_none();
    // Before anything is started: it takes long, and then a signal has little to stop.
    if wants_zoo && make_models(&binaries, &folder, &mut signals).await? == Made::Interrupted {
        return Ok(Ended::Killed);
    }
    let plan = ClusterPlan {
        token_file: token_file(&args, &data)?,
        binaries,
        data,
        listen: args.listen,
        router_flags: router_flags(&args, has_models)?,
        key: key(&args),
        machine: measure(args.memory_budget, args.workers)?,
        max_instances: args.max_instances.max(args.workers),
        kind: args.instance_kind(),
    };
    let containers = Containers::of(plan.kind, &plan.data).await?;
    let is_ready = Cell::new(false);
    let serve = with_cluster(plan, &mut signals, async |cluster| {
        let n_models = if has_models {
            upload_models(cluster, &folder).await?
        } else {
            create_bucket(cluster).await?;
            0
        };
        if args.image.is_some() || !args.are_containers() {
            create_endpoint(cluster, args.image.as_deref(), args.workers).await?;
            welcome(cluster.client(), cluster, n_models);
        } else {
            console::say(&bring_image(cluster, n_models));
        }
        is_ready.set(true);
        std::future::pending().await
    });
    // Boxed: starting a cluster holds a lot at a time.
    let ended = Box::pin(serve).await;
    containers.remove().await?;
    let ended = ended?;
    // A signal is how it is meant to end, once it has begun.
    Ok(if is_ready.get() { ended } else { Ended::Killed })
}

fn router_flags(args: &UpArgs, has_models: bool) -> anyhow::Result<Vec<OsString>> {
    let mut flags: Vec<OsString> = Vec::new();
    if args.allow_unauthenticated {
        flags.push("--allow-unauthenticated".into());
    }
    if !has_models {
        // There is nothing yet below the prefix of the endpoint.
        flags.push("--allow-empty-model-data".into());
    }
    if let Some(file) = &args.credentials {
        let file = file.canonicalize().with_context(|| format!("no file {}", file.display()))?;
        flags.extend(["--credentials".into(), file.into()]);
    }
    Ok(flags)
}

/// The token by which the cluster's processes know each other. Where clients must sign, others on this
/// machine shall not go past the router to its workers either, nor pass for one. Where anybody may do
/// everything, a token would only keep people from their own `/metrics`.
fn token_file(args: &UpArgs, data: &DataDir) -> anyhow::Result<Option<TokenFile>> {
    let path = match &args.cluster_token_file {
        // Children are told absolute paths.
        Some(file) => file.canonicalize().with_context(|| format!("no file {}", file.display()))?,
        None if key(args).is_some() => make_token(data).context("could not make a token")?,
        None => return Ok(None),
    };
    Ok(Some(TokenFile::read(&path)?))
}

/// Makes a token that nobody else knows, for one run.
fn make_token(data: &DataDir) -> io::Result<PathBuf> {
    let path = data.token_file();
    // One of an earlier run may be there, with what it was allowed to.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", uuid::Uuid::new_v4().simple())?;
    Ok(path)
}

/// The key of our own calls: that of the environment, or one that nobody else knows.
fn key(args: &UpArgs) -> Option<Key> {
    let given = args.access_key_id.clone().zip(args.secret_access_key.clone());
    let given = given.map(|(id, secret)| Key::new(id, secret));
    given.or_else(|| args.credentials.as_ref().map(|_| Key::random()))
}

/// Starts a cluster and does something with it, until that is done or a signal comes; then stops the
/// cluster in order. A second signal kills it. When this returns, nothing that it started is left.
pub async fn with_cluster(
    plan: ClusterPlan,
    signals: &mut Signals,
    work: impl AsyncFnOnce(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let Some(mut cluster) = Cluster::start(plan, signals).await? else {
        return Ok(Ended::Killed);
    };
    let token = cluster.keep_token_current();
    let worked = tokio::select! {
        worked = signals.unless(work_unless_lost(&cluster, work)) => worked,
        never = token => match never {},
    };
    let stopped = stop(&mut cluster, signals).await?;
    let ended = if worked.is_some() { Ended::Finished } else { Ended::Stopped };
    worked.transpose()?;
    Ok(if stopped == Stopped::Orderly { ended } else { Ended::Killed })
}

async fn work_unless_lost(
    cluster: &Cluster,
    work: impl AsyncFnOnce(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    tokio::select! {
        worked = work(cluster) => worked,
        part = cluster.lost() => {
            anyhow::bail!("what keeps the {part} running has failed, which is a fault of Manifold")
        }
    }
}

async fn stop(cluster: &mut Cluster, signals: &mut Signals) -> anyhow::Result<Stopped> {
    let step = Step::start();
    let killer = cluster.killer();
    let mut stopping = std::pin::pin!(cluster.stop());
    tokio::select! {
        biased;
        had_to_die = &mut stopping => {
            match had_to_die.as_slice() {
                [] => step.done("everything stopped"),
                names => step.done(&format!("stopped; had to kill {}", names.join(", "))),
            }
            Ok(Stopped::Orderly)
        }
        name = signals.next() => {
            console::say(&format!("{name}: killing"));
            killer.kill();
            timeout(KILL_PATIENCE, stopping).await.context("some process survives SIGKILL")?;
            step.done("everything killed");
            Ok(Stopped::Killed)
        }
    }
}

/// Measures what workers can share, and says where it gets tight.
pub fn measure(memory_budget: Option<u64>, n_workers: usize) -> anyhow::Result<Machine> {
    let machine = machine::measure(memory_budget)?;
    if machine.is_crowded(n_workers) {
        console::say(&format!(
            "note: {n_workers} workers share {} core(s); each gets one compute slot, so they will \
             wait for each other",
            machine.n_cores
        ));
    }
    Ok(machine)
}

/// Makes the endpoint, or resizes the one of an earlier run, and returns when it is in service.
pub async fn create_endpoint(
    cluster: &Cluster,
    image: Option<&str>,
    n_instances: usize,
) -> anyhow::Result<()> {
    let step = Step::start();
    let url = format!("s3://{BUCKET}/{PREFIX}").try_into()?;
    let n_instances = endpoint::ensure(cluster.client(), image, &url, n_instances).await?;
    step.done(&format!(
        "endpoint `{ENDPOINT}`: CreateModel, CreateEndpointConfig, CreateEndpoint; {n_instances} \
         instance(s) in service"
    ));
    Ok(())
}

/// Makes the demo models if any is missing.
pub async fn make_models(
    binaries: &Binaries,
    folder: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Made> {
    let step = Step::start();
    let made = zoo::make(binaries, folder, signals).await?;
    if made == Made::Missing {
        step.done(&format!("demo models made in {}", folder.display()));
    }
    Ok(made)
}

async fn create_bucket(cluster: &Cluster) -> anyhow::Result<()> {
    ModelStore::new(&cluster.store_url()).create_bucket(BUCKET).await?;
    Ok(())
}

/// Uploads every archive that the store does not have yet. Returns how many there are.
pub async fn upload_models(cluster: &Cluster, folder: &Path) -> anyhow::Result<usize> {
    put_models(&ModelStore::new(&cluster.store_url()), folder).await
}

/// The same for any store.
pub async fn put_models(store: &ModelStore, folder: &Path) -> anyhow::Result<usize> {
    let step = Step::start();
    store.create_bucket(BUCKET).await?;
    let archives = models::archives(folder)
        .with_context(|| format!("could not read the models folder {}", folder.display()))?;
    let mut n_uploaded = 0;
    for (key, path) in &archives {
        let key = format!("{PREFIX}{key}");
        n_uploaded += usize::from(store.upload(BUCKET, &key, path).await?);
    }
    let n_models = archives.len();
    step.done(&format!("{n_models} models in s3://{BUCKET}/{PREFIX} ({n_uploaded} uploaded)"));
    Ok(n_models)
}

fn bring_image(cluster: &Cluster, n_models: usize) -> String {
    let url = cluster.client().router_url();
    format!(
        "\nNo endpoint yet: CreateModel with your Image makes one, or start with --image. \
         {n_models} models in s3://{BUCKET}/{PREFIX}\n\nAWS_ENDPOINT_URL={url}\n\n\
         Ctrl-C stops everything, containers too."
    )
}

fn welcome(client: &Client, cluster: &Cluster, n_models: usize) {
    let url = client.router_url();
    let logs = cluster.data().path().join("logs");
    let what = if n_models == 0 { "no model yet".to_owned() } else { format!("{n_models} models") };
    console::say(&format!(
        "\nEndpoint `{ENDPOINT}` is in service with {what}. Store: {store}. Logs: {logs}\n\n\
         AWS_ENDPOINT_URL={url}\n\n\
         curl {url}/endpoints/{ENDPOINT}/invocations -H 'Content-Type: image/jpeg' \\\n  \
           -H 'X-Amzn-SageMaker-Target-Model: efficientnet_lite0.tar.gz' --data-binary @driver/assets/cat.jpg\n\n\
         python3 -c 'import boto3; print(boto3.client(\"sagemaker-runtime\", \
         endpoint_url=\"{url}\", region_name=\"us-east-1\", aws_access_key_id=\"any\", \
         aws_secret_access_key=\"any\").invoke_endpoint(\
         EndpointName=\"{ENDPOINT}\", TargetModel=\"efficientnet_lite0.tar.gz\", \
         ContentType=\"image/jpeg\", Body=open(\"driver/assets/cat.jpg\", \"rb\"))[\"Body\"].read().decode())'\n\n\
         The cat is in Manifold's own folder. Ctrl-C stops everything.",
        store = cluster.store_url(),
        logs = logs.display(),
    ));
}
