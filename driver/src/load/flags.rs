//! The flags of `manifold load`, and how texts become what a plan has.

use super::plan::{
    Arrivals, Cold, DEFAULT_MAX_IN_FLIGHT, Input, MAX_DURATION, Pace, Plan, Popularity,
};
use super::trace::Trace;
use crate::signing::Key;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Deserialize;
use shared::id::{EndpointName, TargetModel};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Enough to keep two workers of a small machine busy.
const DEFAULT_CONCURRENCY: usize = 8;

/// Long enough for a first look.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// A little more than the router takes, so that it is the router who refuses.
const MAX_BODY_BYTES: u64 = 32 * 1024 * 1024;

/// A photograph of a cat, for models that look at pictures.
const CAT: &[u8] = include_bytes!("../../assets/cat.jpg");

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
    #[arg(long, value_parser = duration)]
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

    /// Ask what lies below a prefix of the store: `s3://bucket/prefix/`, in the store's order.
    #[arg(long)]
    pub prefix: Option<String>,

    /// URL of the store to list [default: the first router, which passes it on].
    #[arg(long)]
    pub store: Option<String>,

    /// File to send. Several are sent in turn [default: a photograph of a cat].
    #[arg(long = "body")]
    pub bodies: Vec<PathBuf>,

    /// Of all bodies [default: by the ending of the file].
    #[arg(long)]
    pub content_type: Option<String>,

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
    #[arg(long, default_value = "70s", value_parser = duration)]
    pub timeout: Duration,

    /// An answer that is not what was sent is a failure (models that echo).
    #[arg(long)]
    pub expect_echo: bool,

    /// File with keys of the router (TOML): requests are signed with its first one.
    #[arg(long, env = "ROUTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// A key that requests are signed with.
    #[arg(long, env = "ROUTER_ACCESS_KEY_ID", requires = "secret_access_key")]
    pub access_key_id: Option<String>,

    /// The secret of that key.
    #[arg(long, env = "ROUTER_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub secret_access_key: Option<String>,

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
            bodies: self.inputs()?,
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

    fn inputs(&self) -> anyhow::Result<Vec<Input>> {
        if self.bodies.is_empty() {
            let content_type = self.content_type.clone().or_else(|| Some("image/jpeg".to_owned()));
            let bytes = Bytes::from_static(CAT);
            return Ok(vec![Input { name: "cat.jpg".to_owned(), content_type, bytes }]);
        }
        self.bodies.iter().map(|path| self.input(path)).collect()
    }

    fn input(&self, path: &Path) -> anyhow::Result<Input> {
        let read = || {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path)?;
            file.take(MAX_BODY_BYTES + 1).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let bytes = read().with_context(|| format!("could not read {}", path.display()))?;
        ensure!(
            bytes.len() as u64 <= MAX_BODY_BYTES,
            "{} is larger than {MAX_BODY_BYTES} bytes, which no router takes",
            path.display()
        );
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let content_type = self.content_type.clone();
        let content_type = content_type.unwrap_or_else(|| content_type_of(path).to_owned());
        Ok(Input { name, content_type: Some(content_type), bytes: bytes.into() })
    }

    /// Returns what requests are signed with, if they are.
    pub(super) fn key(&self) -> anyhow::Result<Option<Key>> {
        if let Some((id, secret)) = self.access_key_id.clone().zip(self.secret_access_key.clone()) {
            return Ok(Some(Key::new(id, secret)));
        }
        let Some(path) = &self.credentials else { return Ok(None) };
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("could not read {}", path.display()))?;
        first_key(&text).with_context(|| format!("could not use {}", path.display())).map(Some)
    }
}

/// What we need of the router's file of credentials.
#[derive(Deserialize)]
struct Credentials {
    credential: Vec<Credential>,
}

#[derive(Deserialize)]
struct Credential {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

fn first_key(text: &str) -> anyhow::Result<Key> {
    let Credentials { credential } = toml::from_str(text)?;
    let mut credentials = credential.into_iter();
    let lasting = credentials.find(|it| it.session_token.is_none());
    let lasting = lasting.context("it has no credential without a session token")?;
    Ok(Key::new(lasting.access_key_id, lasting.secret_access_key))
}

fn content_type_of(path: &Path) -> &'static str {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match &*ending {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "json" => "application/json",
        "jsonl" => "application/jsonlines",
        "csv" => "text/csv",
        "txt" => "text/plain",
        "npy" => "application/x-npy",
        _ => "application/octet-stream",
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

fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a time like 10s, 5m, 1h or 500ms";
    let unit_at = text.find(|it: char| it.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let duration =
        Duration::try_from_secs_f64(number * seconds).map_err(|_| EXPECTED.to_owned())?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err(format!(
            "expected a time above 0 and up to {} h",
            MAX_DURATION.as_secs() / 3600
        ));
    }
    Ok(duration)
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
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(args: &[&str]) -> Result<Flags, String> {
        let args = ["load"].iter().chain(args);
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        Ok(cli.load.flags)
    }

    fn plan(args: &[&str]) -> Plan {
        let asked =
            Asked { targets: vec!["a".parse().unwrap(); 10], popularity: Popularity::Uniform };
        parse(args).unwrap().plan(asked, None).unwrap()
    }

