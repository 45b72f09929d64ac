//! Artifacts in S3, or in a store that speaks its protocol.
//!
//! The only files that name the AWS SDK are this one and those below it.
//!
//! # Invariants
//!
//! - A version is read whole or not at all: every GET asks for the `ETag` that HEAD gave, and the
//!   answer is checked against it, because not every store heeds `If-Match`.
//! - Every wait ends: connecting, the head of an answer, each next byte, and the whole.

mod body;
mod client;

use super::{ArtifactBytes, ArtifactSource, ArtifactVersion, FetchError, Located};
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{DisplayErrorContext, SdkError},
    operation::get_object::GetObjectOutput,
};
use body::Body;
use futures_util::stream;
use shared::address::ArtifactAddress;
use std::{collections::BTreeSet, error::Error, sync::Arc, time::Duration};
use tokio_util::io::StreamReader;

/// Bytes of UTF-8 (Amazon S3 user guide, "Naming objects"). A store calls a longer key a bad request,
/// which in an answer to `HEAD` could mean anything; so it is not asked.
const MAX_KEY_BYTES: usize = 1024;

/// Which store, and what may be read from it.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Another store than AWS. Buckets are then addressed by path, as such stores expect.
    pub endpoint: Option<String>,
    /// Otherwise from the environment, the profile or the machine's metadata.
    pub region: Option<String>,
    /// Which buckets may be read; `None` for all.
    pub allowed_buckets: Option<BTreeSet<String>>,
    pub patience: Patience,
}

/// How long to wait for a store, and how often to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub connect_timeout: Duration,
    /// Silence, before the head of an answer or between two pieces of its body.
    pub idle_timeout: Duration,
    /// A body slower than this is given up, beyond one idle timeout.
    pub min_bytes_per_second: u64,
    /// Of one call, and of one body. The SDK adds jittered back-off between them.
    pub max_attempts: u32,
    /// The longest first wait between two attempts; doubled each time.
    pub initial_backoff: Duration,
}

impl Patience {
    pub const DEFAULT: Self = Self {
        // A store in the same region connects within milliseconds; a lost SYN is sent again after
        // one second.
        connect_timeout: Duration::from_secs(3),
        // S3 answers within 200 ms nearly always; with three attempts an invocation still gets its
        // answer before 58 s.
        idle_timeout: Duration::from_secs(10),
        // A gigabyte must come within three hours. Slower is as good as stalled.
        min_bytes_per_second: 100_000,
        // The SDK's own default for its standard mode.
        max_attempts: 3,
        initial_backoff: Duration::from_millis(200),
    };

    /// How long a whole body of `size_bytes` may take.
    fn body_timeout(&self, size_bytes: u64) -> Duration {
        let at_slowest = Duration::from_secs(size_bytes / self.min_bytes_per_second.max(1));
        self.idle_timeout.saturating_add(at_slowest)
    }
}

/// S3 as a source of artifacts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3Source {
    client: Client,
    allowed_buckets: Option<Arc<BTreeSet<String>>>,
    patience: Patience,
}

impl S3Source {
    /// Reads the environment for credentials; connects only when asked for an artifact.
    pub async fn new(config: S3Config) -> Self {
        Self {
            client: client::connect(&config).await,
            allowed_buckets: config.allowed_buckets.map(Arc::new),
            patience: config.patience,
        }
    }

    /// Returns bucket and key of an address that may be read.
    fn object<'a>(&self, address: &'a ArtifactAddress) -> Result<(&'a str, &'a str), FetchError> {
        let ArtifactAddress::S3 { bucket, key } = address else {
            return Err(FetchError::Forbidden(address.clone(), "it is not in S3"));
        };
        let is_allowed = self.allowed_buckets.as_ref().is_none_or(|it| it.contains(bucket));
        if !is_allowed {
            let reason = "its bucket is not among those that this instance may read";
            return Err(FetchError::Forbidden(address.clone(), reason));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(FetchError::NotFound(address.clone()));
        }
        Ok((bucket, key))
    }

    /// Asks for an object's bytes from `offset` on, and makes sure that they are of this version.
    async fn get(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
        offset: u64,
    ) -> Result<GetObjectOutput, FetchError> {
        let (bucket, key) = self.object(address)?;
        let mut get = self.client.get_object().bucket(bucket).key(key).if_match(&version.etag);
        if offset > 0 {
            get = get.range(format!("bytes={offset}-"));
        }
        let object = get.send().await.map_err(|error| failed(address, error))?;
        if object.e_tag() != Some(&version.etag) {
            return Err(FetchError::Changed(address.clone()));
        }
        let rest_bytes = object.content_length().and_then(|it| u64::try_from(it).ok());
        if rest_bytes != version.size_bytes.checked_sub(offset) {
            return Err(FetchError::unavailable(address, "its size is not what the store said"));
        }
        Ok(object)
    }
}

#[async_trait::async_trait]
impl ArtifactSource for S3Source {
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        let (bucket, key) = self.object(address)?;
        let head = self.client.head_object().bucket(bucket).key(key).send().await;
        let head = head.map_err(|error| failed(address, error))?;
        let size_bytes = head.content_length().and_then(|it| u64::try_from(it).ok());
        let (Some(etag), Some(size_bytes)) = (head.e_tag, size_bytes) else {
            return Err(FetchError::unavailable(address, "the store told neither ETag nor size"));
        };
        Ok(Located::Packed(ArtifactVersion { etag, size_bytes }))
    }

    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError> {
        let body = Body::open(self.clone(), address.clone(), version.clone()).await?;
        let pieces = stream::try_unfold(body, Body::next_piece);
        Ok(Box::new(StreamReader::new(Box::pin(pieces))))
    }
}

/// What a failed call means. A store that hides what a caller may not see answers 403 for an
/// absent object too.
fn failed<E: Error + Send + Sync + 'static>(
    address: &ArtifactAddress,
    error: SdkError<E, HttpResponse>,
) -> FetchError {
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(404) => FetchError::NotFound(address.clone()),
        Some(403) => FetchError::Denied(address.clone()),
        Some(412) => FetchError::Changed(address.clone()),
        // The SDK's errors say little without their context.
        _ => FetchError::unavailable(address, DisplayErrorContext(error).to_string()),
    }
}

#[cfg(test)]
mod tests;
