//! The router's process: configuration, telemetry, [`App`], run.

mod allocator;

use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
use router::{
    app::App,
    config::{Config, InvalidConfig},
};
use shared::telemetry::Chain;
use std::{io::Write as _, process::ExitCode};

/// `EX_USAGE` of sysexits: the command was used wrongly, trying again will not help.
const BAD_CONFIGURATION: u8 = 64;

#[actix_web::main] // The actors need its runtime.
async fn main() -> anyhow::Result<ExitCode> {
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(InvalidConfig::Flags(help)) if [DisplayHelp, DisplayVersion].contains(&help.kind()) => {
            help.print()?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Ok(refuse(&error)),
    };
    shared::telemetry::init(config.log_format);
    if config.exit_with_parent {
        shared::shutdown::exit_with_parent();
    }
    tracing::info!(?config, "starting router");
    shared::open_files::raise_limit();
    match App::build(config).await {
        Ok(app) => app.run_until(shared::shutdown::requested()).await?,
        Err(error) if error.is_definite() => return Ok(refuse(&error)),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says in one line what is wrong with the configuration.
fn refuse(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    // If standard error is closed, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "manifold-router: {}", Chain(error));
    ExitCode::from(BAD_CONFIGURATION)
}
