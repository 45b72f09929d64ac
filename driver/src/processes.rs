//! The command line of each process of a cluster.

use crate::{
    binaries::Binaries,
    child::{ChildSpec, ROUTER_SETTINGS, WORKER_SETTINGS},
    cli::InstanceKind,
    data::DataDir,
    share::Share,
};
use shared::api::fleets::ContainerDefinition;
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The region that local clients and the local store agree on. Any would do.
pub const REGION: &str = "us-east-1";

/// The store takes any credentials, but an SDK does not send a request without some.
const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")];

/// s3s logs every request in full at `info`, which costs more than the request.
const STORE_LOG_FILTER: &str = "info,s3s=warn,s3s_fs=warn";

/// What the processes of one cluster have in common.
#[derive(Clone, Debug)]
pub struct Processes {
    pub binaries: Binaries,
    pub data: DataDir,
    /// The file of the token by which they know each other; `None`: they do not.
    pub token_file: Option<PathBuf>,
    pub kind: InstanceKind,
}

impl Processes {
    /// Those of a cluster whose instances are workers and that has no token.
    pub fn new(binaries: Binaries, data: DataDir) -> Self {
        Self { binaries, data, token_file: None, kind: InstanceKind::Process }
    }

    pub fn store(&self, listen: SocketAddr) -> ChildSpec {
        let root = self.data.store();
        let mut args: Vec<OsString> = vec!["store".into()];
        args.extend(flag("--listen", listen.to_string()));
        args.extend(flag("--data", &root));
        let mut spec = self.spec("store", &self.binaries.manifold, args);
        spec.env.push(("RUST_LOG".to_owned(), STORE_LOG_FILTER.to_owned()));
        spec
    }

    pub fn router(&self, listen: SocketAddr) -> ChildSpec {
        self.router_named("router", listen, &self.data.records())
    }

    /// One of several routers: each has records of its own.
    pub fn router_named(&self, name: &str, listen: SocketAddr, records: &Path) -> ChildSpec {
        let mut args = Vec::new();
        args.extend(flag("--listen", listen.to_string()));
        args.extend(flag("--records", records));
        args.extend(self.token_flag());
        ChildSpec { settings: &[ROUTER_SETTINGS], ..self.spec(name, &self.binaries.router, args) }
    }

    pub fn worker(
        &self,
        instance: &str,
        share: Share,
        router_url: &str,
        store_url: &str,
    ) -> ChildSpec {
        let mut args = Vec::new();
        args.extend(flag("--bind", "127.0.0.1:0"));
        args.extend(flag("--instance-id", instance));
        args.extend(flag("--router", router_url));
        args.extend(flag("--memory-budget", share.memory_budget_bytes.to_string()));
        args.extend(flag("--compute-slots", share.compute_slots.to_string()));
        args.extend(flag("--cache-dir", self.data.cache(instance)));
        args.extend(flag("--s3-endpoint", store_url));
        args.extend(flag("--s3-region", REGION));
        args.extend(self.token_flag());
        let mut spec = self.spec(instance, &self.binaries.worker, args);
        spec.settings = &[WORKER_SETTINGS];
        // Two thirds are as long as an invocation may take: what was accepted is finished, however long
        // models are handed over. No flag, because a flag cannot be said again by those who want it
        // otherwise.
        spec.env.push(("WORKER_DRAIN_TIMEOUT_S".to_owned(), "90".to_owned()));
        spec.env.extend(CREDENTIALS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        spec
    }

    /// An instance of a fleet, as instances are here.
    pub fn instance(
        &self,
        instance: &str,
        share: Share,
        urls: (&str, &str),
        container: Option<&ContainerDefinition>,
    ) -> ChildSpec {
        let worker = self.worker(instance, share, urls.0, urls.1);
        match (self.kind, container) {
            (InstanceKind::Docker, Some(container)) => self.contained(worker, share, container),
            _ => worker,
        }
    }

    /// A container with a worker as the agent in front of it.
    fn contained(
        &self,
        agent: ChildSpec,
        share: Share,
        container: &ContainerDefinition,
    ) -> ChildSpec {
        let ContainerDefinition { image, environment, startup_timeout_s } = container;
        let mut args: Vec<OsString> = vec!["container".into()];
        args.extend(flag("--instance", &agent.name));
        args.extend(flag("--data", self.data.path()));
        args.extend(flag("--image", image));
        args.extend(flag("--models", self.data.unpacked(&agent.name)));
        args.extend(flag("--memory-bytes", share.memory_budget_bytes.to_string()));
        let startup_timeout_s = startup_timeout_s.iter();
        args.extend(startup_timeout_s.flat_map(|it| flag("--startup-timeout-s", it.to_string())));
        args.push("--".into());
        args.extend(agent.args);
        let mut spec = ChildSpec { program: self.binaries.manifold.clone(), args, ..agent };
        let environment = serde_json::to_string(environment).expect("names and values are text");
        spec.env.push((crate::container::ENVIRONMENT.to_owned(), environment));
        spec
    }

    /// What a router needs to reach the store itself.
    pub fn with_store(&self, mut router: ChildSpec, store_url: &str) -> ChildSpec {
        for name in ["--local-store", "--s3-endpoint"] {
            router.args.extend(flag(name, store_url));
        }
        router.args.extend(flag("--s3-region", REGION));
        router.env.extend(CREDENTIALS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        router
    }

    fn token_flag(&self) -> impl Iterator<Item = OsString> {
        let file = self.token_file.iter();
        file.flat_map(|file| flag("--cluster-token-file", file))
    }

    fn spec(&self, name: &str, program: &Path, mut args: Vec<OsString>) -> ChildSpec {
        let address_file = self.data.address_file(name);
        args.extend(flag("--address-file", &address_file));
        args.push("--exit-with-parent".into());
        ChildSpec {
            name: name.to_owned(),
            program: program.to_owned(),
            args,
            env: Vec::new(),
            settings: &[],
            log: self.data.log(name),
            address_file,
        }
    }
}

fn flag(name: &str, value: impl Into<OsString>) -> [OsString; 2] {
    [name.into(), value.into()]
}
