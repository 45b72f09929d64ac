//! Runs the command: finds the models, sends, shows how it goes, writes what it came to.

use super::{
    Load, LoadResult, compare,
    flags::{Action, CompareArgs, Flags, LoadArgs},
    progress::Progress,
    report, result, table, targets,
};
use crate::{
    console::{self, Ticker},
    signals::Signals,
    up::Ended,
};
use anyhow::{Context as _, bail, ensure};
use std::{
    fs::{self, File},
    path::Path,
    pin::pin,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// How long what is in flight is waited for after Ctrl-C.
const GRACE: Duration = Duration::from_secs(2);

/// Between two lines of progress where they cannot be written over.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Runs `manifold load`, and returns how it ended.
pub async fn run(args: LoadArgs) -> anyhow::Result<Ended> {
    match args.action {
        Some(Action::Compare(args)) => compare_files(&args).map(|()| Ended::Finished),
        None => load(&args.flags).await,
    }
}

async fn load(flags: &Flags) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    // Before minutes of load: a result that cannot be written is lost.
    for path in [&flags.json, &flags.html].into_iter().flatten() {
        File::options().create(true).append(true).open(path).with_context(|| unwritten(path))?;
    }
    let key = flags.signing.key()?;
    let Some(asked) = signals.unless(targets::find(flags, key.as_ref())).await.transpose()? else {
        return Ok(Ended::Stopped);
    };
    let plan = flags.plan(asked, key)?;
    let mut load = Load::start(plan)?;
    let result = watch_until_end(&mut load, flags, &mut signals).await?;
    console::say(&table::table(&result));
    if let Some(path) = &flags.json {
        let mut json = serde_json::to_string(&result).context("the result is no JSON")?;
        json.push('\n');
        fs::write(path, json).with_context(|| unwritten(path))?;
    }
    if let Some(path) = &flags.html {
        fs::write(path, report::page(&result)).with_context(|| unwritten(path))?;
    }
    if result.is_interrupted {
        return Ok(Ended::Stopped);
    }
    ensure!(result.totals.n_ok > 0, "no invocation was answered");
    Ok(Ended::Finished)
}

/// Shows the progress until the run ends by itself, or early if a signal comes.
async fn watch_until_end(
    load: &mut Load,
    flags: &Flags,
    signals: &mut Signals,
) -> anyhow::Result<LoadResult> {
    let progress = load.watch();
    let mut show = pin!(show(progress, flags.quiet));
    let mut is_ending = false;
    loop {
        let patience = sleep(GRACE);
        tokio::select! {
            result = load.result() => return Ok(result?),
            () = &mut show => bail!("the load ended without a result"),
            name = signals.next() => {
                if is_ending {
                    load.abandon();
                } else {
                    console::complain(&format!("{name}: waiting for what is in flight"));
                    load.end();
                }
                is_ending = true;
            }
            () = patience, if is_ending => load.abandon(),
        }
    }
}

/// Shows each news of the progress, for ever.
async fn show(mut progress: watch::Receiver<Progress>, is_quiet: bool) {
    let mut ticker = Ticker::new();
    let mut next_line = Instant::now();
    loop {
        // The result tells of its end.
        if is_quiet || progress.changed().await.is_err() {
            return std::future::pending().await;
        }
        if ticker.is_terminal() || Instant::now() >= next_line {
            next_line = Instant::now() + LINE_EVERY;
            let line = progress.borrow_and_update().line();
            ticker.show(&line);
        }
    }
}

fn compare_files(args: &CompareArgs) -> anyhow::Result<()> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let comparison = compare::Comparison::new(&before, &after);
    console::say(&comparison.table());
    if let Some(path) = &args.html {
        fs::write(path, report::comparison_page(&before, &after, &comparison))
            .with_context(|| unwritten(path))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<LoadResult> {
    let read = || {
        let text = fs::read_to_string(path)?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let format = value["format"].as_u64();
        ensure!(format == Some(u64::from(result::FORMAT)), "it is of another format");
        Ok(serde_json::from_value(value)?)
    };
    read().with_context(|| format!("{} is no result of `manifold load --json`", path.display()))
}

fn unwritten(path: &Path) -> String {
    format!("could not write {}", path.display())
}
