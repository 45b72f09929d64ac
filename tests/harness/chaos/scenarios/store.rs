//! A store that fails now and then, stalls, or is gone.

use super::{Skipped, cluster};
use crate::{
    chaos::{Aim, Plan, Report, report::Cost, run::Run},
    flaky::Fault,
};
use std::time::Duration;

/// Models that are on disk alone when the store goes.
const N_ON_DISK: usize = 30;

/// Long enough for a stalled store: each worker waits for it once before it does without.
const LONG_ENOUGH: Duration = Duration::from_secs(9);

const ERROR_PERCENT: u32 = 5;

/// Soon enough that a scenario sees resident models being checked while the store is out.
const REVALIDATE: [&str; 2] = ["--revalidate-s", "2"];

/// Every twentieth request to the store is answered 503.
pub async fn flaky_store(plan: &Plan) -> Result<Report, Skipped> {
    let cluster = cluster().flaky_store().worker_flags(&REVALIDATE).start().await;
    let name = format!("store: {ERROR_PERCENT} % of answers are 503");
    let mut run = Run::start(&name, &cluster, plan, plan.hold).await;
    run.mark("errors began", Aim::WhileItLasts);
    cluster.break_store(Fault::Sometimes(ERROR_PERCENT));
    run.hold().await;
    run.mark("errors ended", Aim::Settles);
    cluster.break_store(Fault::None);
    Ok(run.end().await)
}

/// The store reads requests and answers none.
pub async fn stalled_store(plan: &Plan) -> Result<Report, Skipped> {
    let plan = &plan.holding_at_least(LONG_ENOUGH);
    out(plan, "store: stalled", Fault::Stall, Cost::WaitsOrHints).await
}

/// The store closes every connection.
pub async fn gone_store(plan: &Plan) -> Result<Report, Skipped> {
    let plan = &plan.holding_at_least(plan.store_gone);
    out(plan, "store: gone", Fault::Gone, Cost::Hints).await
}

async fn out(plan: &Plan, name: &str, fault: Fault, cost: Cost) -> Result<Report, Skipped> {
    let cluster = cluster().flaky_store().worker_flags(&REVALIDATE).start().await;
    let mut run = Run::start_with_disk(name, &cluster, plan, 2 * plan.hold, N_ON_DISK).await;
    run.mark_costing(cost, "out", Aim::Settles);
    cluster.break_store(fault);
    run.ask_disk();
    run.hold().await;
    run.mark("back", Aim::Settles);
    cluster.break_store(Fault::None);
    // Loads that waited are tried again, later and later.
    run.hold().await;
    Ok(run.end().await)
}
