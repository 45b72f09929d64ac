//! Every command and flag of `manifold`.

use crate::load::flags::LoadArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::id::{EndpointName, TargetModel};
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

/// Manifold: thousands of models behind one SageMaker-compatible endpoint.
#[derive(Debug, Parser)]
#[command(name = "manifold", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a local cluster and leave it running until Ctrl-C.
    Up(UpArgs),
    /// Start a local cluster, walk through the multi-model story on it, stop it.
    Demo(DemoArgs),
    /// Ask a model and print its answer.
    Invoke(InvokeArgs),
    /// Send invocations at a rate, or as fast as they are answered, and tell what became of them.
    Load(Box<LoadArgs>),
    /// Make the demo models (see `manifold zoo --help`).
    #[command(disable_help_flag = true)]
    Zoo(ZooArgs),
    /// Serve a folder as an S3 store, for everyone who reaches it.
    Store(StoreArgs),
    /// Run one instance: a container, and the agent in front of it. For launchers.
    #[command(hide = true)]
    Container(ContainerArgs),
    /// Put model archives into a store, and an endpoint over them into a router.
    Publish(PublishArgs),
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// Instances of the endpoint `demo`. A handful is enough on one machine: they share its cores.
    #[arg(long, env = "MANIFOLD_WORKERS", default_value = "2", value_parser = n_workers)]
    pub workers: usize,

    /// Worker instances that there may be, over all endpoints that clients make.
    #[arg(long, env = "MANIFOLD_MAX_INSTANCES", default_value = "8", value_parser = n_workers)]
    pub max_instances: usize,

    /// Address that clients invoke.
    #[arg(long, env = "MANIFOLD_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Let the router listen beyond loopback although anybody there may invoke models.
    #[arg(long, env = "MANIFOLD_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,

    /// File with the keys that requests to the router must be signed with (TOML). Without it, whoever
    /// reaches the router may do everything.
    #[arg(long, env = "ROUTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// File with the token by which the cluster's processes know each other, readable by its owner
    /// alone [default: with `--credentials`, one that is made for the run].
    #[arg(long, env = "ROUTER_CLUSTER_TOKEN_FILE")]
    pub cluster_token_file: Option<PathBuf>,

    /// A key of the environment that the router takes: our own calls are signed with it.
    #[arg(long, env = "ROUTER_ACCESS_KEY_ID", hide = true, requires = "secret_access_key")]
    pub access_key_id: Option<String>,

    #[arg(long, env = "ROUTER_SECRET_ACCESS_KEY", hide = true, hide_env_values = true)]
    pub secret_access_key: Option<String>,

    /// Folder for logs, the store's objects and the workers' caches.
    #[arg(long, env = "MANIFOLD_DATA", default_value = ".manifold")]
    pub data: PathBuf,

    /// Folder with model archives, uploaded to the store as they are [default: `models` in the data
    /// folder, where the demo models that are missing are made first].
    #[arg(long, env = "MANIFOLD_MODELS")]
    pub models: Option<PathBuf>,

    /// Start without models: upload your own to `s3://manifold-demo/models/`.
    #[arg(long, conflicts_with = "models")]
    pub no_models: bool,

    /// Memory for models, bytes, divided between the workers [default: 70 % of the machine's].
    #[arg(long, env = "MANIFOLD_MEMORY_BUDGET")]
    pub memory_budget: Option<u64>,

    /// What instances are: Manifold's own workers, whatever image a model names, or containers of that
    /// image, started as SageMaker would. With `docker`, the endpoint `demo` is there with `--image` alone.
    #[arg(long, env = "MANIFOLD_INSTANCES", default_value = "process")]
    pub instances: InstanceKind,

    /// The image of the endpoint `demo`; instances are containers then.
    #[arg(long, env = "MANIFOLD_IMAGE")]
    pub image: Option<String>,

    /// Ends when standard input closes, for a program that starts this one.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// What an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InstanceKind {
    /// A worker's process.
    #[default]
    Process,
    /// A container of the model's image, and an agent in front of it.
    Docker,
}

impl UpArgs {
    pub fn are_containers(&self) -> bool {
        self.instance_kind() == InstanceKind::Docker
    }

    pub fn instance_kind(&self) -> InstanceKind {
        if self.image.is_some() { InstanceKind::Docker } else { self.instances }
    }
}

#[derive(Clone, Debug, Args)]
pub struct ContainerArgs {
    /// The instance's name.
    #[arg(long)]
    pub instance: String,

    /// The cluster's folder, by which its containers are told from others.
    #[arg(long)]
    pub data: PathBuf,

    #[arg(long)]
    pub image: String,

    /// Folder where the container's models are unpacked.
    #[arg(long)]
    pub models: PathBuf,

    /// The most memory that the container may have.
    #[arg(long)]
    pub memory_bytes: u64,

    /// Seconds until it must answer pings: SageMaker's eight minutes.
    #[arg(long, default_value_t = 480)]
    pub startup_timeout_s: u32,

    /// The container's variables, as JSON.
    #[arg(long, env = crate::container::ENVIRONMENT, hide_env_values = true)]
    pub environment: Option<String>,

    /// Flags of the agent.
    #[arg(last = true)]
    pub agent: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Worker instances.
    #[arg(long, default_value = "2", value_parser = n_workers)]
    pub workers: usize,

    /// Folder below which the demo makes one of its own, and removes it at its end.
    #[arg(long, env = "MANIFOLD_DATA", default_value = ".manifold")]
    pub data: PathBuf,

