use super::*;

fn read(flags: &[&str]) -> Result<Config, InvalidConfig> {
    Config::read(["router"].iter().chain(flags).map(OsString::from))
}

#[track_caller]
fn check_refused(flags: &[&str], expected: &str) {
    assert_eq!(read(flags).unwrap_err().to_string(), expected);
}

#[test]
fn the_defaults_are_valid() {
    let config = read(&[]).unwrap();
    assert_eq!(config.body.max_bytes, 26_214_400);
    assert_eq!(config.dispatch.deadline, Duration::from_secs(58));
}

/// clap tells flags apart by the names of their fields, across all groups.
#[test]
fn no_two_flags_share_a_name() {
    let command = <Config as clap::CommandFactory>::command();
    let names: Vec<_> = command.get_arguments().map(clap::Arg::get_id).collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "{names:?}");
}

#[test]
fn listening_beyond_loopback_needs_a_word() {
    check_refused(
        &["--listen", "0.0.0.0:80"],
        "--listen 0.0.0.0:80 is not loopback: anybody could invoke; add --credentials, or \
         --allow-unauthenticated",
    );
    assert!(read(&["--listen", "0.0.0.0:80", "--credentials", "file.toml"]).is_ok());
    assert!(read(&["--listen", "0.0.0.0:80", "--allow-unauthenticated"]).is_ok());
    assert!(read(&["--listen", "[::1]:80"]).is_ok());
    // The token is for the cluster, not for clients.
    assert!(read(&["--listen", "0.0.0.0:80", "--cluster-token-file", "token"]).is_err());
}

#[test]
fn a_listener_of_the_cluster_beyond_loopback_needs_a_token_or_a_word() {
    let internal = ["--internal-listen", "10.0.0.1:81"];
    let read_with = |flags: &[&str]| read(&[&internal[..], flags].concat());
    check_refused(
        &[&internal[..], &["--credentials", "file.toml"]].concat(),
        "--internal-listen 10.0.0.1:81 is not loopback: anybody there could register instances; \
         add --cluster-token-file, or --allow-unauthenticated",
    );
    assert!(read_with(&["--cluster-token-file", "token"]).is_ok());
    assert!(read_with(&["--allow-unauthenticated"]).is_ok());
    assert!(read(&["--internal-listen", "127.0.0.1:81"]).is_ok());
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    check_refused(&["--body-budget", "1000"], "--body-budget must be at least --max-body");
    check_refused(
        &["--deadline-ms", "400"],
        "--deadline-margin-ms must be less than --deadline-ms",
    );
    check_refused(
        &["--drain-timeout-ms", "1000"],
        "--drain-timeout-ms must be at least --deadline-ms",
    );
    check_refused(&["--max-tries", "0"], "--max-tries must be positive");
    for flag in ["--client-stall-ms", "--answer-idle-ms", "--probe-timeout-ms"] {
        check_refused(&[flag, "0"], &format!("{flag} must be positive"));
    }
    check_refused(&["--account-id", "12"], "--account-id must be 12 digits");
}

#[test]
fn half_a_key_and_half_a_certificate_are_refused() {
    let key = "--access-key-id and --secret-access-key must be both there, and not empty";
    check_refused(&["--access-key-id", "AK"], key);
    check_refused(&["--access-key-id", "AK", "--secret-access-key", ""], key);
    check_refused(&["--tls-cert", "a.pem"], "--tls-cert and --tls-key must be both there");
    check_refused(
        &["--tls-cert", "a.pem", "--tls-key", "b.pem"],
        "--internal-listen must be there with --tls-cert: workers and launchers speak plain HTTP",
    );
}

#[test]
fn the_secret_of_the_environment_is_not_in_a_debug_text() {
    let config = read(&["--access-key-id", "AK", "--secret-access-key", "hush"]).unwrap();
    let text = format!("{config:?}");
    assert!(text.contains("AK") && !text.contains("hush"), "{text}");
}

#[test]
fn a_bad_flag_is_one_line() {
    check_refused(&["--nonsense"], "unexpected argument '--nonsense' found");
}

#[test]
fn a_missing_endpoints_file_is_named() {
    let config = read(&["--endpoints", "/no/such/file.toml"]).unwrap();
    let error = config.read_endpoints().unwrap_err().to_string();
    assert!(error.starts_with("cannot read endpoints from /no/such/file.toml: "), "{error}");
}

#[test]
fn documented_flags_exist_and_no_flag_is_undocumented() {
    let page = include_str!("../../../docs/configuration.md");
    let section = page.split("\n## ").find(|it| it.starts_with("Router ")).unwrap();
    let command = <Config as clap::CommandFactory>::command();
    let flags: std::collections::BTreeSet<_> =
        command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let in_rows = rows.flat_map(|row| row.split("`--").skip(1));
    let documented: std::collections::BTreeSet<_> =
        in_rows.filter_map(|rest| rest.split('`').next()).collect();
    assert_eq!(documented, flags);
}
