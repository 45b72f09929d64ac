//! `s3s-fs` with its gaps closed, as far as stock clients and the worker's cache meet them.
//!
//! # Invariants
//!
//! - An `ETag` read belongs to the bytes read: s3s-fs renames an object into place and then writes its
//!   `ETag`, so both happen under a lock that readers take too.
//! - A damaged, truncated or refused upload never replaces an object.
//! - What a write began it finishes, even if the client hangs up.

mod operations;

use super::{
    conditions::{Current, ReadConditions, check_write},
    names,
    upload::{Broken, Upload},
};
use s3s::{
    S3 as _, S3Error, S3Request, S3Response, S3Result,
    dto::{
        HeadObjectInput, ListObjectsV2Input, Object, PutObjectInput, PutObjectOutput,
        UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use s3s_fs::FileSystem;
use std::{
    cmp::Ordering,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks shared by all objects, picked by hash: enough that two uploads seldom meet.
const N_LOCKS: usize = 64;

type CopyGuards = (Option<OwnedRwLockReadGuard<()>>, OwnedRwLockWriteGuard<()>);

/// The embedded store's objects. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LocalStore {
    files: Arc<FileSystem>,
    root: PathBuf,
    locks: Arc<[Arc<RwLock<()>>]>,
}

impl LocalStore {
    pub(super) fn new(files: FileSystem, root: PathBuf) -> Self {
        let locks = (0..N_LOCKS).map(|_| Arc::default()).collect();
        Self { files: Arc::new(files), root, locks }
    }

    async fn lock_read(&self, bucket: &str, key: &str) -> OwnedRwLockReadGuard<()> {
        Arc::clone(self.lock(bucket, key)).read_owned().await
    }

    async fn lock_write(&self, bucket: &str, key: &str) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(self.lock(bucket, key)).write_owned().await
    }

    /// Locks a copy's source and target, in one order for all copies: two that cross must not wait
    /// for each other.
    async fn lock_copy(&self, source: (&str, &str), target: (&str, &str)) -> CopyGuards {
        let (source_idx, target_idx) = (lock_idx(source.0, source.1), lock_idx(target.0, target.1));
        let write = Arc::clone(&self.locks[target_idx]).write_owned();
        let read = Arc::clone(&self.locks[source_idx]).read_owned();
        match source_idx.cmp(&target_idx) {
            Ordering::Less => {
                let read = read.await;
                (Some(read), write.await)
            }
            Ordering::Equal => (None, write.await),
            Ordering::Greater => {
                let write = write.await;
                (Some(read.await), write)
            }
        }
    }

    fn lock(&self, bucket: &str, key: &str) -> &Arc<RwLock<()>> {
        &self.locks[lock_idx(bucket, key)]
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        let is_there = names::bucket_path(&self.root, bucket)?.is_dir();
        if is_there { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    fn check_object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        self.check_bucket(bucket)?;
        // A folder on disk is a prefix of keys, not an object.
        let path = names::object_path(&self.root, bucket, key)?;
        if path.is_file() { Ok(path) } else { Err(s3_error!(NoSuchKey)) }
    }

    /// Checks that an object can be written here, before its body is read.
    fn check_target(&self, bucket: &str, key: &str) -> S3Result<()> {
        self.check_bucket(bucket)?;
        names::check_new_key(bucket, key)?;
        let path = names::object_path(&self.root, bucket, key)?;
        let bucket_path = names::bucket_path(&self.root, bucket)?;
        let is_blocked =
            path.ancestors().skip(1).take_while(|parent| *parent != bucket_path).any(Path::is_file);
        if is_blocked || (path.is_dir() && !key.ends_with('/')) {
            return Err(s3_error!(
                InvalidArgument,
                "the local store keeps objects as files: `a` and `a/b` cannot both be keys"
            ));
        }
        Ok(())
    }

    async fn current(&self, bucket: &str, key: &str) -> S3Result<Option<Current>> {
        if self.check_object(bucket, key).is_err() {
            return Ok(None);
        }
        let input = HeadObjectInput {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            ..HeadObjectInput::default()
        };
        let head = self.files.head_object(inner_request(input)).await?.output;
        Ok(Some(Current { etag: head.e_tag, last_modified: head.last_modified }))
    }

    async fn check_conditions(
        &self,
        bucket: &str,
        key: &str,
        conditions: &ReadConditions,
    ) -> S3Result<()> {
        if conditions.is_empty() {
            return Ok(());
        }
        let current = self.current(bucket, key).await?.ok_or_else(|| s3_error!(NoSuchKey))?;
        conditions.check(&current)
    }

    async fn has_objects(&self, bucket: &str) -> S3Result<bool> {
        let input = ListObjectsV2Input {
            bucket: bucket.to_owned(),
            max_keys: Some(1),
            ..ListObjectsV2Input::default()
        };
        let listed = self.files.list_objects_v2(inner_request(input)).await?.output;
        Ok(listed.contents.is_some_and(|objects| !objects.is_empty()))
    }

    async fn put(
        self,
        mut req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let conditions = (req.input.if_match.take(), req.input.if_none_match.take());
        let check = async |store: &Self| {
            let current = store.current(&bucket, &key).await?;
            check_write(conditions.0.as_ref(), conditions.1.as_ref(), current.as_ref())
        };
        // Once now, so that a hopeless upload ends before its body, and once when it counts.
        check(&self).await?;

        let upload = Upload::of(&req.headers)?;
        let body = req.input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let (pieces, stream) = Upload::channel();
        req.input.body = Some(stream);
        unframe(&mut req.input);
        let commit = async {
            upload.pump(body, &pieces).await?;
            let guard = self.lock_write(&bucket, &key).await;
            if let Err(error) = check(&self).await {
                return Err(Broken::refuse(error, &pieces).await);
            }
            // The end of the stream: s3s-fs now renames the object into place, under our lock.
            drop(pieces);
            Ok(guard)
        };
        let (answer, committed) = tokio::join!(self.files.put_object(req), commit);
        outcome(answer, committed)
    }

    async fn put_part(
        self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let upload = Upload::of(&req.headers)?;
        let body = req.input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let (pieces, stream) = Upload::channel();
        req.input.body = Some(stream);
        let pump = async {
            upload.pump(body, &pieces).await?;
            drop(pieces);
            Ok(())
        };
        let (answer, pumped) = tokio::join!(self.files.upload_part(req), pump);
        outcome(answer, pumped)
    }

    /// s3s-fs lists keys without `ETags`.
    async fn add_etags(&self, bucket: &str, objects: Option<&mut Vec<Object>>) -> S3Result<()> {
        for object in objects.into_iter().flatten() {
            let key = object.key.clone().unwrap_or_default();
            let _guard = self.lock_read(bucket, &key).await;
            object.e_tag = self.current(bucket, &key).await?.and_then(|current| current.etag);
        }
        Ok(())
    }
}

fn lock_idx(bucket: &str, key: &str) -> usize {
    let bytes = bucket.bytes().chain([0]).chain(key.bytes());
    let hash =
        bytes.fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
    hash % N_LOCKS
}

/// Runs a write to its end: dropped half way, it could leave a new object with an old `ETag`.
async fn finish<T: Send + 'static>(
    write: impl Future<Output = S3Result<T>> + Send + 'static,
) -> S3Result<T> {
    tokio::spawn(write).await.unwrap_or_else(|panic| Err(S3Error::internal_error(panic)))
}

/// Takes out of an upload's description what only its framing needed, and what was checked.
fn unframe(input: &mut PutObjectInput) {
    input.checksum_algorithm = None;
    input.content_md5 = None;
    if let Some(encodings) = input.content_encoding.take() {
        let kept: Vec<&str> =
            encodings.split(',').map(str::trim).filter(|it| *it != "aws-chunked").collect();
        input.content_encoding = (!kept.is_empty()).then(|| kept.join(","));
    }
}

/// Joins what s3s-fs says with what became of the body, which knows better why it broke.
fn outcome<T, G>(answer: S3Result<T>, body: Result<G, Broken>) -> S3Result<T> {
    match (answer, body) {
        (_, Err(Broken::Refused(error))) | (Err(error), _) => Err(error),
        (Ok(_), Err(Broken::WriterGone)) => Err(s3_error!(IncompleteBody)),
        (Ok(answer), Ok(_)) => Ok(answer),
    }
}

/// A request of our own to s3s-fs.
fn inner_request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: hyper::Method::GET,
        uri: hyper::Uri::default(),
        headers: hyper::HeaderMap::default(),
        extensions: hyper::http::Extensions::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}
