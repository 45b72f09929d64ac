use super::*;
use crate::auth::{api::Api, error::Fault};
use actix_web::test::TestRequest;
use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};
use tokio::time::timeout;

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn credential(id: &str) -> String {
    format!("[[credential]]\naccess_key_id = \"{id}\"\nsecret_access_key = \"hush\"\n")
}

fn read(flags: &[&str]) -> Result<Access, InvalidConfig> {
    let flags = ["router"].iter().chain(flags).map(OsString::from);
    Access::read(&Config::read(flags).unwrap())
}

/// Whether a gate has a key: a request of long ago is then refused for its age alone.
fn knows(gate: &Gate, id: &str) -> bool {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/20200101/us-east-1/sagemaker/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={}",
        "0".repeat(64)
    );
    let request = TestRequest::get()
        .insert_header(("authorization", authorization))
        .insert_header(("x-amz-date", "20200101T000000Z"))
        .to_http_request();
    match gate.admit(&request, Api::Runtime).unwrap_err().fault {
        Fault::UnknownKey => false,
        Fault::Skewed(_) => true,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_changes_nothing_and_a_mended_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.toml");
    write(&path, &credential("OLD"));
    let access = read(&["--credentials", path.to_str().unwrap()]).unwrap();
    let gate = access.gate.clone();
    let mut current = std::pin::pin!(access.keep_current());
    // Time passes at once, as often as the file is looked at.
    let minute = Duration::from_mins(1);
    for broken in ["nonsense", ""] {
        write(&path, broken);
        assert!(timeout(minute, &mut current).await.is_err());
        assert!(knows(&gate, "OLD"));
    }
    fs::remove_file(&path).unwrap();
    assert!(timeout(minute, &mut current).await.is_err());
    assert!(knows(&gate, "OLD"));
    write(&path, &credential("NEW"));
    assert!(timeout(minute, &mut current).await.is_err());
    assert!(knows(&gate, "NEW") && !knows(&gate, "OLD"));
}

#[test]
fn the_face_follows_from_credentials_and_listeners() {
    let key = ["--access-key-id", "AK", "--secret-access-key", "hush"];
    let internal = ["--internal-listen", "127.0.0.1:0"];
    let open = read(&[]).unwrap();
    assert!(open.gate.is_open() && open.face == Face::Open);
    let guarded = read(&key).unwrap();
    assert!(!guarded.gate.is_open() && guarded.face == Face::Guarded);
    assert_eq!(read(&internal).unwrap().face, Face::Public);
    assert_eq!(read(&[&key[..], &internal].concat()).unwrap().face, Face::Public);
}

#[test]
fn what_cannot_be_read_at_the_start_is_an_error() {
    let missing = read(&["--credentials", "/no/such/file.toml"]).unwrap_err().to_string();
    assert_eq!(missing, "cannot read /no/such/file.toml");
    let tls = ["--tls-cert", "/no/c.pem", "--tls-key", "/no/k.pem"];
    let flags = [&tls[..], &["--internal-listen", "127.0.0.1:0"]].concat();
    let missing = read(&flags).unwrap_err().to_string();
    assert_eq!(missing, "cannot read certificates from /no/c.pem");
}
