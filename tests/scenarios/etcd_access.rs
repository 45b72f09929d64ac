//! Promise: an etcd with users or TLS is used with the right credentials, and wrong or missing ones are
//! refused at once, in words that say what is wrong.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Output,
};
use tempfile::TempDir;
use tests::{
    Cluster, Etcd, binaries,
    etcd::{USER, certificate},
    eventually,
};
use tokio::process::Command;

/// Starts a router that is expected to end by itself, and returns what it said.
async fn refused(etcd: &Etcd, flags: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let output: Output = Command::new(binaries().router)
        .args(["--listen", "127.0.0.1:0", "--cluster", &etcd.url(), "--records"])
        .arg(folder.path().join("records.redb"))
        .args(flags)
        .output()
        .await
        .expect("the router can be started");
    assert!(!output.status.success(), "it was let in: {output:?}");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Starts a worker with these flags, and returns once it has said `words`: it goes on trying.
async fn worker_says(etcd: &Etcd, flags: &[&str], words: &str) -> String {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let log = folder.path().join("log");
    let file = fs::File::create(&log).expect("the folder takes a file");
    let errors = file.try_clone().expect("a file has room for another handle");
    let mut worker = Command::new(binaries().worker)
        .args(["--bind", "127.0.0.1:0", "--cluster", &etcd.url(), "--cache-dir"])
        .arg(folder.path().join("cache"))
        .args(flags)
        .stdout(file)
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .expect("the worker can be started");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    eventually(async || said().contains(words)).await;
    assert!(worker.try_wait().expect("it is ours").is_none(), "it has ended: {}", said());
    said()
}

/// Writes a secret for its owner alone.
fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).expect("the folder takes a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the file is ours");
    path.display().to_string()
}

/// Copies a key for its owner alone: a checkout gives everybody leave to read it.
fn key(folder: &TempDir, name: &str) -> String {
    let text = fs::read_to_string(certificate(name)).expect("the key is in the repository");
    write(&folder.path().join(name), &text)
}

fn path(name: &str) -> String {
    certificate(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_asks_for_a_user_and_a_password() {
    let Some(mut etcd) = Etcd::start().await else { return };
    etcd.require_user();
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let password_file = folder.path().join("password");
    let password = write(&password_file, &format!("{}\n", USER[1]));
    let wrong = write(&folder.path().join("wrong"), "wrong");

    let url = etcd.url();
    let flags =
        ["--cluster", &*url, "--cluster-user", USER[0], "--cluster-password-file", &password];
    let cluster = Cluster::builder().etcd_by(&flags).start().await;
    let models = cluster.publish_echo_models(1).await;
    assert_eq!(cluster.client().invoke(&models[0], b"x").await.status, 200);

    // Its return makes all tokens invalid.
    etcd.restart().await;
    cluster.worker(0).restart().await;
    cluster.all_in_service().await;

    let said = refused(&etcd, &[]).await;
    assert!(said.contains("etcd at 127.0.0.1") && said.contains("user name is empty"), "{said}");
    let flags = ["--cluster-user", USER[0], "--cluster-password-file", &wrong];
    let said = refused(&etcd, &flags).await;
    assert!(said.contains("authentication failed"), "{said}");
    assert!(!said.contains(USER[1]), "secrets are not told");
    let flags = ["--cluster-user", USER[0], "--cluster-password-file", "/no/such/file"];
    let said = refused(&etcd, &flags).await;
    assert!(said.contains("/no/such/file"), "{said}");

    // Worker: it goes on, says so, and comes in once somebody has put it right.
    let worker = cluster.worker(0);
    write(&password_file, "wrong");
    worker.restart().await;
    eventually(async || cluster.worker_log(0).contains("authentication failed")).await;
    write(&password_file, USER[1]);
    cluster.all_in_service().await;
    worker_says(&etcd, &[], "user name is empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_others_can_read_is_refused() {
    let Some(etcd) = Etcd::start().await else { return };
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let password = write(&folder.path().join("password"), USER[1]);
    fs::set_permissions(&password, Permissions::from_mode(0o644)).expect("the file is ours");
    let flags = ["--cluster-user", USER[0], "--cluster-password-file", &password];
    let said = refused(&etcd, &flags).await;
    assert!(said.contains("can be read or changed by others"), "{said}");
    worker_says(&etcd, &flags, "can be read or changed by others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_speaks_tls_with_those_who_have_a_certificate() {
    let Some(etcd) = Etcd::start_with_tls().await else { return };
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let (ca, certificate) = (path("ca.pem"), path("client.pem"));
    let own_key = key(&folder, "client.key.pem");
    let url = etcd.url();
    let flags = ["--cluster", &*url, "--cluster-ca", &ca];
    let flags = [&flags[..], &["--cluster-cert", &certificate, "--cluster-key", &own_key]].concat();
    let cluster = Cluster::builder().etcd_by(&flags).start().await;
    let models = cluster.publish_echo_models(1).await;
    assert_eq!(cluster.client().invoke(&models[0], b"x").await.status, 200);

    let other = path("other-ca.pem");
    let own = ["--cluster-cert", &certificate, "--cluster-key", &own_key];
    let deceived = [&["--cluster-ca", &other][..], &own].concat();
    let said = refused(&etcd, &deceived).await;
    assert!(said.contains("certificate"), "{said}");
    worker_says(&etcd, &deceived, "certificate").await;
    let said = refused(&etcd, &["--cluster-ca", &ca]).await;
    assert!(said.contains("etcd at 127.0.0.1"), "{said}");
    let (certificate, its_key) = (path("stranger.pem"), key(&folder, "stranger.key.pem"));
    let stranger = ["--cluster-ca", &ca, "--cluster-cert", &certificate, "--cluster-key", &its_key];
    let said = refused(&etcd, &stranger).await;
    assert!(said.contains("etcd at 127.0.0.1"), "{said}");
    for flags in [&["--cluster-ca", &ca][..], &stranger] {
        let said = worker_says(&etcd, flags, "not registered in etcd").await;
        assert!(!said.contains("registered in etcd key"), "{said}");
    }
    // None of them is known to anybody.
    assert_eq!(cluster.client().n_in_service().await, 1);
}
