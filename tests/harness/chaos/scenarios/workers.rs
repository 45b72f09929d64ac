//! A worker that is killed, or stopped.

use super::{N_WORKERS, Skipped, VICTIM, cluster};
use crate::chaos::{Aim, KILL_INTERVAL, Plan, Report, aim::BEYOND_LEASES, run::Run};
use tokio::time::Instant;

/// SIGKILL of a worker, which is started again later.
pub async fn killed(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().start().await;
    let mut run = Run::start("worker: SIGKILL", &cluster, plan, 2 * plan.hold).await;
    run.mark("killed", Aim::ProcessDeath);
    cluster.worker(VICTIM).kill().await;
    run.hold().await;
    run.mark("started again", Aim::Settles);
    cluster.worker(VICTIM).restart().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGSTOP of a worker, and SIGCONT once everyone has forgotten it.
pub async fn stopped(plan: &Plan) -> Result<Report, Skipped> {
    let plan = &plan.holding_at_least(BEYOND_LEASES);
    let cluster = cluster().start().await;
    let mut run = Run::start("worker: SIGSTOP, SIGCONT", &cluster, plan, 2 * plan.hold).await;
    run.mark("stopped", Aim::SilentCut);
    cluster.worker(VICTIM).freeze().await;
    run.hold().await;
    run.mark("continued", Aim::Settles);
    cluster.worker(VICTIM).thaw().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// SIGKILL of one worker after the other, each started again at once.
pub async fn killed_again_and_again(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().start().await;
    let name = format!("workers: SIGKILL every {KILL_INTERVAL:?}, {:?} long", plan.kills);
    let mut run = Run::start(&name, &cluster, plan, plan.kills).await;
    let n_kills = plan.kills.as_secs() / KILL_INTERVAL.as_secs();
    for nth in 0..usize::try_from(n_kills).expect("a scenario lasts minutes") {
        let victim = cluster.worker(nth % N_WORKERS);
        let next = Instant::now() + KILL_INTERVAL;
        run.mark("killed", Aim::ProcessDeath);
        victim.kill().await;
        victim.restart().await;
        run.mark("started again", Aim::Settles);
        // Where starting takes that long, it is seen all the same whether it settles.
        run.lasts(next.saturating_duration_since(Instant::now()).max(plan.calm)).await;
    }
    Ok(run.end().await)
}
