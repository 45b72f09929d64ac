//! The SDK's client: credentials, region, TLS, timeouts, attempts.

use super::{Patience, S3Config};
use aws_config::{
    BehaviorVersion, Region, meta::region::RegionProviderChain, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_s3::{Client, config::StalledStreamProtectionConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// What a store that is not AWS's hardly looks at, but a signature needs.
const ANY_REGION: &str = "us-east-1";

/// Makes a client with the usual chain of credentials: environment, profile files, web identity,
/// container and machine roles. They are asked for at the first call.
pub(super) async fn connect(config: &S3Config) -> Client {
    let S3Config { endpoint, region, patience, allowed_buckets: _ } = config;
    // Plain HTTP works with it too.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region_of(region.as_deref(), endpoint.is_some()).await)
        .timeout_config(timeouts(patience))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(patience.max_attempts)
                .with_initial_backoff(patience.initial_backoff),
        )
        // `body.rs` watches for stalls itself, and goes on where the body broke.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let is_elsewhere = shared.endpoint_url().is_some();
    let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(is_elsewhere);
    Client::from_conf(config.build())
}

/// The machine's metadata service is asked for the region only where AWS itself is the store:
/// elsewhere there is none, and a start would wait for it.
async fn region_of(given: Option<&str>, is_elsewhere: bool) -> Option<Region> {
    let given = given.map(|region| Region::new(region.to_owned()));
    let chain = RegionProviderChain::first_try(given)
        .or_else(aws_config::environment::region::EnvironmentVariableRegionProvider::new());
    if is_elsewhere {
        return chain.or_else(Region::new(ANY_REGION)).region().await;
    }
    chain.or_default_provider().or_else(Region::new(ANY_REGION)).region().await
}

fn timeouts(patience: &Patience) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(patience.connect_timeout)
        .read_timeout(patience.idle_timeout)
        .operation_attempt_timeout(patience.connect_timeout.saturating_add(patience.idle_timeout))
        .build()
}