    #[test]
    fn without_flags_eight_clients_send_the_cat_for_ten_seconds() {
        let plan = plan(&[]);
        assert_eq!(plan.pace, Pace::Closed { concurrency: 8 });
        assert_eq!(plan.duration, Duration::from_secs(10));
        assert_eq!(plan.routers, ["http://127.0.0.1:8080"]);
        assert_eq!(plan.bodies[0].content_type.as_deref(), Some("image/jpeg"));
        assert_eq!(plan.cold, None);
        plan.validate().unwrap();
    }

    #[test]
    fn flags_make_the_plan() {
        let plan = plan(&[
            "--rate",
            "250.5",
            "--poisson",
            "--duration",
            "2m",
            "--max-in-flight",
            "9",
            "--router",
            "http://a:1,http://b:1",
            "--router",
            "http://c:1",
            "--cold-share",
            "0.25",
            "--seed",
            "7",
        ]);
        let arrivals = Arrivals::Poisson { rate: 250.5 };
        assert_eq!(plan.pace, Pace::Open { arrivals, max_in_flight: 9 });
        assert_eq!(plan.duration, Duration::from_mins(2));
        assert_eq!(plan.routers, ["http://a:1", "http://b:1", "http://c:1"]);
        assert_eq!(plan.cold, Some(Cold { share: 0.25, n_warm: 5 }));
        assert_eq!(plan.seed, 7);
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused_in_words() {
        let check = |args: &[&str], expected: &str| {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&["--rate", "1", "--concurrency", "1"], "cannot be used with '--concurrency");
        check(&["--poisson"], "--rate");
        check(&["--trace", "x", "--popularity", "uniform"], "cannot be used with");
        check(&["--trace", "x", "--cold-share", "0.1"], "cannot be used with");
        check(&["--target", "a", "--prefix", "s3://b/"], "cannot be used with");
        check(&["--duration", "10"], "expected a time like 10s");
        check(&["--duration", "0s"], "above 0");
        check(&["--timeout", "0s"], "above 0");
        check(&["--popularity", "zipf"], "expected `uniform` or `zipf:EXPONENT`");
        check(&["--warm-models", "3"], "--cold-share");
        check(&["--target", "/a"], "invalid target model");
    }

    #[test]
    fn trace_with_times_is_asked_to_its_end_unless_a_duration_cuts_it() {
        let duration = |text: &str, args: &[&str]| {
            let (trace, targets) = Trace::read(text.as_bytes()).unwrap();
            let asked = Asked { targets, popularity: Popularity::Trace(trace.into()) };
            parse(args).unwrap().plan(asked, None).unwrap().duration.as_secs()
        };
        let an_hour = "0 a\n3600000 a\n";
        assert_eq!(duration(an_hour, &[]), 3_601);
        assert_eq!(duration(an_hour, &["--duration", "1m"]), 60);
        assert_eq!(duration(an_hour, &["--duration", "2h"]), 3_601);
        let four_hundred = "5 a\n".repeat(400);
        assert_eq!(duration(&four_hundred, &["--rate", "10"]), 50);
        assert_eq!(duration(&four_hundred, &["--rate", "10", "--duration", "1s"]), 1);
        assert_eq!(duration(&four_hundred, &["--rate", "0"]), 10);
        assert_eq!(duration(an_hour, &["--concurrency", "1"]), 10);
        assert_eq!(duration("a\n", &[]), 10);
    }

    #[test]
    fn time_out_that_is_too_long_is_refused_rather_than_cut() {
        let refused = plan(&["--timeout", "701s"]).validate().unwrap_err().to_string();
        assert!(refused.contains("at most 700s"), "{refused}");
        let plan = plan(&["--timeout", "700s"]);
        assert_eq!((plan.answer_timeout.as_secs(), plan.validate()), (700, Ok(())));
    }

    #[test]
    fn body_that_is_too_large_is_refused_rather_than_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let file = std::fs::File::create(&path).unwrap();
        let inputs = || parse(&["--body", path.to_str().unwrap()]).unwrap().inputs();
        file.set_len(MAX_BODY_BYTES).unwrap();
        assert_eq!(inputs().unwrap()[0].bytes.len() as u64, MAX_BODY_BYTES);
        file.set_len(MAX_BODY_BYTES + 1).unwrap();
        let error = inputs().unwrap_err().to_string();
        assert!(error.contains("x.json is larger than 33554432 bytes"), "{error}");
    }

    #[test]
    fn times_have_a_unit() {
        let seconds = |text| duration(text).map(|it| it.as_secs_f64());
        assert_eq!(seconds("10s"), Ok(10.0));
        assert_eq!(seconds("1.5m"), Ok(90.0));
        assert_eq!(seconds("250ms"), Ok(0.25));
        for bad in ["", "s", "1d", "-1s", "NaNs", "1e99h", "10 s "] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_is_the_first_that_lasts() {
        let file = "[[credential]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n\
                    session_token = \"t\"\n[[credential]]\naccess_key_id = \"B\"\n\
                    secret_access_key = \"s\"\nuser = \"u\"\n";
        assert!(format!("{:?}", first_key(file).unwrap()).contains("\"B\""));
        assert!(first_key("credential = []").is_err());
        assert!(first_key("x").is_err());
    }
}
