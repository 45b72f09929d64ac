//! The S3 source against a real S3 server in the process, and against one that misbehaves.

mod broken;

use super::*;
use crate::artifact::contract;
use aws_sdk_s3::config::Credentials;
use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use shared::telemetry::Chain;
use std::net::SocketAddr;
use tokio::{net::TcpListener, task::JoinSet};

/// The real one, but for the waits between attempts: a busy machine must not look like a stall.
const PATIENCE: Patience =
    Patience { initial_backoff: Duration::from_millis(1), ..Patience::DEFAULT };

fn address(text: &str) -> ArtifactAddress {
    text.parse().unwrap()
}

async fn source(store: SocketAddr, patience: Patience) -> S3Source {
    let config = S3Config {
        endpoint: Some(format!("http://{store}")),
        region: None,
        allowed_buckets: Some(BTreeSet::from(["bucket".to_owned()])),
        patience,
    };
    let mut source = S3Source::new(config).await;
    let credentials = Credentials::builder()
        .access_key_id("key")
        .secret_access_key("secret")
        .provider_name("test")
        .build();
    let config = source.client.config().to_builder().credentials_provider(credentials);
    source.client = Client::from_conf(config.build());
    source
}

/// A real S3 server on a folder. It stops when the set is dropped.
async fn s3_server(folder: &std::path::Path) -> (SocketAddr, JoinSet<()>) {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    service.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let http = hyper::server::conn::http1::Builder::new();
            let connection = http.serve_connection(TokioIo::new(socket), service.clone());
            connections.spawn(async move {
                let _ = connection.await;
            });
        }
    });
    (addr, server)
}

#[tokio::test]
async fn an_s3_store_keeps_the_contract_of_sources() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _server) = s3_server(folder.path()).await;
    let source = source(store, PATIENCE).await;
    let address = address("s3://bucket/models/a b/ü.tar.gz");

    let no_bucket = source.locate(&address).await.unwrap_err();
    assert!(matches!(no_bucket, FetchError::NotFound(_)), "{}", Chain(&no_bucket));
    source.client.create_bucket().bucket("bucket").send().await.unwrap();
    let put = async |bytes: &[u8]| {
        let put = source.client.put_object().bucket("bucket").key("models/a b/ü.tar.gz");
        put.body(bytes.to_vec().into()).send().await.unwrap();
    };
    contract::keeps_the_contract(&source, &address, put).await;
}

#[tokio::test]
async fn a_key_longer_than_s3_has_is_of_no_object_and_no_outage() {
    // Nobody listens there: it is not even asked.
    let source = source("127.0.0.1:9".parse().unwrap(), PATIENCE).await;
    let long = address(&format!("s3://bucket/{}", "x".repeat(1025)));
    let error = source.locate(&long).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound(_)), "{}", Chain(&error));
}

#[tokio::test]
async fn only_allowed_buckets_are_read() {
    // Nobody listens there: it is not even asked.
    let source = source("127.0.0.1:9".parse().unwrap(), PATIENCE).await;
    let error = source.locate(&address("s3://other/x")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "artifact `s3://other/x` may not be read here: its bucket is not among those that this \
         instance may read"
    );
    let file = source.locate(&address("file:///etc/passwd")).await.unwrap_err();
    assert!(matches!(file, FetchError::Forbidden(..)), "{file}");
}
