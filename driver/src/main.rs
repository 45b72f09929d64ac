//! Parses the command line and runs the command.

use clap::Parser as _;
use driver::{
    binaries::Binaries,
    cli::{Cli, Command},
    console, container, demo, invoke, load, publish, store,
    supervise::HOPELESS,
    up::{self, Ended},
    zoo,
};
use shared::telemetry::{self, LogFormat};
use std::process::ExitCode;

/// As shells say it: ended by SIGINT.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            console::complain(&format!("manifold: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => {
            if args.exit_with_parent {
                shared::shutdown::exit_with_parent();
            }
            // A signal is how it is meant to end.
            let was_killed = up::run(args).await? == Ended::Killed;
            Ok(if was_killed { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
        }
        Command::Demo(args) => {
            let is_done = demo::run(args).await? == Ended::Finished;
            Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
        }
        Command::Invoke(args) => {
            let answered = invoke::run(args).await?;
            Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Load(args) => {
            let is_done = load::command::run(*args).await? == Ended::Finished;
            Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
        }
        Command::Container(args) => {
            let Err(error) = container::run(args).await else { return Ok(ExitCode::SUCCESS) };
            console::complain(&format!("manifold: {error:#}"));
            let ended = error.downcast_ref::<container::Ended>();
            let is_hopeless = ended.is_none_or(container::Ended::is_steady);
            Ok(if is_hopeless { ExitCode::from(HOPELESS) } else { ExitCode::FAILURE })
        }
        Command::Zoo(args) => Err(zoo::exec(&Binaries::beside_us()?, &args.args).into()),
        Command::Publish(args) => {
            let is_done = publish::run(args).await? == Ended::Finished;
            Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
        }
        Command::Store(args) => {
            telemetry::init(LogFormat::Text);
            if args.exit_with_parent {
                shared::shutdown::exit_with_parent();
            }
            store::run(args).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
