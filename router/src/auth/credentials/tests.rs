use super::*;
use std::os::unix::fs::PermissionsExt as _;

const ONE: &str = r#"
[[credential]]
access_key_id = "AKONE"
secret_access_key = "hush-one"
"#;

fn file_of(text: &str, mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

fn credentials_of(file: &Path) -> Credentials {
    let account_id = "123456789012".to_owned();
    Credentials { file: Some(file.to_owned()), own: None, account_id }
}

fn read_text(text: &str) -> Result<Keyring, CredentialsError> {
    credentials_of(file_of(text, 0o600).path()).read()
}

#[test]
fn a_file_names_keys_and_what_they_may_do() {
    let keyring = read_text(&format!(
        r#"{ONE}
        [[credential]]
        access_key_id = "AKTWO"
        secret_access_key = "hush-two"
        session_token = "token"
        expires = 2026-11-23T04:05:06+01:00
        user = "team-a"
        actions = ["sagemaker:InvokeEndpoint"]
        target_models = ["team-a/*"]
        [[credential]]
        access_key_id = "AKTHREE"
        secret_access_key = "hush-three"
        expires = "2026-11-23T04:05:06Z"
        "#
    ))
    .unwrap();
    assert_eq!(keyring.len(), 3);
    let one = keyring.get("AKONE").unwrap();
    assert_eq!(one.arn, "arn:aws:sts::123456789012:assumed-role/manifold/AKONE");
    assert!(one.secret.is(b"hush-one") && one.session_token.is_none() && one.expires.is_none());
    assert!(one.may("sagemaker:CreateModel", None));
    let two = keyring.get("AKTWO").unwrap();
    assert_eq!(two.arn, "arn:aws:iam::123456789012:user/team-a");
    assert_eq!(two.expires.unwrap().unix_timestamp(), 1_795_406_706 - 3600);
    assert!(two.session_token.as_ref().unwrap().is(b"token"));
    assert!(!two.may("sagemaker:CreateModel", None));
    let three = keyring.get("AKTHREE").unwrap();
    assert_eq!(three.expires.unwrap().unix_timestamp(), 1_795_406_706);
}

#[test]
fn the_key_of_the_environment_may_do_everything() {
    let own = Some(("AK".to_owned(), Secret::new("hush")));
    let keyring =
        Credentials { file: None, own, account_id: "123456789012".to_owned() }.read().unwrap();
    assert!(keyring.get("AK").unwrap().may("s3:PutObject", None));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let read = |file: &Path| credentials_of(file).read();
    for mode in [0o604, 0o644, 0o660, 0o610] {
        let file = file_of(ONE, mode);
        let error = read(file.path()).unwrap_err().to_string();
        let path = file.path().display();
        let expected =
            format!("{path} can be read or changed by others (mode {mode:03o}): chmod 600 {path}");
        assert_eq!(error, expected);
    }
    for mode in [0o600, 0o400] {
        read(file_of(ONE, mode).path()).unwrap();
    }
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let error = read_text(text).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn what_is_wrong_is_told_without_its_secrets() {
    check_refused("", "there is no credential in ");
    check_refused(&format!("{ONE}{ONE}"), "access key id AKONE comes twice");
    check_refused(&format!("{ONE}expires = \"hush\""), "credential 1 of the file has an expires");
    check_refused(&format!("{ONE}nonsense = 1"), "line 5: unknown field `nonsense`");
    check_refused("[[credential]]\naccess_key_id = \"hush\"", "missing field `secret_access_key`");
    let other = "another type";
    check_refused(&ONE.replace("\"hush-one\"", "[\"hush\"]"), other);
    check_refused(&ONE.replace("\"hush-one\"", "\"hush"), other);
    check_refused(&ONE.replace("\"hush-one\"", "hush"), other);
    check_refused(&format!("{ONE}actions = \"hush\""), other);
    check_refused(&ONE.replace("hush-one", ""), "empty access_key_id or secret_access_key");
    check_refused(&format!("{ONE}session_token = \"\""), "empty session_token");
    let long = format!("# {}", "x".repeat(1024 * 1024));
    check_refused(&long, "is larger than 1048576 bytes");
}

#[test]
fn a_missing_file_is_named() {
    let error = credentials_of(Path::new("/no/such/credentials.toml")).read().unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/such/credentials.toml");
}

#[test]
fn no_secret_is_in_a_debug_text() {
    let file = file_of(&format!("{ONE}session_token = \"hush-token\""), 0o600);
    let own = Some(("AK".to_owned(), Secret::new("hush")));
    let account_id = "123456789012".to_owned();
    let credentials = Credentials { file: Some(file.path().to_owned()), own, account_id };
    let keyring = credentials.read().unwrap();
    let text = format!("{credentials:?} {keyring:?}");
    assert!(text.contains("AKONE") && !text.contains("hush"), "{text}");
}
