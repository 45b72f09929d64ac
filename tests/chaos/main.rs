//! Promise: faults cost no invocation. Each scenario in a short form, on real processes.
//!
//! Times are bounded for what is right, not for what is fast: `cargo run -p tests --release --bin
//! chaos` gives figures.

use std::{io::Write as _, time::Duration};
use tests::{
    chaos::{Plan, Report, scenarios},
    debian,
};

/// What the router takes to notice silence.
const LEASE: Duration = Duration::from_secs(3);

/// What comes after a fault was noticed may take on a machine that is busy with compilers.
const SLACK: Duration = Duration::from_secs(8);

const PLAN: &Plan = &Plan::SHORT;

/// Shows what a scenario showed, or why there was none.
fn show(report: Result<Report, String>) -> Option<Report> {
    match report {
        Ok(report) => {
            // A test that could not even say so has worse problems.
            let _ = writeln!(std::io::stderr(), "{report}");
            Some(report)
        }
        Err(why) => {
            debian::skipped(&why);
            None
        }
    }
}

/// Fails the test unless every invocation was served, and the cluster recovered in time.
#[track_caller]
fn check(report: Result<Report, String>, bound: Duration) {
    let Some(report) = show(report) else { return };
    report.expect_no_failure();
    report.expect_recovery_within(bound);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_worker_fails_no_invocation() {
    check(scenarios::killed(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_worker_fails_no_invocation_and_holds_none_beyond_the_lease() {
    check(scenarios::stopped(PLAN).await, LEASE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_worker_every_ten_seconds_fails_no_invocation() {
    check(scenarios::killed_again_and_again(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_worker_off_fails_no_invocation_and_holds_none_beyond_the_lease() {
    check(scenarios::cut(PLAN).await, LEASE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_the_way_to_a_worker_alone_fails_no_invocation() {
    check(scenarios::one_way_cut(PLAN).await, LEASE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_packets_fails_no_invocation() {
    check(scenarios::loss(PLAN).await, PLAN.hold + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_fails_no_invocation() {
    check(scenarios::delay(PLAN).await, PLAN.hold + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_now_and_then_fails_no_invocation() {
    check(scenarios::flaky_store(PLAN).await, PLAN.hold + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stalls_stops_no_model_on_an_instance() {
    let report = show(scenarios::stalled_store(PLAN).await).expect("it runs anywhere");
    report.expect_held_models_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_stops_no_model_on_an_instance() {
    let report = show(scenarios::gone_store(PLAN).await).expect("it runs anywhere");
    report.expect_held_models_served();
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_a_workers_disk_fails_no_invocation() {
    check(scenarios::full_disk(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_kernel_kills_for_memory_fails_no_invocation() {
    check(scenarios::out_of_memory(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_a_workers_clock_fails_no_invocation() {
    check(scenarios::clock_of_worker(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_routers_clock_fails_no_invocation() {
    check(scenarios::clock_of_router(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_router_of_two_costs_its_clients_one_retry_each() {
    check(scenarios::router_killed(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_router_of_two_costs_its_clients_one_retry_each() {
    check(scenarios::router_stopped(PLAN).await, PLAN.hold + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_etcd_fails_no_invocation() {
    check(scenarios::etcd_killed(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_etcd_fails_no_invocation() {
    check(scenarios::etcd_stopped(PLAN).await, SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn wiping_etcd_fails_no_invocation() {
    check(scenarios::etcd_wiped(PLAN).await, SLACK);
}
