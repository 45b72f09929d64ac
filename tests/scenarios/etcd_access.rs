//! Promise: an etcd with users or TLS is used with the right credentials, and wrong or missing ones are
//! refused at once, in words that say what is wrong.

use std::process::Output;
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

fn path(name: &str) -> String {
    certificate(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_asks_for_a_user_and_a_password() {
    let Some(mut etcd) = Etcd::start().await else { return };
    etcd.require_user();
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{}\n", USER[1])).expect("the folder takes a file");
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "wrong").expect("the folder takes a file");
    let (password, wrong) = (password.display().to_string(), wrong.display().to_string());

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
    std::fs::write(&password, "wrong").expect("the folder takes a file");
    worker.restart().await;
    eventually(async || cluster.worker_log(0).contains("authentication failed")).await;
    std::fs::write(&password, USER[1]).expect("the folder takes a file");
    cluster.all_in_service().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_speaks_tls_with_those_who_have_a_certificate() {
    let Some(etcd) = Etcd::start_with_tls().await else { return };
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key.pem"));
    let url = etcd.url();
    let flags = ["--cluster", &*url, "--cluster-ca", &ca];
    let flags = [&flags[..], &["--cluster-cert", &certificate, "--cluster-key", &key]].concat();
    let cluster = Cluster::builder().etcd_by(&flags).start().await;
    let models = cluster.publish_echo_models(1).await;
    assert_eq!(cluster.client().invoke(&models[0], b"x").await.status, 200);

    let other = path("other-ca.pem");
    let own = ["--cluster-cert", &certificate, "--cluster-key", &key];
    let said = refused(&etcd, &[&["--cluster-ca", &other][..], &own].concat()).await;
    assert!(said.contains("certificate"), "{said}");
    let said = refused(&etcd, &["--cluster-ca", &ca]).await;
    assert!(said.contains("etcd at 127.0.0.1"), "{said}");
    let (certificate, key) = (path("stranger.pem"), path("stranger.key.pem"));
    let stranger = ["--cluster-ca", &ca, "--cluster-cert", &certificate, "--cluster-key", &key];
    let said = refused(&etcd, &stranger).await;
    assert!(said.contains("etcd at 127.0.0.1"), "{said}");
}
