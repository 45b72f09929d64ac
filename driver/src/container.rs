//! `manifold container`: one instance whose models somebody else's container serves. Runs that container,
//! and the agent in front of it (`manifold-worker --backend`), as one process of a launcher's.
//!
//! ```text
//! plan.rs    what a container is started with, as SageMaker would: plain functions
//! engine.rs  Docker's engine: the only file that names bollard
//! ```
//!
//! # Invariants
//!
//! - The two live and die together, and with this process: what ends one ends the other. Whoever starts
//!   this process again starts both anew.
//! - A container never outlives the pipe that is this process's standard input. If this process itself is
//!   killed, whoever starts the instance again, or the next `manifold up` of the same folder, removes it.

mod engine;
mod plan;

use crate::{
    binaries::Binaries,
    cli::{ContainerArgs, InstanceKind},
    console,
    data::DataDir,
    signals::Signals,
};
use anyhow::Context as _;
use engine::{Engine, EngineError, Exit, Started};
use futures_util::StreamExt as _;
use plan::Owner;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Read as _},
    process::Stdio,
    thread,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    time::Instant,
};

/// The containers of a cluster, if it has some.
#[derive(Debug)]
pub(crate) struct Containers(Option<(Engine, Owner)>);

impl Containers {
    /// Reaches the engine, and removes what an earlier run has left.
    pub(crate) async fn of(kind: InstanceKind, data: &DataDir) -> Result<Self, EngineError> {
        if kind == InstanceKind::Process {
            return Ok(Self(None));
        }
        let owner = Owner { data: data.path().to_owned(), instance: None };
        let containers = Self(Some((Engine::connect().await?, owner)));
        containers.remove().await?;
        Ok(containers)
    }

    /// Removes those whose process was killed before it could.
    pub(crate) async fn remove(&self) -> Result<(), EngineError> {
        if let Some((engine, owner)) = &self.0 {
            engine.remove(owner).await?;
        }
        Ok(())
    }
}

/// What the model's environment is handed over in, as JSON: others may read a command line.
pub const ENVIRONMENT: &str = "MANIFOLD_CONTAINER_ENVIRONMENT";

/// A container that ended by itself: started again, it may do better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the container of {image} {exit}; it said last: {last}")]
pub struct Ended {
    image: String,
    exit: Exit,
    last: String,
    lived: Duration,
}

impl Ended {
    /// Whether it is known well enough to be told at once: whoever counts deaths in a row takes one that
    /// lived this long for a first one, each time.
    pub fn is_steady(&self) -> bool {
        self.lived >= Duration::from_mins(1)
    }
}

/// What of a container's output goes into the log of its instance, each time that it is started: a day of
/// a talkative server. Its engine keeps the last of it.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// What SageMaker gives a container between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Runs one instance until a signal comes or its launcher is gone; fails when either part ends by itself.
pub async fn run(args: ContainerArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    let engine = Engine::connect().await?;
    let owner = Owner { data: args.data.clone(), instance: Some(args.instance.clone()) };
    // What a killed one has left under this name.
    engine.remove(&owner).await?;
    let ended = tokio::select! {
        biased;
        () = parent_is_gone() => Ok(()),
        ended = live(&engine, &args, &owner, &mut signals) => ended,
    };
    engine.remove(&owner).await?;
    ended
}

async fn live(
    engine: &Engine,
    args: &ContainerArgs,
    owner: &Owner,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let Some(started) = signals.unless(start(engine, args, owner)).await else { return Ok(()) };
    let started = started?;
    let mut agent = agent(args, &started)?;
    // It ends when this closes, and waiting for it would close it.
    let _leash = agent.stdin.take();
    let outcome = tokio::select! {
        biased;
        name = signals.next() => {
            console::say(&format!("{name}: stopping"));
            finish(&mut agent, signals).await;
            engine.stop(&started.id, STOP_GRACE).await?;
            return Ok(());
        }
        ended = follow(engine, &started, &args.image) => {
            Err(Ended { lived: began.elapsed(), ..ended? }.into())
        }
        status = agent.wait() => Err(anyhow::anyhow!("the agent of {} ended ({})", args.image, status?)),
    };
    // Dropped, it is killed: nothing is left to drain.
    drop(agent);
    outcome
}

/// Makes and starts the container, and its image if it is not here yet.
async fn start(engine: &Engine, args: &ContainerArgs, owner: &Owner) -> anyhow::Result<Started> {
    plan::check_name(&args.image)?;
    plan::check_labels(&args.image, &image_labels(engine, &args.image).await?)?;
    let models = args.models.display();
    fs::create_dir_all(&args.models).with_context(|| format!("could not make {models}"))?;
    let given: BTreeMap<String, String> = match &args.environment {
        Some(text) => {
            serde_json::from_str(text).with_context(|| format!("{ENVIRONMENT} is no JSON"))?
        }
        None => BTreeMap::new(),
    };
    let started = engine.start(plan::container(args, owner, &given)).await?;
    console::say(&format!("the container of {} listens on port {}", args.image, started.port));
    Ok(started)
}

/// Returns the labels of an image, which is pulled if it is not here.
async fn image_labels(engine: &Engine, image: &str) -> anyhow::Result<HashMap<String, String>> {
    if let Some(labels) = engine.image_labels(image).await? {
        return Ok(labels);
    }
    console::say(&format!("pulling {image}"));
    engine.pull(image).await?;
    let pulled = engine.image_labels(image).await?;
    pulled.with_context(|| format!("the image {image} is gone again"))
}

fn agent(args: &ContainerArgs, started: &Started) -> anyhow::Result<Child> {
    let program = Binaries::beside_us()?.worker;
    let mut command = Command::new(&program);
    command
        .args(&args.agent)
        .arg(format!("--backend=http://127.0.0.1:{}", started.port))
        .arg("--backend-models")
        .arg(&args.models)
        .arg(format!("--backend-sees={}", plan::MODELS))
        .arg(format!("--backend-startup-timeout-s={}", args.startup_timeout_s))
        .env_remove(ENVIRONMENT)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("could not start {}", program.display()))
}

/// Has the agent finish what it accepted; a second signal kills it.
async fn finish(agent: &mut Child, signals: &mut Signals) {
    if let Some(pid) = agent.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended just now, which is as wanted.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        biased;
        _ = signals.next() => {}
        // However it ended, it is gone.
        _ = agent.wait() => {}
    }
}

/// Writes what the container prints into our own output, and returns how it ended.
async fn follow(engine: &Engine, started: &Started, image: &str) -> anyhow::Result<Ended> {
    let mut output = std::pin::pin!(engine.output(&started.id));
    let mut last = String::new();
    let mut room = MAX_OUTPUT_BYTES;
    while let Some(said) = output.next().await {
        console::put(&said[..said.len().min(room)]);
        room = room.saturating_sub(said.len());
        plan::note_last(&mut last, &said);
    }
    Ok(Ended {
        image: image.to_owned(),
        exit: engine.exit(&started.id).await?,
        last,
        lived: Duration::ZERO,
    })
}

/// Returns when standard input closes: the kernel closes it when the launcher is killed.
async fn parent_is_gone() {
    let (tell, told) = oneshot::channel();
    // A thread of its own: one that reads cannot be called back, and nothing shall wait for it.
    thread::spawn(move || {
        let mut buffer = [0; 64];
        // Whatever comes is ignored; the end or an error means that it is gone.
        while matches!(io::stdin().read(&mut buffer), Ok(1..)) {}
        // Nobody listens any more if we are ending already.
        let _ = tell.send(());
    });
    // It ends only by telling.
    let _ = told.await;
}
