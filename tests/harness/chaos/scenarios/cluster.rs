//! A router of two, or the etcd by which all know each other, that is killed or stopped.
//!
//! Every invocation goes to one router or the other in turn, as through a balancer that knows nothing.

use super::{Skipped, cluster};
use crate::{
    chaos::{Plan, Report, Run},
    debian,
    etcd::Etcd,
};

const N_ROUTERS: usize = 2;

/// SIGKILL of a router, which is started again later.
pub async fn router_killed(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().routers(N_ROUTERS).start().await;
    let mut run = Run::start("router of two: SIGKILL", &cluster, plan, 2 * plan.hold).await;
    run.mark("killed");
    cluster.router(0).kill().await;
    run.hold().await;
    run.mark("started again");
    cluster.router(0).restart().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGSTOP of a router, and SIGCONT.
pub async fn router_stopped(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().routers(N_ROUTERS).start().await;
    let name = "router of two: SIGSTOP, SIGCONT";
    let mut run = Run::start(name, &cluster, plan, 2 * plan.hold).await;
    run.mark("stopped");
    cluster.router(0).freeze().await;
    run.hold().await;
    run.mark("continued");
    cluster.router(0).thaw().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGKILL of etcd, which is started again later with what it knew.
pub async fn etcd_killed(plan: &Plan) -> Result<Report, Skipped> {
    let mut etcd = etcd().await?;
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: SIGKILL", &cluster, plan, 2 * plan.hold).await;
    run.mark("killed");
    etcd.kill();
    run.hold().await;
    run.mark("started again");
    etcd.restart().await;
    run.hold().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGSTOP of etcd, and SIGCONT.
pub async fn etcd_stopped(plan: &Plan) -> Result<Report, Skipped> {
    let etcd = etcd().await?;
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: SIGSTOP, SIGCONT", &cluster, plan, 2 * plan.hold).await;
    run.mark("stopped");
    etcd.freeze();
    run.hold().await;
    run.mark("continued");
    etcd.thaw();
    run.hold().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// An etcd that comes back and knows nothing.
pub async fn etcd_wiped(plan: &Plan) -> Result<Report, Skipped> {
    let mut etcd = etcd().await?;
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: killed and wiped", &cluster, plan, 2 * plan.hold).await;
    run.mark("wiped");
    etcd.wipe();
    etcd.restart().await;
    run.hold().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

async fn etcd() -> Result<Etcd, Skipped> {
    if debian::program("etcd").is_none() {
        return Err("etcd is not here (python3 scripts/setup.py debian)".to_owned());
    }
    Ok(Etcd::start().await.expect("its program is there"))
}
