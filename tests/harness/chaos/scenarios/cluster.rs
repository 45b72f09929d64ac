//! A router of two, or the etcd by which all know each other, that is killed or stopped.
//!
//! Every invocation goes to one router or the other in turn, as through a balancer that knows nothing.

use super::{Skipped, cluster};
use crate::{
    chaos::{
        Aim, Plan, Report, aim::BEYOND_LEASES, load::PATIENCE_WITH_ROUTER, report::Cost, run::Run,
    },
    debian,
    etcd::Etcd,
};
use std::time::Duration;

const N_ROUTERS: usize = 2;

/// Clients of a router that falls silent turn away from it once they have no patience left. Those
/// that asked just before are answered as much later; and then it must be quiet.
const BEYOND_PATIENCE: Duration = PATIENCE_WITH_ROUTER.saturating_mul(3);

/// SIGKILL of a router, which is started again later.
pub async fn router_killed(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().routers(N_ROUTERS).start().await;
    let mut run = Run::start("router of two: SIGKILL", &cluster, plan, 2 * plan.hold).await;
    run.mark_costing(Cost::Retries, "killed", Aim::ProcessDeath);
    cluster.router(0).kill().await;
    run.hold().await;
    run.mark("started again", Aim::Settles);
    cluster.router(0).restart().await;
    cluster.all_in_service().await;
    run.ask_every_router();
    Ok(run.end().await)
}

/// SIGSTOP of a router, and SIGCONT.
pub async fn router_stopped(plan: &Plan) -> Result<Report, Skipped> {
    let plan = &plan.holding_at_least(BEYOND_PATIENCE);
    let cluster = cluster().routers(N_ROUTERS).start().await;
    let name = "router of two: SIGSTOP, SIGCONT";
    let mut run = Run::start(name, &cluster, plan, 2 * plan.hold).await;
    run.mark_costing(Cost::Retries, "stopped", Aim::Settles);
    cluster.router(0).freeze().await;
    run.hold().await;
    run.mark("continued", Aim::Settles);
    cluster.router(0).thaw().await;
    cluster.all_in_service().await;
    run.ask_every_router();
    Ok(run.end().await)
}

/// SIGKILL of etcd, which is started again later with what it knew.
pub async fn etcd_killed(plan: &Plan) -> Result<Report, Skipped> {
    let mut etcd = etcd().await?;
    let plan = &plan.holding_at_least(BEYOND_LEASES);
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: SIGKILL", &cluster, plan, 2 * plan.hold).await;
    run.mark("killed", Aim::ProcessDeath);
    etcd.kill();
    run.hold().await;
    run.mark("started again", Aim::Settles);
    etcd.restart().await;
    run.hold().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGSTOP of etcd, and SIGCONT.
pub async fn etcd_stopped(plan: &Plan) -> Result<Report, Skipped> {
    let etcd = etcd().await?;
    let plan = &plan.holding_at_least(BEYOND_LEASES);
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: SIGSTOP, SIGCONT", &cluster, plan, 2 * plan.hold).await;
    run.mark("stopped", Aim::SilentCut);
    etcd.freeze();
    run.hold().await;
    run.mark("continued", Aim::Settles);
    etcd.thaw();
    run.hold().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// An etcd that comes back and knows nothing.
pub async fn etcd_wiped(plan: &Plan) -> Result<Report, Skipped> {
    let mut etcd = etcd().await?;
    let plan = &plan.holding_at_least(BEYOND_LEASES);
    let cluster = cluster().routers(N_ROUTERS).etcd(&etcd).start().await;
    let mut run = Run::start("etcd: killed and wiped", &cluster, plan, 2 * plan.hold).await;
    run.mark("wiped", Aim::ProcessDeath);
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
