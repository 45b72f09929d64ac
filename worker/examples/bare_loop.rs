//! The ceiling of a benchmark: a model's whole work in a loop, without any server around it.
//!
//! The same code and settings as the worker's (decode, prepare, forward, answer; one thread per
//! compute slot), in as many threads as asked. Prints one line of JSON.

use clap::Parser;
use std::{fs, path::PathBuf, sync::Barrier, thread, time::Duration};
use tokio::time::Instant;
use worker::{
    config::Config,
    runtime::{self, Model, ModelInput, prepare_thread},
};

/// Runs one model in a bare loop.
#[derive(Debug, Parser)]
struct Options {
    /// The folder of the unpacked artifact.
    #[arg(long)]
    artifact: PathBuf,
    #[arg(long)]
    body: PathBuf,
    #[arg(long)]
    content_type: String,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    prepare_thread();
    let config = Config::parse_from(["bare-loop"]);
    let handlers = config.handlers.config(config.http.load_timeout_s);
    let model = runtime::load(&options.artifact, &handlers)?;
    let input = ModelInput {
        content_type: Some(options.content_type),
        body: fs::read(options.body)?.into(),
        ..ModelInput::default()
    };
    let answer = model.invoke(&input)?;

    let (start, length) = (Barrier::new(options.threads), Duration::from_secs_f64(options.seconds));
    let started = Instant::now();
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let run = || repeat(model.as_ref(), &input, &start, length);
        let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|it| it.join().expect("no invocation panics")).collect()
    });
    let seconds = started.elapsed().as_secs_f64();

    latencies.sort_unstable();
    let percentile = |share: usize| latencies[latencies.len() * share / 100].as_secs_f64() * 1e3;
    let result = serde_json::json!({
        "n": latencies.len(),
        "seconds": seconds,
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
        "answer": std::str::from_utf8(&answer.body)?,
    });
    serde_json::to_writer(std::io::stdout(), &result)?;
    Ok(())
}

/// Invokes the model until the time is over and returns how long each invocation took.
fn repeat(
    model: &dyn Model,
    input: &ModelInput,
    start: &Barrier,
    length: Duration,
) -> Vec<Duration> {
    prepare_thread();
    start.wait();
    let deadline = Instant::now() + length;
    let mut latencies = Vec::new();
    loop {
        let begin = Instant::now();
        // The answer was compared once; what counts here is that it is made.
        std::hint::black_box(model.invoke(input).expect("it worked a moment ago"));
        let end = Instant::now();
        latencies.push(end - begin);
        if end >= deadline {
            return latencies;
        }
    }
}
