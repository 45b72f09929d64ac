//! A network between the router and one worker that is cut, slow, or loses packets.

use super::{Skipped, VICTIM, cluster};
use crate::{
    chaos::{Aim, Plan, Report, aim::BEYOND_LEASES, run::Run},
    cluster::Cluster,
    forwarder::{Forwarder, between},
    netns::Netns,
};
use std::{sync::Arc, time::Duration};

/// What each byte takes on its way, there and back.
const DELAY: Duration = Duration::from_millis(200);

const LOSS_PERCENT: u32 = 5;

/// Router and store here, one worker in a network of its own.
struct Apart {
    cluster: Cluster,
    // Last, so that nobody is inside any more.
    netns: Netns,
}

impl Apart {
    async fn start() -> Result<Self, Skipped> {
        let netns = Netns::new()?;
        let cluster = cluster()
            .host(netns.outside().into())
            .router_flags(&["--allow-unauthenticated"])
            .worker_flags(&["--allow-invocations-by-address", "--allow-bucket", "manifold-test"])
            .worker_rig(VICTIM, netns.worker());
        Ok(Self { cluster: cluster.start().await, netns })
    }

    async fn severed(self, plan: &Plan, name: &str, sever: impl FnOnce(&Netns)) -> Report {
        let Self { cluster, netns } = self;
        let plan = &plan.holding_at_least(BEYOND_LEASES);
        let mut run = Run::start(name, &cluster, plan, 2 * plan.hold).await;
        run.mark("cut", Aim::SilentCut);
        sever(&netns);
        run.hold().await;
        run.mark("healed", Aim::Settles);
        netns.heal();
        cluster.all_in_service().await;
        run.end().await
    }
}

/// No packet gets through, and nothing is said.
pub async fn cut(plan: &Plan) -> Result<Report, Skipped> {
    let apart = Apart::start().await?;
    let name = "network: cut between the router and a worker";
    Ok(apart.severed(plan, name, Netns::cut).await)
}

/// What the worker says gets through, nothing that is said to its port.
pub async fn one_way_cut(plan: &Plan) -> Result<Report, Skipped> {
    let apart = Apart::start().await?;
    let port = apart.cluster.worker(VICTIM).address().await.port();
    let name = "network: cut towards a worker's port alone";
    Ok(apart.severed(plan, name, |netns| netns.cut_port(port)).await)
}

/// Every twentieth packet is lost, at random, in both directions.
pub async fn loss(plan: &Plan) -> Result<Report, Skipped> {
    let Apart { cluster, netns } = Apart::start().await?;
    let name = format!("network: {LOSS_PERCENT} % of packets lost");
    let mut run = Run::start(&name, &cluster, plan, plan.hold).await;
    run.mark("loss began", Aim::WhileItLasts);
    netns.lose(LOSS_PERCENT);
    run.hold().await;
    run.mark("loss ended", Aim::Settles);
    netns.heal();
    Ok(run.end().await)
}

/// Every byte takes longer, there and back.
pub async fn delay(plan: &Plan) -> Result<Report, Skipped> {
    let (to_worker, to_router) = (Arc::new(Forwarder::start()), Arc::new(Forwarder::start()));
    let set = |delay| [&to_worker, &to_router].map(|way| way.delay(delay));
    let rig = between(&to_worker, &to_router);
    let cluster = cluster().worker_rig(VICTIM, rig).start().await;
    let name = format!("network: {} ms more each way", DELAY.as_millis());
    let mut run = Run::start(&name, &cluster, plan, plan.hold).await;
    run.mark("delay began", Aim::WhileItLasts);
    set(DELAY);
    run.hold().await;
    run.mark("delay ended", Aim::Settles);
    set(Duration::ZERO);
    Ok(run.end().await)
}
