//! The flags of `manifold load`, and how texts become what a plan has.

mod bodies;
mod period;
mod signing;

use super::plan::{Arrivals, Cold, DEFAULT_MAX_IN_FLIGHT, Pace, Plan, Popularity};
use super::trace::Trace;
use crate::signing::Key;
use bodies::BodyFlags;
use clap::{Args, Subcommand};
use period::period;
use shared::id::{EndpointName, TargetModel};
use signing::SigningFlags;
use std::{path::PathBuf, time::Duration};

/// Enough to keep two workers of a small machine busy.
const DEFAULT_CONCURRENCY: usize = 8;

/// Long enough for a first look.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// The command line of `manifold load`: a run, or what is done with results.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Compare two results: what the second one changed.
    Compare(CompareArgs),
}

#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Result of an earlier run (`manifold load --json`).
    pub before: PathBuf,

    /// Result of a later run, of the same plan.
    pub after: PathBuf,

    /// File that gets the comparison as a page.
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// The flags of a run.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// URL of a router. With several, invocations go to them in turn, and one that a router does not
    /// answer is sent once more to the next one.
    #[arg(
        long = "router",
        env = "AWS_ENDPOINT_URL",
        default_value = "http://127.0.0.1:8080",
        value_delimiter = ','
    )]
    pub routers: Vec<String>,

    /// The endpoint to invoke.
    #[arg(long, default_value = "demo")]
    pub endpoint: EndpointName,

    /// Invocations a second, whatever becomes of them (open loop).
    #[arg(long, conflicts_with = "concurrency")]
    pub rate: Option<f64>,

    /// With --rate: as independent clients come (Poisson), rather than evenly.
    #[arg(long, requires = "rate")]
    pub poisson: bool,

    /// Clients, each of which asks when it has been answered (closed loop) [default: 8, without a
    /// rate].
    #[arg(long)]
    pub concurrency: Option<usize>,

    /// How long: `10s`, `5m`, `1h`, `500ms` [default: 10s; until its end with a trace that has times].
    #[arg(long, value_parser = period)]
    pub duration: Option<Duration>,

    /// Which models are asked how often: `uniform`, or `zipf:EXPONENT`, by which the n-th one gets a
    /// share of 1/n^EXPONENT.
    #[arg(long, default_value = "uniform", value_parser = popularity)]
    pub popularity: Law,

    /// File that says which models are asked, a line each: `MODEL`, or `OFFSET_MS MODEL`. Offsets say
    /// when, unless there is a rate or a number of clients.
    #[arg(long, conflicts_with_all = ["popularity", "targets", "prefix", "cold_share"])]
    pub trace: Option<PathBuf>,

    /// Share of invocations, 0 to 1, that go to models which were not asked before.
    #[arg(long)]
    pub cold_share: Option<f64>,

    /// With --cold-share: so many models, from the first, are asked by popularity. The others are for
    /// cold invocations [default: half of them].
    #[arg(long, requires = "cold_share")]
    pub warm_models: Option<usize>,

    /// A target model, the most popular first. May be given many times [default: all that the
    /// endpoint has].
    #[arg(long = "target", conflicts_with = "prefix")]
    pub targets: Vec<TargetModel>,

    /// Ask what lies below a prefix of the store, the endpoint's or one below it: `s3://bucket/prefix/`, in
    /// the store's order.
    #[arg(long)]
    pub prefix: Option<String>,

    /// URL of the store to list [default: the first router, which passes it on].
    #[arg(long)]
    pub store: Option<String>,

    #[command(flatten)]
    pub bodies: BodyFlags,

    /// The content type that is asked for.
    #[arg(long)]
    pub accept: Option<String>,

    /// Start of all pseudo-random numbers: the same one asks for the same models at the same times.
    #[arg(long, default_value = "1")]
    pub seed: u64,

    /// With --rate or a trace's times: what falls due while so many are in flight is not sent, and is
    /// a failure.
    #[arg(long, default_value_t = DEFAULT_MAX_IN_FLIGHT)]
    pub max_in_flight: usize,

    /// How long to wait for an answer, 700s at most.
    #[arg(long, default_value = "70s", value_parser = period)]
    pub timeout: Duration,

    /// An answer that is not what was sent is a failure (models that echo).
    #[arg(long)]
    pub expect_echo: bool,

    #[command(flatten)]
    pub signing: SigningFlags,

    /// File that gets the result, for `compare` and for programs.
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// File that gets the result as a page with plots.
    #[arg(long)]
    pub html: Option<PathBuf>,

    /// Say nothing until the end.
    #[arg(long)]
    pub quiet: bool,
}

