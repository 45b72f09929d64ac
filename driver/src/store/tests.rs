//! The whole store over HTTP: an SDK for what SDKs do, bare requests for what they frame.

use super::{build, http};
use crate::{cli::StoreArgs, models::ModelStore};
use reqwest::{Method, Response, header::HeaderMap};
use std::net::{Ipv4Addr, SocketAddr};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::AbortHandle};

struct Store {
    url: String,
    http: reqwest::Client,
    server: AbortHandle,
    _root: TempDir,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Store {
    /// Starts a store with the bucket `bucket`.
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let args = StoreArgs {
            listen,
            data: root.path().join("store"),
            allow_unauthenticated: false,
            address_file: None,
            exit_with_parent: false,
        };
        let service = build(&args).unwrap();
        let listener = TcpListener::bind(listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(http::serve(listener, service)).abort_handle();
        let store = Self { url, http: reqwest::Client::new(), server, _root: root };
        store.models().create_bucket("bucket").await.unwrap();
        store
    }

    fn models(&self) -> ModelStore {
        ModelStore::new(&self.url)
    }

    async fn send(
        &self,
        method: Method,
        key: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let url = format!("{}/bucket/{key}", self.url);
        let mut request = self.http.request(method, url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn put(&self, key: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        answer(self.send(Method::PUT, key, headers, body).await).await
    }

    async fn get(&self, key: &str, headers: &[(&str, &str)]) -> (u16, String) {
        answer(self.send(Method::GET, key, headers, "").await).await
    }

    async fn head(&self, key: &str) -> HeaderMap {
        self.send(Method::HEAD, key, &[], "").await.headers().clone()
    }
}

async fn answer(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    // Of an error, its code.
    let code = body.split("<Code>").nth(1).and_then(|rest| rest.split('<').next());
    (status, code.map_or(body.clone(), str::to_owned))
}

/// What an SDK sends with a body whose checksum follows it.
const TRAILER: [(&str, &str); 4] = [
    ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
    ("x-amz-trailer", "x-amz-checksum-crc32"),
    ("x-amz-decoded-content-length", "5"),
    ("content-encoding", "aws-chunked"),
];

#[tokio::test]
async fn sdk_uploads_once_and_again_only_when_the_file_changes() {
    let store = Store::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model");
    let upload = async || store.models().upload("bucket", "a/model", &file).await.unwrap();

    std::fs::write(&file, vec![1; 100_000]).unwrap();
    assert!(upload().await);
    assert!(!upload().await);
    let etag = store.head("a/model").await["etag"].clone();
    std::fs::write(&file, vec![2; 100_000]).unwrap();
    assert!(upload().await);
    assert_ne!(store.head("a/model").await["etag"], etag);
    store.models().create_bucket("bucket").await.unwrap();
    assert_eq!(store.get("a/model", &[("range", "bytes=0-1")]).await, (206, "\u{2}\u{2}".into()));
}

#[tokio::test]
async fn signed_and_framed_uploads_are_unframed() {
    let store = Store::start().await;
    let authorization = ("authorization", "AWS4-HMAC-SHA256 Credential=any, Signature=any");
    let framed = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let headers = [TRAILER.as_slice(), &[authorization]].concat();
    assert_eq!(store.put("trailer", &headers, framed).await.0, 200);
    assert_eq!(store.get("trailer", &[]).await, (200, "hello".into()));
    assert!(!store.head("trailer").await.contains_key("content-encoding"));

    let headers = [
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-decoded-content-length", "5"),
        authorization,
    ];
    let framed = "5;chunk-signature=00\r\nworld\r\n0;chunk-signature=00\r\n\r\n";
    assert_eq!(store.put("signed", &headers, framed).await.0, 200);
    assert_eq!(store.get("signed", &[authorization]).await, (200, "world".into()));
}

#[tokio::test]
async fn damaged_upload_leaves_the_old_object() {
    let store = Store::start().await;
    assert_eq!(store.put("key", &[], "before").await.0, 200);
    let etag = store.head("key").await["etag"].clone();

    let wrong_sum = "5\r\nhellO\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    assert_eq!(store.put("key", &TRAILER, wrong_sum).await, (400, "BadDigest".into()));
    let no_sum = "5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(store.put("key", &TRAILER, no_sum).await, (400, "BadDigest".into()));
    let short = "4\r\nhell\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    assert_eq!(store.put("key", &TRAILER, short).await, (400, "IncompleteBody".into()));
    let sha256 = ("x-amz-content-sha256", "ab".repeat(32));
    let sha256 = [(sha256.0, sha256.1.as_str())];
    assert_eq!(store.put("key", &sha256, "after").await, (400, "BadDigest".into()));
    let crc32 = [("x-amz-checksum-crc32", "NhCmhg==")];
    assert_eq!(store.put("key", &crc32, "after").await, (400, "BadDigest".into()));

    assert_eq!(store.get("key", &[]).await, (200, "before".into()));
    assert_eq!(store.head("key").await["etag"], etag);
    assert_eq!(store.put("key", &crc32, "hello").await.0, 200);
}

#[tokio::test]
async fn conditions_hold_for_reads_and_writes() {
    let store = Store::start().await;
    let once = [("if-none-match", "*")];
    assert_eq!(store.put("key", &once, "1").await.0, 200);
    assert_eq!(store.put("key", &once, "2").await, (412, "PreconditionFailed".into()));
    let etag = store.head("key").await["etag"].to_str().unwrap().to_owned();
    assert_eq!(store.put("key", &[("if-match", &etag)], "3").await.0, 200);
    assert_eq!(store.put("key", &[("if-match", &etag)], "4").await.0, 412);
    assert_eq!(store.get("key", &[("if-match", &etag)]).await.0, 412);
    let etag = store.head("key").await["etag"].to_str().unwrap().to_owned();
    assert_eq!(store.get("key", &[("if-none-match", &etag)]).await.0, 304);
    assert_eq!(store.get("key", &[("if-match", &etag)]).await, (200, "3".into()));
}

#[tokio::test]
async fn ranges_stay_within_the_object() {
    let store = Store::start().await;
    store.put("key", &[], "0123456789").await;
    let get = async |range: &str| store.get("key", &[("range", range)]).await;
    assert_eq!(get("bytes=2-4").await, (206, "234".into()));
    assert_eq!(get("bytes=8-").await, (206, "89".into()));
    assert_eq!(get("bytes=-3").await, (206, "789".into()));
    assert_eq!(get("bytes=-100").await, (206, "0123456789".into()));
    assert_eq!(get("bytes=10-").await, (416, "InvalidRange".into()));
}

#[tokio::test]
async fn what_is_no_object_is_not_found() {
    let store = Store::start().await;
    store.put("folder/key", &[], "x").await;
    assert_eq!(store.get("none", &[]).await, (404, "NoSuchKey".into()));
    assert_eq!(store.get("folder", &[]).await, (404, "NoSuchKey".into()));
    assert_eq!(store.put("folder", &[], "x").await, (400, "InvalidArgument".into()));
    assert_eq!(store.put("folder/key/deeper", &[], "x").await, (400, "InvalidArgument".into()));
    assert_eq!(store.get("..%2F..%2Fetc%2Fpasswd", &[]).await, (400, "InvalidArgument".into()));
    assert_eq!(store.put(&"k".repeat(250), &[], "x").await, (400, "KeyTooLongError".into()));
    let elsewhere = store.http.get(format!("{}/no-such-bucket/key", store.url)).send().await;
    assert_eq!(answer(elsewhere.unwrap()).await, (404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn buckets_are_in_the_region_that_they_were_created_for() {
    let store = Store::start().await;
    let create = async |bucket: &str, region: &str| {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        let url = format!("{}/{bucket}", store.url);
        answer(store.http.put(url).body(body).send().await.unwrap()).await
    };
    let region = async |bucket: &str| {
        let head = store.http.head(format!("{}/{bucket}", store.url)).send().await.unwrap();
        let region = head.headers().get("x-amz-bucket-region");
        region.map(|it| it.to_str().unwrap().to_owned())
    };
    assert_eq!(create("europe", "eu-west-1").await.0, 200);
    assert_eq!(region("europe").await.as_deref(), Some("eu-west-1"));
    let owned = (409, "BucketAlreadyOwnedByYou".to_owned());
    assert_eq!(create("europe", "eu-west-1").await, owned);
    assert_eq!(create("bucket", "eu-west-1").await, owned);
    assert_eq!(region("bucket").await.as_deref(), Some("us-east-1"));
    let location = store.http.get(format!("{}/europe?location", store.url)).send().await.unwrap();
    assert!(location.text().await.unwrap().contains("eu-west-1"));
    assert_eq!(region("no-such-bucket").await, None);
}

#[tokio::test]
async fn keys_are_listed_as_they_are_with_their_etags() {
    let store = Store::start().await;
    for key in ["b%2Bc%20%25", "a"] {
        assert_eq!(store.put(key, &[], "hello").await.0, 200);
    }
    let list = store.get("?list-type=2&encoding-type=url", &[]).await.1;
    assert!(list.contains("<Key>a</Key>") && list.contains("<Key>b+c %</Key>"), "{list}");
    assert!(!list.contains("EncodingType"), "{list}");
    assert_eq!(list.matches("5d41402abc4b2a76b9719d911017c592").count(), 2, "{list}");
}

#[tokio::test]
async fn store_listens_beyond_loopback_only_where_it_is_told_to() {
    let data = tempfile::tempdir().unwrap();
    let args = StoreArgs {
        listen: "0.0.0.0:0".parse().unwrap(),
        data: data.path().join("store"),
        address_file: Some(data.path().join("address")),
        allow_unauthenticated: false,
        exit_with_parent: false,
    };
    let refused = super::run(args.clone()).await;
    assert!(matches!(refused, Err(super::StoreError::NotLoopback(_))));
    assert!(!args.data.exists());

    let address_file = args.address_file.clone().unwrap();
    let told = StoreArgs { allow_unauthenticated: true, ..args };
    let store = tokio::spawn(super::run(told));
    while !address_file.exists() {
        assert!(!store.is_finished(), "it has ended");
        tokio::task::yield_now().await;
    }
    store.abort();
}
