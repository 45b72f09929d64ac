use super::*;
use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};
use tempfile::NamedTempFile;
use tokio::time::{sleep, timeout};

const OLD: &str = "old-token-of-enough-characters";
const NEW: &str = "new-token-of-enough-characters";

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn token(text: &str) -> ClusterToken {
    TokenFile::read(file(text).path()).unwrap().token()
}

fn by_header(token: &str) -> Presented<'_> {
    Presented { token: Some(token.as_bytes()), authorization: None }
}

fn by_authorization(value: &str) -> Presented<'_> {
    Presented { token: None, authorization: Some(value.as_bytes()) }
}

#[track_caller]
fn check(token: &ClusterToken, presented: Presented<'_>, expected: Result<(), Untrusted>) {
    assert_eq!(token.admit(presented, None), expected);
    assert!(expected.is_ok() || expected == Err(presented.fault()));
}

#[test]
fn only_who_has_the_token_is_admitted() {
    let token = token(&format!("{OLD}\n"));
    check(&token, by_header(OLD), Ok(()));
    check(&token, by_authorization(&format!("Bearer {OLD}")), Ok(()));
    check(&token, by_authorization(&format!("bearer {OLD}")), Ok(()));
    check(&token, Presented::default(), Err(Untrusted::Missing));
    check(&token, by_authorization(&format!("Basic {OLD}")), Err(Untrusted::Missing));
    check(&token, by_authorization("ü"), Err(Untrusted::Missing));
    for wrong in ["", NEW, &OLD[1..], &format!("{OLD}x"), &OLD.to_uppercase()] {
        check(&token, by_header(wrong), Err(Untrusted::Wrong));
        check(&token, by_authorization(&format!("Bearer {wrong}")), Err(Untrusted::Wrong));
    }
    // The header of its own counts, where both are there.
    let both =
        Presented { token: Some(b"x"), authorization: by_authorization("Bearer x").authorization };
    check(&token, both, Err(Untrusted::Wrong));
}

#[test]
fn every_line_is_accepted_and_the_first_is_sent() {
    let token = token(&format!("\n  {NEW}\r\n{OLD}\n\n"));
    assert_eq!(token.expose(), NEW);
    check(&token, by_header(NEW), Ok(()));
    check(&token, by_header(OLD), Ok(()));
}

#[test]
fn a_file_that_protects_nothing_is_refused_without_its_words() {
    let short = "only-15-letters";
    let long = "x".repeat(257);
    let many = format!("{OLD}\n").repeat(9);
    for text in ["", "\n\n", short, &long, "tok en of enough characters", "ünïcode-of-16-ch", &many]
    {
        let error = TokenFile::read(file(text).path()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(text.trim().is_empty() || !shown.contains(text.trim()), "{shown}");
    }
    let exposed = file(OLD);
    fs::set_permissions(exposed.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = TokenFile::read(exposed.path()).unwrap_err();
    assert!(matches!(error, TokenError::File(PrivateFileError::Exposed(..))), "{error}");
}

#[test]
fn a_token_shows_nothing() {
    let file = file(OLD);
    let read = TokenFile::read(file.path()).unwrap();
    let shown = format!("{read:?} {:?} {:?}", read.token(), by_header(OLD));
    assert!(!shown.contains(OLD), "{shown}");
}

#[tokio::test]
async fn a_changed_file_is_followed_and_a_broken_one_changes_nothing() {
    let file = file(OLD);
    let read = TokenFile::read(file.path()).unwrap();
    let token = read.token();
    let following = tokio::spawn(TokenFile::keep_current(Some(read)));
    fs::write(file.path(), "").unwrap();
    assert!(token.read_again(file.path()).is_err());
    assert_eq!(token.expose(), OLD);
    fs::write(file.path(), format!("{NEW}\n{OLD}")).unwrap();
    let is_new = async {
        while token.expose() != NEW {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), is_new).await.unwrap();
    check(&token, by_header(OLD), Ok(()));
    following.abort();
}

#[test]
fn peers_that_are_refused_are_remembered_within_bounds() {
    let token = token(OLD);
    for n in 0..300_u32 {
        let peer = IpAddr::from(n.to_be_bytes());
        assert!(token.admit(Presented::default(), Some(peer)).is_err());
    }
    assert_eq!(token.0.refused.lock().len(), MAX_LOGGED);
    token.read_again(file(NEW).path()).unwrap();
    assert!(token.0.refused.lock().is_empty());
}