/// A popularity without its targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    Uniform,
    Zipf(f64),
}

/// The models of a plan, and how often they are asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) targets: Vec<TargetModel>,
    pub(super) popularity: Popularity,
}

impl Flags {
    /// Makes a plan. What makes no sense is told by [`Plan::validate`].
    pub(super) fn plan(&self, asked: Asked, key: Option<Key>) -> anyhow::Result<Plan> {
        let Asked { targets, popularity } = asked;
        let cold = self.cold_share.map(|share| {
            let n_warm = self.warm_models.unwrap_or(targets.len() / 2);
            Cold { share, n_warm }
        });
        Ok(Plan {
            pace: self.pace(&popularity),
            duration: self.duration(&popularity),
            routers: self.routers.clone(),
            endpoint: self.endpoint.clone(),
            targets: targets.into(),
            popularity,
            cold,
            bodies: self.bodies.read()?,
            accept: self.accept.clone(),
            seed: self.seed,
            answer_timeout: self.timeout,
            key,
            check: if self.expect_echo { super::Check::Echo } else { super::Check::Any },
        })
    }

    fn pace(&self, popularity: &Popularity) -> Pace {
        let max_in_flight = self.max_in_flight;
        let has_times = matches!(popularity, Popularity::Trace(trace) if trace.has_times());
        match (self.rate, self.concurrency) {
            (Some(rate), _) if self.poisson => {
                Pace::Open { arrivals: Arrivals::Poisson { rate }, max_in_flight }
            }
            (Some(rate), _) => Pace::Open { arrivals: Arrivals::Even { rate }, max_in_flight },
            (None, None) if has_times => Pace::Open { arrivals: Arrivals::Trace, max_in_flight },
            (None, n) => Pace::Closed { concurrency: n.unwrap_or(DEFAULT_CONCURRENCY) },
        }
    }

    /// A trace that has times is asked once, to its end.
    fn duration(&self, popularity: &Popularity) -> Duration {
        let wanted = self.duration;
        let trace = match popularity {
            Popularity::Trace(trace) => Some(trace).zip(trace.duration()),
            Popularity::Uniform | Popularity::Zipf { .. } => None,
        };
        match (trace, self.rate, self.concurrency) {
            (Some((_, end)), None, None) => wanted.map_or(end, |wanted| wanted.min(end)),
            (Some((trace, _)), Some(rate), _) => {
                wanted.or_else(|| duration_at(trace, rate)).unwrap_or(DEFAULT_DURATION)
            }
            (Some(_), None, Some(_)) | (None, ..) => wanted.unwrap_or(DEFAULT_DURATION),
        }
    }
}

/// How long all of a trace takes at a rate, in whole seconds; `None` if the rate makes no sense.
fn duration_at(trace: &Trace, rate: f64) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "a trace has fewer than 2^53 entries")]
    let n = trace.len() as f64;
    // As independent clients come, they take longer or shorter: five standard deviations. The run ends
    // with the last entry all the same.
    let seconds = (n + 5.0 * n.sqrt()) / rate;
    Duration::try_from_secs_f64(seconds.ceil()).ok()
}

fn popularity(text: &str) -> Result<Law, String> {
    let expected = || "expected `uniform` or `zipf:EXPONENT`, like zipf:1.1".to_owned();
    match text.split_once(':') {
        None if text == "uniform" => Ok(Law::Uniform),
        Some(("zipf", exponent)) => exponent.parse().map(Law::Zipf).map_err(|_| expected()),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests;
