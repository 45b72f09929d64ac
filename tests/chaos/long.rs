//! Every scenario of chaos in a long form, for figures: the rows of docs/reliability.md.

use clap::Parser;
use std::{
    future::Future,
    io::{self, Write},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};
use tests::chaos::{Plan, REPORT_HEAD, Report, scenarios};

/// Does harm to clusters on this machine, one after the other, and prints what it cost.
///
/// It fails if an invocation failed that must not, and if nothing was shown. Times are figures: that
/// an aim was missed is in the table alone.
#[derive(Debug, Parser)]
struct Arguments {
    /// Minutes that a worker is killed every ten seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,

    /// Seconds that every other fault lasts, at least: some show only after a while, and take theirs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..))]
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
    let (mut n_shown, mut is_clean) = (0, true);
    say(io::stdout(), REPORT_HEAD);
    for (name, scenario) in all(&plan).into_iter().filter(|(name, _)| name.contains(&only)) {
        match scenario.await {
            Ok(report) => {
                n_shown += 1;
                is_clean &= report.is_clean();
                say(io::stdout(), &report.to_string());
                say(io::stderr(), &report.complaints());
            }
            Err(why) => say(io::stderr(), &format!("!! SKIPPED: {name}: {why}")),
        }
    }
    if n_shown == 0 {
        say(io::stderr(), &format!("!! nothing was shown: no scenario named `{only}` ran"));
    }
    if is_clean && n_shown > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a line, or nothing if there is nothing to say.
fn say(mut to: impl Write, text: &str) {
    if !text.is_empty() {
        // Whoever closed the output wants no more of it.
        let _ = writeln!(to, "{}", text.trim_end());
    }
}
