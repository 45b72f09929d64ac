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
    let asked = Asked { targets: vec!["a".parse().unwrap(); 10], popularity: Popularity::Uniform };
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
