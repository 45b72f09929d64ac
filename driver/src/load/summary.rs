//! Puts a result together: what was kept, what was planned, and what the run itself was like.

use super::{
    plan::{Arrivals, Check, Cold, Pace, Plan, Popularity},
    record::Kept,
    result::{BodyRow, Driver, FORMAT, LoadResult, PlanSummary, RouterRow},
};
use crate::machine;
use std::time::{Duration, SystemTime};

/// What a run was like.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) started_at: SystemTime,
    /// Until the last invocation had ended.
    pub(super) elapsed: Duration,
    pub(super) is_interrupted: bool,
    pub(super) routers: Vec<RouterRow>,
    /// What the process took.
    pub(super) cpu: Duration,
}

pub(super) fn result(plan: &Plan, kept: Kept, facts: Facts) -> LoadResult {
    // A run that ran out of invocations ended before its time.
    let seconds = kept.window.min(facts.elapsed).as_secs_f64();
    let since_1970 = facts.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    LoadResult {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: u64::try_from(since_1970.as_millis()).unwrap_or_default(),
        plan: plan_summary(plan),
        seconds,
        is_interrupted: facts.is_interrupted,
        rate: per(kept.totals.n_ok - kept.totals.n_late, seconds),
        n_left_out: n_left_out(plan, kept.totals.n_due),
        driver: driver(&facts, kept.totals.n_sent()),
        totals: kept.totals,
        latency: kept.latency,
        latency_hits: kept.hits,
        latency_misses: kept.misses,
        latency_failed: kept.failed,
        service: kept.service,
        lag: kept.lag,
        timeline: kept.timeline,
        models: kept.models,
        heat: kept.heat,
        instances: kept.instances,
        routers: facts.routers,
        errors: kept.errors,
        failures: kept.failures,
    }
}

fn driver(facts: &Facts, n_sent: u64) -> Driver {
    let n_cores = machine::n_cores();
    let cpu_seconds = facts.cpu.as_secs_f64();
    let core_share = cpu_seconds / facts.elapsed.as_secs_f64().max(1e-3);
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 cores")]
    let machine_share = core_share / n_cores as f64;
    let cpu_seconds_per_100k = if n_sent == 0 { 0.0 } else { cpu_seconds / per(n_sent, 100_000.0) };
    Driver { cpu_seconds, n_cores, core_share, machine_share, cpu_seconds_per_100k }
}

/// Entries of a trace with times, each of which is asked once.
fn n_left_out(plan: &Plan, n_due: u64) -> u64 {
    match &plan.popularity {
        Popularity::Trace(trace) if trace.has_times() => (trace.len() as u64).saturating_sub(n_due),
        Popularity::Trace(_) | Popularity::Uniform | Popularity::Zipf { .. } => 0,
    }
}

fn plan_summary(plan: &Plan) -> PlanSummary {
    let body = |body: &super::plan::Input| BodyRow {
        name: body.name.clone(),
        n_bytes: body.bytes.len(),
        content_type: body.content_type.clone(),
    };
    PlanSummary {
        endpoint: plan.endpoint.to_string(),
        n_routers: plan.routers.len(),
        pace: pace(plan.pace),
        popularity: popularity(&plan.popularity),
        n_targets: plan.targets.len(),
        cold_share: plan.cold.map_or(0.0, |Cold { share, .. }| share),
        n_warm: plan.cold.map_or(plan.targets.len(), |Cold { n_warm, .. }| n_warm),
        bodies: plan.bodies.iter().map(body).collect(),
        accept: plan.accept.clone(),
        expects_echo: plan.check == Check::Echo,
        duration_s: plan.duration.as_secs_f64(),
        seed: plan.seed,
        answer_timeout_s: plan.answer_timeout.as_secs_f64(),
        max_in_flight: plan.pace.max_in_flight(),
        is_signed: plan.key.is_some(),
    }
}

fn pace(pace: Pace) -> String {
    match pace {
        Pace::Closed { concurrency: 1 } => "closed loop, 1 client".to_owned(),
        Pace::Closed { concurrency } => format!("closed loop, {concurrency} clients"),
        Pace::Open { arrivals: Arrivals::Even { rate }, .. } => format!("open loop, {rate} /s"),
        Pace::Open { arrivals: Arrivals::Poisson { rate }, .. } => {
            format!("open loop, {rate} /s (Poisson)")
        }
        Pace::Open { arrivals: Arrivals::Trace, .. } => {
            "open loop, at the trace's times".to_owned()
        }
    }
}

fn popularity(popularity: &Popularity) -> String {
    match popularity {
        Popularity::Uniform => "uniform".to_owned(),
        Popularity::Zipf { exponent } => format!("Zipf {exponent}"),
        Popularity::Trace(trace) => format!("a trace of {}", trace.len()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn per(n: u64, whole: f64) -> f64 {
    if whole > 0.0 { n as f64 / whole } else { 0.0 }
}
