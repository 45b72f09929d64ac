//! `manifold demo`: the whole multi-model story on a cluster of its own, checked on the way.

mod classes;
mod report;
mod tally;
mod walk;

use crate::{
    binaries::Binaries,
    cli::DemoArgs,
    cluster::{Cluster, ClusterPlan},
    console,
    data::DataDir,
    models::ModelStore,
    up::{self, Ended},
};
use anyhow::Context as _;
use std::net::{Ipv4Addr, SocketAddr};

/// Runs the demo to its end. An error is a check that failed, or what kept the walk from going on.
pub async fn run(args: DemoArgs) -> anyhow::Result<Ended> {
    let binaries = Binaries::beside_us()?;
    up::make_models(&binaries, &args.models).await?;

    let folder = tempfile::tempdir().context("could not make a folder for the demo's data")?;
    let plan = ClusterPlan {
        binaries,
        data: DataDir::open(folder.path())?,
        // Any free port: a cluster of `manifold up` may be running beside.
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        router_flags: Vec::new(),
        shares: up::divide(None, args.workers)?,
    };
    let start = async {
        let cluster = Cluster::start(plan).await?;
        up::upload_models(&cluster, &args.models).await?;
        console::say(
            "          endpoint `demo` comes from the router's configuration: CreateModel, \
             CreateEndpointConfig and CreateEndpoint follow with the control plane",
        );
        let store = ModelStore::new(&cluster.store_url());
        let walk = walk::Walk::new(cluster.client().clone(), store, args.models, args.seed);
        Ok((cluster, walk.run()))
    };
    let ended = up::until_told(Box::pin(start)).await?;
    folder.close().context("could not remove the demo's data")?;
    Ok(ended)
}
