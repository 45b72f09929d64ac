//! Objects in S3 that the router itself reads and writes: inputs and outputs of asynchronous
//! invocations, and whether there is anything below a prefix. The only file that names the AWS SDK.

use crate::config::ObjectsConfig;
use aws_config::{
    BehaviorVersion, Region, environment::region::EnvironmentVariableRegionProvider,
    meta::region::ProvideRegion as _, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::{error::Error, fmt, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// A store in the same region connects within milliseconds; a lost SYN is sent again after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// S3 answers within 200 ms nearly always. Silence for longer is worth another attempt.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The SDK's own default for its standard mode.
const MAX_ATTEMPTS: u32 = 3;

/// What a store that is not AWS's hardly looks at, but a signature needs.
const ANY_REGION: Region = Region::from_static("us-east-1");

/// Errors of S3 that pass although their status says that the client is wrong (API reference, "Error
/// responses"): slow bodies, clocks, credentials that are being renewed, writers that collide.
const MAY_PASS: [&str; 5] = [
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "TokenRefreshRequired",
    "OperationAborted",
];

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectAddress {
    pub bucket: String,
    pub key: String,
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// S3, as the router's own client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    config: ObjectsConfig,
    /// Made at the first use: to look for a region and for credentials takes time, and many routers
    /// need neither.
    client: Arc<OnceCell<Client>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectsError {
    #[error("`{0}` is not there")]
    NotFound(String),
    #[error("the store denies `{0}`")]
    Denied(String),
    #[error("`{0}` is larger than {1} bytes")]
    TooLarge(String, u64),
    /// The store says so at every attempt.
    #[error("the store refuses `{0}`: {1}")]
    Refused(String, String),
    /// It may be there at the next attempt.
    #[error("the store did not answer for `{0}`: {1}")]
    Unavailable(String, String),
}

impl ObjectsError {
    /// Whether another attempt would be answered in the same way.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unavailable(..))
    }
}

impl Objects {
    pub fn new(config: ObjectsConfig) -> Self {
        Self { config, client: Arc::default() }
    }

    /// Whether there is anything below a prefix. In a bucket that is not there, there is not.
    pub async fn has_objects(&self, bucket: &str, prefix: &str) -> Result<bool, ObjectsError> {
        let list = self.client().await.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
        match list.send().await.map_err(|error| failed(bucket, prefix, error)) {
            Ok(listed) => Ok(!listed.contents().is_empty()),
            Err(ObjectsError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads an object of at most `max_bytes`.
    pub async fn read(&self, at: &ObjectAddress, max_bytes: u64) -> Result<Bytes, ObjectsError> {
        let ObjectAddress { bucket, key } = at;
        let get = self.client().await.get_object().bucket(bucket).key(key);
        let object = get.send().await.map_err(|error| failed(bucket, key, error))?;
        let too_large = || ObjectsError::TooLarge(at.to_string(), max_bytes);
        let length = object.content_length().and_then(|length| u64::try_from(length).ok());
        if length.is_some_and(|length| length > max_bytes) {
            return Err(too_large());
        }
        let mut stream = object.body;
        let mut whole = BytesMut::new();
        while let Some(piece) = stream.next().await {
            let broken = |error: &dyn Error| {
                ObjectsError::Unavailable(at.to_string(), DisplayErrorContext(error).to_string())
            };
            whole.extend_from_slice(&piece.map_err(|error| broken(&error))?);
            if whole.len() as u64 > max_bytes {
                return Err(too_large());
            }
        }
        Ok(whole.freeze())
    }

    pub async fn write(
        &self,
        at: &ObjectAddress,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), ObjectsError> {
        let ObjectAddress { bucket, key } = at;
        let put = self.client().await.put_object().bucket(bucket).key(key);
        let put = put.content_type(content_type).body(ByteStream::from(body));
        put.send().await.map(drop).map_err(|error| failed(bucket, key, error))
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| connect(&self.config)).await
    }
}

/// Makes a client with the usual chain of credentials. They are asked for at the first call.
async fn connect(config: &ObjectsConfig) -> Client {
    let ObjectsConfig { s3_endpoint, s3_region } = config;
    // Plain HTTP works with it too.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS));
    if let Some(endpoint) = s3_endpoint {
        // Elsewhere there is no metadata service of AWS's, which the SDK would ask for the region.
        let said = EnvironmentVariableRegionProvider::new().region().await;
        loader = loader.endpoint_url(endpoint).region(said.unwrap_or(ANY_REGION));
    }
    if let Some(region) = s3_region {
        loader = loader.region(Region::new(region.clone()));
    }
    let shared = loader.load().await;
    let is_elsewhere = shared.endpoint_url().is_some();
    let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(is_elsewhere);
    let region = shared.region().cloned().unwrap_or(ANY_REGION);
    Client::from_conf(config.region(region).build())
}

fn failed<E: Error + ProvideErrorMetadata + Send + Sync + 'static>(
    bucket: &str,
    key: &str,
    error: SdkError<E, HttpResponse>,
) -> ObjectsError {
    let at = format!("s3://{bucket}/{key}");
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let may_pass = MAY_PASS.contains(&code);
    // No request could be made of it: so it is with the next.
    let is_malformed = matches!(error, SdkError::ConstructionFailure(_));
    // The SDK's errors say little without their context.
    let context = |error| DisplayErrorContext(error).to_string();
    match status {
        Some(404) => ObjectsError::NotFound(at),
        Some(403) if !may_pass => ObjectsError::Denied(at),
        Some(300..=407 | 409..=428 | 430..=499) if !may_pass => {
            ObjectsError::Refused(at, context(error))
        }
        None if is_malformed => ObjectsError::Refused(at, context(error)),
        _ => ObjectsError::Unavailable(at, context(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::{
        error::ErrorMetadata, operation::put_object::PutObjectError, primitives::SdkBody,
    };

    fn of(status: u16, code: &str) -> ObjectsError {
        let status = status.try_into().unwrap();
        let metadata = ErrorMetadata::builder().code(code).build();
        let response = HttpResponse::new(status, SdkBody::empty());
        failed("bkt", "k", SdkError::service_error(PutObjectError::generic(metadata), response))
    }

    #[test]
    fn what_a_store_refuses_for_good_is_told_from_what_may_pass() {
        for (status, code) in [
            (400, "InvalidArgument"),
            (400, "KMS.NotFoundException"),
            (403, "AccessDenied"),
            (404, "NoSuchBucket"),
            (405, "MethodNotAllowed"),
            (301, "PermanentRedirect"),
        ] {
            assert!(of(status, code).is_definite(), "{status} {code}");
        }
        for (status, code) in [
            (400, "RequestTimeout"),
            (400, "ExpiredToken"),
            (403, "RequestTimeTooSkewed"),
            (408, ""),
            (409, "OperationAborted"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "SlowDown"),
        ] {
            assert!(!of(status, code).is_definite(), "{status} {code}");
        }
    }
}