    /// Folder with the demo models. Those that are missing are made first [default: `models` in the
    /// data folder].
    #[arg(long, env = "MANIFOLD_MODELS")]
    pub models: Option<PathBuf>,

    /// Start of the pseudo-random order of the hundred invocations.
    #[arg(long, default_value = "2013")]
    pub seed: u64,
}

#[derive(Clone, Debug, Args)]
pub struct InvokeArgs {
    #[arg(long, default_value = "demo")]
    pub endpoint: EndpointName,

    /// The model's archive, relative to the endpoint's prefix.
    #[arg(long)]
    pub target_model: TargetModel,

    /// File to send as the body. `-` is standard input.
    #[arg(long)]
    pub body: PathBuf,

    #[arg(long)]
    pub content_type: Option<String>,

    #[arg(long)]
    pub accept: Option<String>,

    /// The router's URL.
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:8080")]
    pub router: String,
}

#[derive(Clone, Debug, Args)]
pub struct ZooArgs {
    /// Handed to `manifold-zoo` as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// Address to serve on. Port 0 takes any free one.
    #[arg(long, env = "MANIFOLD_STORE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Folder of the buckets.
    #[arg(long, env = "MANIFOLD_STORE_DATA")]
    pub data: PathBuf,

    /// Listens beyond loopback although anybody there may read, write and delete every object: for a
    /// network of its own, which strangers do not reach.
    #[arg(long, env = "MANIFOLD_STORE_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,

    /// File that gets the bound address once the store listens.
    #[arg(long)]
    pub address_file: Option<PathBuf>,

    /// Ends when standard input closes.
    #[arg(long)]
    pub exit_with_parent: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PublishArgs {
    /// The store's URL.
    #[arg(long, env = "MANIFOLD_STORE")]
    pub store: String,

    /// The router's URL.
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:8080")]
    pub router: String,

    /// Folder with model archives (`.tar.gz`), uploaded to `s3://manifold-demo/models/` as they are
    /// unless they are there.
    #[arg(long, env = "MANIFOLD_MODELS")]
    pub models: PathBuf,

    /// Make the demo models that the folder lacks, first.
    #[arg(long)]
    pub make: bool,

    /// A key that the router takes, if it takes signed requests alone.
    #[arg(long, env = "ROUTER_ACCESS_KEY_ID", hide = true, requires = "secret_access_key")]
    pub access_key_id: Option<String>,

    #[arg(long, env = "ROUTER_SECRET_ACCESS_KEY", hide = true, hide_env_values = true)]
    pub secret_access_key: Option<String>,

    /// Instances without which the endpoint `demo` is not in service.
    #[arg(long, default_value = "1", value_parser = n_workers)]
    pub instances: usize,
}

/// More workers than this share one machine for no good: each keeps LibTorch and a slot.
const MAX_WORKERS: usize = 64;

fn n_workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_WORKERS) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MAX_WORKERS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn documented_flags_exist_and_no_flag_is_undocumented() {
        let page = include_str!("../../docs/configuration.md");
        let cli = Cli::command();
        let mut undocumented = names(&cli, "");
        // It hands its flags on, and says so.
        undocumented.retain(|name| *name != "zoo");
        let sections = page.split("\n## ").filter_map(|it| it.split_once('\n'));
        for (heading, table) in sections.filter(|(heading, _)| heading.contains("(`manifold ")) {
            let commands = heading.split("`manifold ").skip(1);
            let commands: Vec<_> = commands.filter_map(|it| it.split(" --help`").next()).collect();
            let existing: BTreeSet<_> = commands.iter().flat_map(|it| flags(&cli, it)).collect();
            let rows =
                table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
            let in_rows = rows.flat_map(|row| row.split("`--").skip(1));
            let documented = in_rows.filter_map(|rest| rest.split('`').next()).map(str::to_owned);
            assert_eq!(documented.collect::<BTreeSet<_>>(), existing, "{heading}");
            undocumented.retain(|name| !commands.contains(&&**name));
        }
        assert_eq!(undocumented, Vec::<String>::new());
    }

    /// Every command that `--help` shows, with those of commands: `load compare`.
    fn names(command: &clap::Command, prefix: &str) -> Vec<String> {
        let named = |it: &clap::Command| {
            let name = format!("{prefix}{}", it.get_name());
            let of_name = names(it, &format!("{name} "));
            [vec![name], of_name].concat()
        };
        command.get_subcommands().filter(|it| !it.is_hide_set()).flat_map(named).collect()
    }

    /// The flags of a command that `--help` shows.
    fn flags(cli: &clap::Command, name: &str) -> Vec<String> {
        let found = name.split(' ').try_fold(cli, |command, word| command.find_subcommand(word));
        let found = found.unwrap_or_else(|| panic!("there is no command `{name}`"));
        let shown = found.get_arguments().filter(|it| !it.is_hide_set());
        shown.filter_map(clap::Arg::get_long).map(str::to_owned).collect()
    }

    #[test]
    fn flags_of_zoo_pass_through() {
        let cli = Cli::parse_from(["manifold", "zoo", "--out", "x", "--help"]);
        let Command::Zoo(zoo) = cli.command else { panic!("{cli:?}") };
        assert_eq!(zoo.args, ["--out", "x", "--help"]);
    }

    #[test]
    fn number_of_workers_is_bounded() {
        for bad in ["0", "65", "x", "-1"] {
            assert!(Cli::try_parse_from(["manifold", "up", "--workers", bad]).is_err(), "{bad}");
        }
    }
}
