//! The demo models: which there are, where they lie, and how they get into the store.

use crate::{processes::REGION, signing::Key};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, timeout::TimeoutConfig},
    error::{DisplayErrorContext, SdkError},
    primitives::ByteStream,
};
use s3s::crypto::{Checksum as _, Md5};
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

pub const BUCKET: &str = "manifold-demo";
pub const PREFIX: &str = "models/";

/// What `manifold zoo` makes, in the order of the walk.
pub const DEMO_MODELS: [&str; 12] = [
    "efficientnet_lite0.tar.gz",
    "efficientnet_lite1.tar.gz",
    "efficientnet_lite2.tar.gz",
    "resnet_18.tar.gz",
    "resnet_152.tar.gz",
    "squeezenet_v1.0.tar.gz",
    "demo-subfolder/squeezenet_v1.0_0.tar.gz",
    "demo-subfolder/squeezenet_v1.0_1.tar.gz",
    "demo-subfolder/squeezenet_v1.0_2.tar.gz",
    "demo-subfolder/squeezenet_v1.0_3.tar.gz",
    "demo-subfolder/squeezenet_v1.0_4.tar.gz",
    "demo-subfolder/squeezenet_v1.0_5.tar.gz",
];

/// What it makes beside them, for who wants to send something else than pictures.
pub const NOT_OF_PICTURES: [&str; 1] = ["tiny_mlp.tar.gz"];

/// A store on this machine that takes longer for one attempt hangs.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(2);

/// Names of objects that a listing keeps: two million of an ordinary length. A store may list for ever.
const MAX_LISTED_BYTES: usize = 256 << 20;

/// The store, as any S3 client sees it.
#[derive(Clone, Debug)]
pub struct ModelStore {
    client: Client,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the store refused {what}: {reason}")]
    Store { what: String, reason: String },
}

impl ModelStore {
    /// A store that takes any credentials, as ours does.
    pub fn new(store_url: &str) -> Self {
        Self::signing_with(store_url, None)
    }

    /// A store behind a router that wants requests signed with one of its keys.
    pub fn signing_with(store_url: &str, key: Option<&Key>) -> Self {
        let local = || Credentials::new("local", "local", None, None, "manifold");
        let credentials = key.map_or_else(local, Key::credentials);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .endpoint_url(store_url)
            .force_path_style(true)
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// Waits for no one: an error says that the store does not answer.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), UploadError> {
        let created = self.client.create_bucket().bucket(bucket).send().await;
        created.map(drop).map_err(|error| refused(bucket, error))
    }

    /// Uploads a file unless the same one is there. Returns whether it was uploaded.
    pub async fn upload(&self, bucket: &str, key: &str, path: &Path) -> Result<bool, UploadError> {
        let read_error = |source| UploadError::Read { path: path.to_owned(), source };
        if self.is_there(bucket, key, path).await? {
            return Ok(false);
        }
        let body = ByteStream::from_path(path).await.map_err(|error| read_error(error.into()))?;
        self.put(bucket, key, body).await?;
        Ok(true)
    }

    /// Puts an object under a key.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: impl Into<ByteStream>,
    ) -> Result<(), UploadError> {
        let put = self.client.put_object().bucket(bucket).key(key).body(body.into());
        put.send().await.map(drop).map_err(|error| refused(key, error))
    }

    /// Deletes the object under a key, if there is one.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), UploadError> {
        let delete = self.client.delete_object().bucket(bucket).key(key);
        delete.send().await.map(drop).map_err(|error| refused(key, error))
    }

    /// Lists the keys below a prefix, in order, but no more than `max` of them.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        max: usize,
    ) -> Result<Vec<String>, UploadError> {
        let list = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let (mut keys, mut n_bytes) = (Vec::new(), 0);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused(bucket, error))?;
            let objects = page.contents.unwrap_or_default();
            let page: Vec<String> = objects.into_iter().filter_map(|object| object.key).collect();
            n_bytes += page.iter().map(String::len).sum::<usize>();
            keys.extend(page);
            if keys.len() >= max || n_bytes >= MAX_LISTED_BYTES {
                keys.truncate(max);
                break;
            }
        }
        Ok(keys)
    }

    /// Compares sizes first: they are free.
    async fn is_there(&self, bucket: &str, key: &str, path: &Path) -> Result<bool, UploadError> {
        let read_error = |source| UploadError::Read { path: path.to_owned(), source };
        let head = match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(head) => head,
            Err(SdkError::ServiceError(error)) if error.err().is_not_found() => return Ok(false),
            Err(error) => return Err(refused(key, error)),
        };
        let n_bytes = path.metadata().map_err(read_error)?.len();
        if head.content_length().and_then(|len| u64::try_from(len).ok()) != Some(n_bytes) {
            return Ok(false);
        }
        let owned = path.to_owned();
        let md5 = tokio::task::spawn_blocking(move || md5_hex(&owned)).await;
        let md5 = md5.map_err(|panic| read_error(panic.into()))?.map_err(read_error)?;
        Ok(head.e_tag().map(|etag| etag.trim_matches('"')) == Some(md5.as_str()))
    }
}

fn refused<E>(what: &str, error: E) -> UploadError
where
    E: std::error::Error + Send + Sync + 'static,
{
    // The SDK's own text says "service error" alone.
    UploadError::Store { what: what.to_owned(), reason: DisplayErrorContext(error).to_string() }
}

/// The `ETag` that S3 gives an object uploaded in one piece.
fn md5_hex(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crate::store::hex(&md5.finalize())),
            n => md5.update(&buffer[..n]),
        }
    }
}

/// Returns every archive below `folder` by its key relative to the prefix, in order.
pub fn archives(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((format!("{key}/"), entry.path()));
            } else if key.ends_with(".tar.gz") {
                found.push((key, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the demo models that `folder` lacks.
pub fn missing(folder: &Path) -> Vec<&'static str> {
    DEMO_MODELS.into_iter().filter(|model| !folder.join(model).is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_found_by_their_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("sub/deep")).unwrap();
        for file in ["b.tar.gz", "a.txt", "sub/a.tar.gz", "sub/deep/c.tar.gz"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        let keys: Vec<String> =
            archives(folder.path()).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["b.tar.gz", "sub/a.tar.gz", "sub/deep/c.tar.gz"]);
    }

    #[test]
    fn digest_is_the_etag_of_a_single_put() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "hello").unwrap();
        let md5 = md5_hex(&folder.path().join("x")).unwrap();
        assert_eq!(md5, "5d41402abc4b2a76b9719d911017c592");
    }
}
