//! Docker's engine, or another one that speaks its API. The only file that names bollard.

use super::plan::{ContainerSpec, Owner};
use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    models::{
        ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig, Mount,
        MountType, PortBinding,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
        WaitContainerOptions,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready};
use std::{collections::HashMap, fmt, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};

/// What of a container's output its engine keeps: we have taken it by then.
const LOG_BYTES: &str = "1m";

/// Processes and threads of a container: servers have hundreds, a fork bomb has more.
const MAX_PIDS: i64 = 8192;

/// Why a container is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(
        "no Docker engine answers ({0}): start it, let this user reach its socket, or say where it is with DOCKER_HOST"
    )]
    NoEngine(#[source] Error),
    #[error("the image {image} cannot be had: {error}")]
    NoImage { image: String, error: Error },
    #[error("the container of {image} cannot be started: {error}")]
    NotStarted { image: String, error: Error },
    #[error(
        "the container of {image} has no port {port}: it ended at once, or its network was taken"
    )]
    NoPort { image: String, port: u16 },
    #[error("Docker's engine does not answer: {0}")]
    Engine(#[from] Error),
}

/// How long an engine may take to say that it is there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the engine.
#[derive(Debug)]
pub(super) struct Engine {
    docker: Docker,
    /// Held while a container is being made, by a task that goes on when nobody waits any more: what an
    /// engine was asked for, it makes.
    making: Arc<Mutex<()>>,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) id: String,
    /// Of loopback.
    pub(super) port: u16,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i64,
    pub(super) is_out_of_memory: bool,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.is_out_of_memory { ": it was killed because memory ran out" } else { "" };
        write!(f, "ended with code {}{why}", self.code)
    }
}

impl Engine {
    /// Reaches the engine that Docker's own tools would.
    pub(super) async fn connect() -> Result<Self, EngineError> {
        let docker = Docker::connect_with_defaults().map_err(EngineError::NoEngine)?;
        let reached = timeout(CONNECT_PATIENCE, docker.negotiate_version()).await;
        let docker = reached.unwrap_or(Err(Error::RequestTimeoutError));
        let docker = docker.map_err(EngineError::NoEngine)?;
        Ok(Self { docker, making: Arc::default() })
    }

    /// Returns the labels of an image; `None` if it is not here.
    pub(super) async fn image_labels(
        &self,
        image: &str,
    ) -> Result<Option<HashMap<String, String>>, EngineError> {
        match self.docker.inspect_image(image).await {
            Ok(found) => Ok(Some(found.config.and_then(|it| it.labels).unwrap_or_default())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn pull(&self, image: &str) -> Result<(), EngineError> {
        // Without a tag, the engine would take all that there are.
        let last = image.rsplit('/').next().unwrap_or(image);
        let named = if last.contains(':') || last.contains('@') {
            image.to_owned()
        } else {
            format!("{image}:latest")
        };
        let options = CreateImageOptionsBuilder::new().from_image(&named).build();
        let mut progress = self.docker.create_image(Some(options), None, None);
        while let Some(step) = progress.next().await {
            step.map_err(|error| EngineError::NoImage { image: image.to_owned(), error })?;
        }
        Ok(())
    }

    pub(super) async fn start(&self, spec: ContainerSpec) -> Result<Started, EngineError> {
        let (docker, making) = (self.docker.clone(), Arc::clone(&self.making));
        let made = tokio::spawn(async move {
            let _making = making.lock().await;
            make(&docker, &spec).await
        });
        // It is never aborted, and a panic of it is ours.
        made.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }

    /// What it prints, until it ends.
    pub(super) fn output(&self, id: &str) -> impl Stream<Item = Bytes> + use<> {
        let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
        let output = self.docker.logs(id, Some(options));
        // One that fails has ended, and how is asked elsewhere.
        output
            .take_while(|it| ready(it.is_ok()))
            .filter_map(|it| ready(it.ok().map(LogOutput::into_bytes)))
    }

    /// Waits until it has ended.
    pub(super) async fn exit(&self, id: &str) -> Result<Exit, EngineError> {
        let mut waiting = self.docker.wait_container(id, None::<WaitContainerOptions>);
        match waiting.next().await {
            None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => {}
            Some(Err(error)) => return Err(error.into()),
        }
        let state = self.docker.inspect_container(id, None).await?.state.unwrap_or_default();
        Ok(Exit {
            code: state.exit_code.unwrap_or_default(),
            is_out_of_memory: state.oom_killed.unwrap_or_default(),
        })
    }

    /// SIGTERM, and SIGKILL after the grace time.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        match self.docker.stop_container(id, Some(options)).await {
            Err(error) if !is_missing(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills and removes every container of an owner, one that is being made included.
    pub(super) async fn remove(&self, owner: &Owner) -> Result<(), EngineError> {
        let _making = self.making.lock().await;
        let labels = owner.labels().into_iter().map(|(name, value)| format!("{name}={value}"));
        let filters = HashMap::from([("label", labels.collect::<Vec<_>>())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        for found in self.docker.list_containers(Some(options)).await? {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match self.docker.remove_container(&found.id.unwrap_or_default(), Some(options)).await {
                // Somebody else is removing it.
                Err(error) if is_missing(&error) || is_conflict(&error) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

async fn make(docker: &Docker, spec: &ContainerSpec) -> Result<Started, EngineError> {
    let image = || spec.image.clone();
    let not_started = |error| EngineError::NotStarted { image: image(), error };
    let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
    let created = docker.create_container(Some(options), body(spec)).await;
    let id = created.map_err(not_started)?.id;
    docker.start_container(&id, None).await.map_err(not_started)?;
    let port = published(&docker.inspect_container(&id, None).await?, spec.port);
    let port = port.ok_or_else(|| EngineError::NoPort { image: image(), port: spec.port })?;
    Ok(Started { id, port })
}

fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let port = format!("{}/tcp", spec.port);
    // Loopback, and whichever port is free.
    let published = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None };
    let (on_host, within) = &spec.models;
    let models = Mount {
        typ: Some(MountType::BIND),
        source: Some(on_host.display().to_string()),
        target: Some(within.display().to_string()),
        read_only: Some(true),
        ..Mount::default()
    };
    let memory = i64::try_from(spec.memory_bytes).ok();
    let log = HashMap::from([
        ("max-size".to_owned(), LOG_BYTES.to_owned()),
        ("max-file".to_owned(), "2".to_owned()),
    ]);
    let host = HostConfig {
        port_bindings: Some(HashMap::from([(port.clone(), Some(vec![published]))])),
        mounts: Some(vec![models]),
        memory,
        // None to swap with.
        memory_swap: memory,
        pids_limit: Some(MAX_PIDS),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: Some(spec.command.clone()),
        env: Some(spec.environment.clone()),
        labels: Some(spec.labels.clone()),
        exposed_ports: Some(vec![port]),
        // Whatever the image would like better.
        stop_signal: Some("SIGTERM".to_owned()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn published(container: &ContainerInspectResponse, port: u16) -> Option<u16> {
    let ports = container.network_settings.as_ref()?.ports.as_ref()?;
    let bindings = ports.get(&format!("{port}/tcp"))?.as_ref()?;
    bindings.first()?.host_port.as_ref()?.parse().ok()
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}
