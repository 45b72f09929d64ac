//! A worker whose disk is full or whose memory runs out; a process whose clock is set.

use super::{Skipped, VICTIM, cluster};
use crate::{
    chaos::{Aim, Plan, Report, run::Run},
    clock::Clock,
    cluster::Cluster,
    eventually,
    memory_cgroup::MemoryCgroup,
    small_disk::{SmallDisk, small_disk},
};
use std::os::unix::process::ExitStatusExt as _;

/// What SIGKILL is called in an exit status.
const KILLED: i32 = 9;

const HOUR_S: i64 = 3600;

/// Somebody fills the disk that a worker's cache is on.
pub async fn full_disk(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().worker_rig(VICTIM, small_disk()?).start().await;
    let pid = cluster.worker(VICTIM).pid().await.expect("it runs");
    let disk = SmallDisk::of(pid, &cluster.cache_folder(VICTIM));
    let mut run = Run::start("worker: cache disk full", &cluster, plan, plan.hold).await;
    run.mark("full", Aim::Settles);
    disk.fill();
    run.hold().await;
    run.mark("room again", Aim::Settles);
    disk.clear();
    Ok(run.end().await)
}

/// A control group runs out of memory, and the kernel kills the worker in it.
pub async fn out_of_memory(plan: &Plan) -> Result<Report, Skipped> {
    let mut group = MemoryCgroup::new()?;
    let cluster = cluster().worker_rig(VICTIM, group.worker()).start().await;
    let name = "worker: killed by its control group (out of memory)";
    let mut run = Run::start(name, &cluster, plan, 2 * plan.hold).await;
    // It may be slow before the kernel gives up.
    run.mark("out of memory", Aim::WhileItLasts);
    group.run_out().expect("the group takes a limit");
    let status = cluster.worker(VICTIM).exit_status().await;
    run.mark("killed", Aim::ProcessDeath);
    assert_eq!(status.signal(), Some(KILLED), "{status}");
    eventually(async || group.n_kills() > 0).await;
    group.relax();
    run.hold().await;
    run.mark("started again", Aim::Settles);
    cluster.worker(VICTIM).restart().await;
    cluster.all_in_service().await;
    Ok(run.end().await)
}

/// A worker's clock is set an hour ahead, and an hour behind.
pub async fn clock_of_worker(plan: &Plan) -> Result<Report, Skipped> {
    let clock = Clock::new()?;
    let cluster = cluster().worker_rig(VICTIM, clock.rig()).start().await;
    let url = cluster.worker(VICTIM).url().await;
    Ok(set_clock(plan, "clock of a worker", &cluster, (&clock, &url)).await)
}

/// The router's clock is set an hour ahead, and an hour behind.
pub async fn clock_of_router(plan: &Plan) -> Result<Report, Skipped> {
    let clock = Clock::new()?;
    let cluster = cluster().router_rig(clock.rig()).start().await;
    let url = cluster.router(0).url().to_owned();
    Ok(set_clock(plan, "clock of the router", &cluster, (&clock, &url)).await)
}

/// Sets the clock of the process at `url`, which must see it.
async fn set_clock(plan: &Plan, name: &str, cluster: &Cluster, of: (&Clock, &str)) -> Report {
    let (clock, url) = of;
    let mut run = Run::start(name, cluster, plan, 2 * plan.hold).await;
    for (what, seconds) in [("an hour ahead", HOUR_S), ("an hour behind", -HOUR_S)] {
        run.mark(what, Aim::Settles);
        clock.step(seconds);
        clock.is_shown_by(url).await;
        run.hold().await;
    }
    run.end().await
}
