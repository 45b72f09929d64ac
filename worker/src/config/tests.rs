use super::*;
use std::collections::BTreeSet;

fn config(arguments: &[&str]) -> Result<Config, InvalidConfig> {
    let arguments = ["manifold-worker"].iter().chain(arguments);
    Config::try_parse_from(arguments).expect("the flags exist").validate()
}

#[test]
fn a_worker_binds_to_loopback_unless_told_otherwise() {
    let config = config(&[]).unwrap();
    assert!(config.is_loopback() && config.serves_by_address());
    assert_eq!(config.allowed_buckets(), None);
}

#[test]
fn sagemakers_port_opens_the_container_contract_alone() {
    let config = config(&["serve", "--sagemaker-bind-to-port", "9000"]).unwrap();
    assert_eq!(config.address().to_string(), "0.0.0.0:9000");
    assert!(!config.serves_by_address());
    assert_eq!(config.allowed_buckets(), Some(vec![]));
    assert_eq!(config.access.file_roots, [PathBuf::from("/opt/ml/models")]);
}

#[test]
fn serving_any_address_to_the_world_is_refused() {
    let open = ["--bind", "0.0.0.0:1", "--allow-invocations-by-address"];
    assert!(matches!(config(&open), Err(InvalidConfig::OpenToAll(_))));
    let named = [&open[..], &["--allow-bucket", "models"]].concat();
    assert!(config(&named).unwrap().serves_by_address());
}

#[test]
fn binding_beyond_loopback_needs_a_token_or_a_word() {
    let bound = ["--bind", "0.0.0.0:1", "--allow-bucket", "models"];
    let with = |flags: &[&str]| config(&[&bound[..], flags].concat());
    let error = with(&[]).unwrap_err().to_string();
    assert!(error.contains("add --cluster-token-file, or --allow-unauthenticated"), "{error}");
    assert!(with(&["--cluster-token-file", "token"]).unwrap().serves_by_address());
    assert!(!with(&["--allow-unauthenticated"]).unwrap().serves_by_address());
    assert!(with(&["--allow-invocations-by-address"]).unwrap().serves_by_address());
    // With a token, too, it is said where artifacts may come from.
    let nowhere = config(&["--bind", "0.0.0.0:1", "--cluster-token-file", "token"]);
    assert!(matches!(nowhere, Err(InvalidConfig::OpenToAll(_))));
    assert!(config(&["--bind", "[::1]:1"]).is_ok());
}

#[test]
fn a_worker_that_routers_cannot_reach_is_told_so() {
    let everywhere =
        ["--bind", "0.0.0.0:1", "--allow-unauthenticated", "--router", "http://10.0.0.1:8080"];
    let error = config(&everywhere).unwrap_err();
    assert!(matches!(error, InvalidConfig::NoAddress(_)), "{error}");
    let named = [&everywhere[..], &["--advertise", "10.0.0.2:1"]].concat();
    assert_eq!(config(&named).unwrap().advertised(1).to_string(), "10.0.0.2:1");

    let error = config(&["--router", "10.0.0.1"]).unwrap_err().to_string();
    assert_eq!(error, "--router `10.0.0.1` is not `http://host:port`");
}

#[test]
fn what_finds_routers_must_make_sense() {
    assert!(config(&["--cluster", "etcd://etcd", "--router-dns", "routers:8080"]).is_ok());
    let error = config(&["--router-dns", "routers"]).unwrap_err().to_string();
    assert_eq!(error, "--router-dns `routers` is not `name:port`");
    let error = config(&["--cluster", "etcds://etcd:2379"]).unwrap_err().to_string();
    assert!(error.starts_with("etcds:// needs --cluster-ca"), "{error}");
    let nowhere = config(&["--bind", "0.0.0.0:1", "--cluster", "etcd://etcd"]);
    assert!(matches!(nowhere, Err(InvalidConfig::NoAddress(_))));
}

#[test]
fn a_backend_is_a_bare_http_url_with_a_port() {
    let parse = |url: &str| {
        let parsed = Config::try_parse_from(["manifold-worker", "--backend", url]);
        parsed.map(|it| it.backend.backend.expect("it was given").to_string())
    };
    assert_eq!(parse("http://127.0.0.1:8081").unwrap(), "http://127.0.0.1:8081");
    assert_eq!(parse("http://model.local:8081/").unwrap(), "http://model.local:8081");
    for url in [
        "https://a:1",
        "http://a",
        "http://a:0",
        "http://a:1/models",
        "http://a:1?x=1",
        "http://u@a:1",
        "a:1",
        "",
    ] {
        let error = parse(url).unwrap_err().to_string();
        assert!(error.contains("is not `http://host:port`"), "{url}: {error}");
    }
}

#[test]
fn folders_of_a_backend_are_absolute_and_its_time_to_start_is_bounded() {
    let of = |flags: &[&str]| config(&[&["--backend", "http://a:1"], flags].concat());
    assert_eq!(of(&[]).unwrap().backend.backend_models, PathBuf::from("/opt/ml/models"));
    let error = of(&["--backend-sees", "models"]).unwrap_err().to_string();
    assert_eq!(error, "--backend-sees `models` is no absolute path");
    assert!(of(&["--backend-models", "models"]).is_err());
    let late = ["manifold-worker", "--backend-startup-timeout-s", "3601"];
    assert!(Config::try_parse_from(late).is_err());
}

#[test]
fn two_addresses_are_refused() {
    let both = ["--bind", "127.0.0.1:1", "--sagemaker-bind-to-port", "2"];
    assert!(matches!(config(&both), Err(InvalidConfig::TwoAddresses)));
}

#[test]
fn every_flag_is_documented_and_every_documented_flag_exists() {
    let page = include_str!("../../../docs/configuration.md");
    let section = page.split("## ").find(|it| it.starts_with("Worker ")).unwrap();
    let documented: BTreeSet<&str> =
        section.split("`--").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()).collect();
    let command = <Config as clap::CommandFactory>::command();
    let existing = command.get_arguments().filter_map(clap::Arg::get_long);
    assert_eq!(existing.collect::<BTreeSet<_>>(), documented);
}
