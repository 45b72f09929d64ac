//! Promise: faults cost no invocation. Each scenario in a short form, on real processes.
//!
//! What each may cost is said in the scenario itself, beside the fault (`chaos::Aim`). Times are
//! bounded for what is right, not for what is fast: `cargo run -p tests --release --bin chaos` gives
//! figures.

use std::io::Write as _;
use tests::{
    chaos::{Plan, Report, scenarios},
    skipping,
};

const PLAN: &Plan = &Plan::SHORT;

/// Fails the test unless the cluster survived, or says why this machine cannot tell.
#[track_caller]
fn check(report: Result<Report, String>) {
    match report {
        Ok(report) => {
            // A test that could not even say so has worse problems.
            let _ = writeln!(std::io::stderr(), "{report}");
            report.expect_survival();
        }
        Err(why) => skipping::skipped(&why),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_worker_fails_no_invocation() {
    check(scenarios::killed(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_worker_fails_no_invocation_and_holds_none_beyond_the_lease() {
    check(scenarios::stopped(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_worker_every_ten_seconds_fails_no_invocation() {
    check(scenarios::killed_again_and_again(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_worker_off_fails_no_invocation_and_holds_none_beyond_the_lease() {
    check(scenarios::cut(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_the_way_to_a_worker_alone_fails_no_invocation() {
    check(scenarios::one_way_cut(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_packets_fails_no_invocation() {
    check(scenarios::loss(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_fails_no_invocation() {
    check(scenarios::delay(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_now_and_then_fails_no_invocation() {
    check(scenarios::flaky_store(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stalls_stops_no_model_on_an_instance() {
    check(scenarios::stalled_store(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_stops_no_model_on_an_instance() {
    check(scenarios::gone_store(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_a_workers_disk_fails_no_invocation() {
    check(scenarios::full_disk(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_kernel_kills_for_memory_fails_no_invocation() {
    check(scenarios::out_of_memory(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_a_workers_clock_fails_no_invocation() {
    check(scenarios::clock_of_worker(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_routers_clock_fails_no_invocation() {
    check(scenarios::clock_of_router(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_router_of_two_costs_its_clients_one_retry_each() {
    check(scenarios::router_killed(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_router_of_two_costs_its_clients_one_retry_each() {
    check(scenarios::router_stopped(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_etcd_fails_no_invocation() {
    check(scenarios::etcd_killed(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_etcd_fails_no_invocation() {
    check(scenarios::etcd_stopped(PLAN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn wiping_etcd_fails_no_invocation() {
    check(scenarios::etcd_wiped(PLAN).await);
}
