//! `manifold demo`: the whole multi-model story on a cluster of its own, checked on the way.

mod classes;
mod report;
mod tally;
mod walk;

use crate::{
    binaries::Binaries,
    cli::{DemoArgs, InstanceKind},
    cluster::ClusterPlan,
    console::Step,
    data::DataDir,
    endpoint,
    models::ModelStore,
    signals::Signals,
    up::{self, Ended},
    zoo::Made,
};
use anyhow::Context as _;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};
use tempfile::TempDir;

/// Runs the demo to its end. An error is a check that failed, or what kept the walk from going on.
pub async fn run(args: DemoArgs) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    let binaries = Binaries::beside_us()?;
    let models = args.models.unwrap_or_else(|| args.data.join("models"));
    if up::make_models(&binaries, &models, &mut signals).await? == Made::Interrupted {
        return Ok(Ended::Killed);
    }
    let folder = own_folder(&args.data)
        .with_context(|| format!("could not make a folder in {}", args.data.display()))?;
    let plan = ClusterPlan {
        binaries,
        data: DataDir::open(folder.path())?,
        // Any free port: a cluster of `manifold up` may be running beside.
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        router_flags: Vec::new(),
        key: None,
        token_file: None,
        machine: up::measure(None, args.workers)?,
        max_instances: args.workers,
        kind: InstanceKind::Process,
    };
    let walk = up::with_cluster(plan, &mut signals, async |cluster| {
        up::upload_models(cluster, &models).await?;
        up::create_endpoint(cluster, None, args.workers).await?;
        let store = ModelStore::new(&cluster.store_url());
        let walk = walk::Walk::new(cluster.client().clone(), store, models.clone(), args.seed);
        walk.run().await?;
        let step = Step::start();
        endpoint::delete(cluster.client()).await?;
        step.done("endpoint deleted: DeleteEndpoint; its instances have ended");
        Ok(())
    });
    // Boxed: a cluster and the walk hold a lot.
    let ended = Box::pin(walk).await?;
    folder.close().context("could not remove the demo's data")?;
    Ok(ended)
}

/// Not in `/tmp`, which may be memory: the demo's models take more than half a gigabyte.
fn own_folder(data: &Path) -> std::io::Result<TempDir> {
    fs::create_dir_all(data)?;
    tempfile::Builder::new().prefix("demo-").tempdir_in(data)
}
