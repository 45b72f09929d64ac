//! The SDK's client: credentials, region, TLS, timeouts, attempts.

use super::{Patience, S3Config};
use aws_config::{
    BehaviorVersion, Region, environment::region::EnvironmentVariableRegionProvider,
    meta::region::ProvideRegion as _, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_s3::{Client, config::StalledStreamProtectionConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// What a store that is not AWS's hardly looks at, but a signature needs.
const ANY_REGION: Region = Region::from_static("us-east-1");

/// Makes a client with the usual chain of credentials: environment, profile files, web identity,
/// container and machine roles. They are asked for at the first call.
pub(super) async fn connect(config: &S3Config) -> Client {
    let S3Config { endpoint, region, patience, allowed_buckets: _ } = config;
    // Plain HTTP works with it too.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts(patience))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(patience.max_attempts)
                .with_initial_backoff(patience.initial_backoff),
        )
        // `body.rs` watches for stalls itself, and goes on where the body broke.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = endpoint {
        // The machine's metadata service, which the SDK asks for the region if nobody else says it, is
        // AWS's: elsewhere there is none, and a start would wait for it.
        let said = EnvironmentVariableRegionProvider::new().region().await;
        loader = loader.endpoint_url(endpoint).region(said.unwrap_or(ANY_REGION));
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region.clone()));
    }
    let shared = loader.load().await;
    let is_elsewhere = shared.endpoint_url().is_some();
    let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(is_elsewhere);
    let region = shared.region().cloned().unwrap_or(ANY_REGION);
    Client::from_conf(config.region(region).build())
}

fn timeouts(patience: &Patience) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(patience.connect_timeout)
        .read_timeout(patience.idle_timeout)
        .operation_attempt_timeout(patience.connect_timeout.saturating_add(patience.idle_timeout))
        .build()
}
