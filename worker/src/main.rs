//! The worker: one instance of a Manifold cluster, or a SageMaker multi-model container by itself.

use clap::{
    Parser as _,
    error::ErrorKind::{DisplayHelp, DisplayVersion},
};
use shared::{open_files, shutdown};
use std::process::ExitCode;
use tracing::{error, info};
use worker::{app::App, config::Config, whereabouts};

/// `EX_USAGE` of sysexits.h: the command line is at fault, not the machine.
const BAD_CONFIG: u8 = 64;

#[tokio::main] // ractor wants several threads; actix-web brings its own beside them
async fn main() -> ExitCode {
    let config = match Config::try_parse().map(|it| whereabouts::fill_in(it).validate()) {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => return bad_config(&error.to_string()),
        Err(help) if [DisplayHelp, DisplayVersion].contains(&help.kind()) => help.exit(),
        Err(error) => return bad_config(first_line(&error.to_string())),
    };
    shared::telemetry::init(config.log_format);
    if config.exit_with_parent {
        shutdown::exit_with_parent();
    }
    info!(?config, "starting worker");
    open_files::raise_limit();
    let run = async { App::build(config).await?.run().await };
    let code = match run.await {
        Ok(()) => 0,
        Err(error) => {
            error!(error = format!("{error:#}"), "worker failed");
            1
        }
    };
    // Whoever ran too long for the drain may still be inside LibTorch.
    shutdown::exit_now(code)
}

/// What is wrong; the rest of clap's text is about usage.
fn first_line(error: &str) -> &str {
    let line = error.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

#[expect(clippy::print_stderr, reason = "logging has not begun")]
fn bad_config(error: &str) -> ExitCode {
    eprintln!("manifold-worker: {error}");
    ExitCode::from(BAD_CONFIG)
}
