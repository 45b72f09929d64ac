//! A model that a Python handler serves, in processes of its own.

use super::{
    Found, Handlers,
    environments::Environment,
    form,
    frame::Kind,
    memory::Memory,
    message::{Failed, FailedKind, Load},
    process::{Ended, Interpreter, Process},
    queue::{Batching, Call, Queue},
    runner,
};
use crate::{
    artifact::disk_cache::ArtifactLease,
    meter::Meter,
    metrics::HandlerMetrics,
    runtime::{Artifact, Description, Footprint, ModelInput, ModelOutput, Outside, RuntimeError},
};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What a model's runners share.
#[derive(Debug)]
pub(super) struct HandlerParts {
    handlers: Handlers,
    /// That of the environment, if there is one.
    interpreter: Interpreter,
    _environment: Option<Arc<Environment>>,
    found: Found,
    /// How many processes there are to be.
    n_processes: AtomicUsize,
    model_name: String,
    /// The handler reads its files whenever it likes.
    lease: ArtifactLease,
    pub(super) queue: Queue,
    pub(super) memory: Memory,
    pub(super) meter: Arc<Meter>,
    pub(super) metrics: HandlerMetrics,
}

impl HandlerParts {
    pub(super) fn model_name(&self) -> &str {
        &self.model_name
    }

    pub(super) fn batching(&self) -> Batching {
        self.found.batching
    }

    /// How long a batch may take.
    pub(super) fn timeout(&self) -> Duration {
        self.found.timeout
    }

    /// Whether there is one process only.
    pub(super) fn is_lone(&self) -> bool {
        self.n_processes.load(Ordering::Relaxed) == 1
    }

    /// Batches that may be under way to one process.
    pub(super) fn depth(&self) -> usize {
        if self.is_lone() { 2 } else { 1 }
    }

    /// Starts a process and has it load the model.
    pub(super) async fn start(&self) -> Result<Process, RuntimeError> {
        let patience = self.handlers.config.load_timeout;
        match timeout(patience, self.load()).await {
            Ok(loaded) => loaded,
            // The process is killed where it was dropped.
            Err(_) => Err(Ended::TimedOut(patience).into()),
        }
    }

    async fn load(&self) -> Result<Process, RuntimeError> {
        let config = &self.handlers.config;
        let max_calls = u32::try_from(self.batching().max_calls).unwrap_or(u32::MAX);
        let max_body_bytes = config.max_answer_bytes.saturating_mul(max_calls);
        let interpreter = &self.interpreter;
        let mut process = Process::start(interpreter, &self.model_name, max_body_bytes).await?;
        process.hello().await?;
        let load = Load {
            model_name: &self.model_name,
            model_dir: self.lease.path(),
            handler: &self.found.handler,
            manifest: self.found.manifest.as_ref(),
            batch_size: self.batching().max_calls,
            gpu_id: None,
            decodes_input: config.decodes_input,
            max_answer_bytes: config.max_answer_bytes,
        };
        let sent = process.send(Kind::Load, 0, &load, Vec::new());
        sent.map_err(|error| Ended::Protocol(error.to_string()))?;
        match process.loaded().await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(failed)) => {
                process.end().await;
                Err(self.failure(failed))
            }
            Err(ended) => Err(self.memory.blame(ended).into()),
        }
    }

    /// The traceback is for whoever reads the log; who asked is told what it says in the end.
    fn failure(&self, Failed { kind, message, traceback }: Failed) -> RuntimeError {
        warn!(model = self.model_name(), traceback, "handler failed to load");
        match kind {
            FailedKind::Memory => RuntimeError::OutOfMemory(format!("memory ran out: {message}")),
            FailedKind::Import | FailedKind::Handler => RuntimeError::NotLoaded(message),
        }
    }
}

/// A loaded model. Dropped without [`unload`](Outside::unload), its processes are killed.
#[derive(Debug)]
pub(super) struct HandlerModel {
    parts: Arc<HandlerParts>,
    runners: Mutex<Vec<Kept>>,
    /// Held by whoever changes how many there are.
    scaling: AsyncMutex<()>,
}

/// A process that is kept at work.
#[derive(Debug)]
struct Kept {
    stop: CancellationToken,
    runner: JoinHandle<()>,
}

