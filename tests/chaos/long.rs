//! Every scenario of chaos in a long form, for figures: the rows of docs/reliability.md.

use clap::Parser;
use std::{future::Future, io::Write as _, pin::Pin, process::ExitCode, time::Duration};
use tests::chaos::{Plan, REPORT_HEAD, Report, scenarios};

/// Does harm to clusters on this machine, one after the other, and prints what it cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Minutes that a worker is killed every ten seconds.
    #[arg(long, default_value_t = 10)]
    minutes: u64,

    /// Seconds that every other fault lasts.
    #[arg(long, default_value_t = 60)]
    hold_s: u64,

    /// Runs only scenarios whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
}

type Scenario<'a> = Pin<Box<dyn Future<Output = Result<Report, String>> + 'a>>;

fn all(plan: &Plan) -> [(&'static str, Scenario<'_>); 19] {
    [
        ("killed", Box::pin(scenarios::killed(plan))),
        ("stopped", Box::pin(scenarios::stopped(plan))),
        ("memory", Box::pin(scenarios::out_of_memory(plan))),
        ("disk", Box::pin(scenarios::full_disk(plan))),
        ("clock-worker", Box::pin(scenarios::clock_of_worker(plan))),
        ("clock-router", Box::pin(scenarios::clock_of_router(plan))),
        ("router-killed", Box::pin(scenarios::router_killed(plan))),
        ("router-stopped", Box::pin(scenarios::router_stopped(plan))),
        ("etcd-killed", Box::pin(scenarios::etcd_killed(plan))),
        ("etcd-stopped", Box::pin(scenarios::etcd_stopped(plan))),
        ("etcd-wiped", Box::pin(scenarios::etcd_wiped(plan))),
        ("cut", Box::pin(scenarios::cut(plan))),
        ("one-way", Box::pin(scenarios::one_way_cut(plan))),
        ("loss", Box::pin(scenarios::loss(plan))),
        ("delay", Box::pin(scenarios::delay(plan))),
        ("store-flaky", Box::pin(scenarios::flaky_store(plan))),
        ("store-stalled", Box::pin(scenarios::stalled_store(plan))),
        ("store-gone", Box::pin(scenarios::gone_store(plan))),
        ("kills", Box::pin(scenarios::killed_again_and_again(plan))),
    ]
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { minutes, hold_s, only } = Arguments::parse();
    let plan = Plan::long(Duration::from_mins(minutes), Duration::from_secs(hold_s));
    let mut is_clean = true;
    say(REPORT_HEAD);
    for (name, scenario) in all(&plan) {
        if !name.contains(&only) {
            continue;
        }
        match scenario.await {
            Ok(report) => {
                is_clean &= report.failed.is_empty() && report.n_hinted_held == 0;
                say(&report.to_string());
            }
            Err(why) => say(&format!("!! SKIPPED: {name}: {why}")),
        }
    }
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) {
    // Whoever closed the output wants no more of it.
    let _ = writeln!(std::io::stdout(), "{text}");
}