impl HandlerModel {
    /// Starts all processes of a model; none stays if one of them does not load it.
    pub(super) async fn load(
        handlers: Handlers,
        found: Found,
        artifact: Artifact,
    ) -> Result<Self, RuntimeError> {
        let Artifact { address, lease, meter } = artifact;
        let n_processes = found.n_processes;
        let model_name = model_name(&address.to_string());
        let environment = match &found.requirements {
            Some(it) => Some(handlers.environments.with(it, &model_name).await?),
            None => None,
        };
        let parts = Arc::new(HandlerParts {
            interpreter: handlers.interpreter_of(environment.as_deref()),
            _environment: environment,
            memory: Memory::new(n_processes, Arc::clone(&handlers.watch)),
            metrics: handlers.metrics.clone(),
            model_name,
            queue: Queue::default(),
            handlers,
            found,
            n_processes: AtomicUsize::new(n_processes),
            lease,
            meter,
        });
        let this = Self { parts, runners: Mutex::default(), scaling: AsyncMutex::default() };
        this.start(0, n_processes).await?;
        Ok(this)
    }

    /// Starts the processes from number `first` up to `end`, all or none.
    async fn start(&self, first: usize, end: usize) -> Result<(), RuntimeError> {
        let parts = &self.parts;
        let processes = try_join_all((first..end).map(|_| parts.start())).await?;
        for (idx, process) in (first..end).zip(processes) {
            if let Some(id) = process.id() {
                parts.memory.measure(idx, id).await;
            }
            let stop = CancellationToken::new();
            let runner = runner::run(Arc::clone(parts), idx, process, stop.clone());
            self.runners.lock().push(Kept { stop, runner: tokio::spawn(runner) });
        }
        Ok(())
    }

    /// Has the processes from number `first` on finish what they have, and end.
    async fn end(&self, first: usize) {
        let ended = self.runners.lock().split_off(first);
        for kept in &ended {
            kept.stop.cancel();
        }
        for kept in ended {
            // One that panicked has dropped its process, and so killed it.
            let _ = kept.runner.await;
        }
    }
}

#[async_trait]
impl Outside for HandlerModel {
    fn footprint(&self) -> Footprint {
        Footprint { resident_bytes: self.parts.memory.bytes(), workspace_bytes: 0 }
    }

    async fn invoke(
        &self,
        input: ModelInput,
        deadline: Instant,
    ) -> Result<ModelOutput, RuntimeError> {
        let request = form::request(input).await?;
        let (reply, answer) = oneshot::channel();
        self.parts.queue.push(Call { request, arrived: Instant::now(), deadline, reply });
        answer.await.unwrap_or_else(|_| Err(RuntimeError::Unloaded))
    }

    async fn unload(&self) {
        self.parts.queue.close();
        let _scaling = self.scaling.lock().await;
        self.end(0).await;
    }

    fn describe(&self) -> Description {
        let Batching { max_calls, max_delay } = self.parts.batching();
        let said = |path: &str| {
            let said = self.parts.found.manifest.as_ref()?.pointer(path)?;
            said.as_str().map(str::to_owned)
        };
        Description {
            runtime: "python",
            version: said("/model/modelVersion"),
            engine: said("/engine/engineName"),
            batch_size: max_calls,
            max_batch_delay: max_delay,
            workers: self.parts.memory.workers(),
        }
    }

    async fn scale(&self, min: usize, max: usize) -> Result<(), RuntimeError> {
        let _scaling = self.scaling.lock().await;
        let now = self.parts.n_processes.load(Ordering::Relaxed);
        let wanted = now.max(min).min(max).max(1);
        if wanted > now {
            self.parts.memory.set_processes(wanted);
            let started = tokio::select! {
                biased;
                () = self.parts.queue.closed() => Err(RuntimeError::Unloaded),
                started = self.start(now, wanted) => started,
            };
            if let Err(error) = started {
                self.parts.memory.set_processes(now);
                return Err(error);
            }
        }
        self.parts.n_processes.store(wanted, Ordering::Relaxed);
        if wanted < now {
            self.end(wanted).await;
            self.parts.memory.set_processes(wanted);
        }
        Ok(())
    }
}

impl Drop for HandlerModel {
    fn drop(&mut self) {
        self.parts.queue.close();
        for kept in self.runners.get_mut().drain(..) {
            kept.runner.abort();
        }
    }
}

/// What a handler gets to know of an address: the last part of it, but of a folder that a platform has
/// unpacked (`/opt/ml/models/<name>/model`) the name.
fn model_name(address: &str) -> String {
    let path = address.trim_end_matches('/');
    let path = path.strip_suffix("/model").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_as_their_platform_names_them() {
        assert_eq!(model_name("s3://bucket/prefix/resnet.tar.gz"), "resnet.tar.gz");
        assert_eq!(model_name("file:///opt/ml/models/a1b2/model"), "a1b2");
        assert_eq!(model_name("file:///opt/ml/models/a1b2/model/"), "a1b2");
    }
}
