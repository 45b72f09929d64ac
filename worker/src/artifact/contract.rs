//! What every source of artifacts must do, as one test run on each.

use super::{ArtifactSource, ArtifactVersion, FetchError, Located};
use shared::{address::ArtifactAddress, telemetry::Chain};
use tokio::io::AsyncReadExt as _;

/// Checks `source` by an artifact that is not there yet and that `put` writes.
pub(super) async fn keeps_the_contract(
    source: &dyn ArtifactSource,
    address: &ArtifactAddress,
    put: impl AsyncFn(&[u8]),
) {
    let absent = source.locate(address).await.unwrap_err();
    assert!(matches!(&absent, FetchError::NotFound(it) if it == address), "{}", Chain(&absent));

    let first = vec![1; 300_000];
    put(&first).await;
    let old = version(source, address).await;
    assert_eq!(old.size_bytes, 300_000);
    assert_eq!(version(source, address).await, old, "a version lasts as long as the bytes");
    assert_eq!(bytes(source, address, &old).await.unwrap(), first);

    put(b"second").await;
    let new = version(source, address).await;
    assert_ne!(new.etag, old.etag);
    assert_eq!(bytes(source, address, &new).await.unwrap(), b"second");
    let replaced = bytes(source, address, &old).await.unwrap_err();
    assert!(matches!(replaced, FetchError::Changed(_)), "{replaced}");

    put(b"").await;
    let empty = version(source, address).await;
    assert_eq!(bytes(source, address, &empty).await.unwrap(), b"");
}

pub(super) async fn version(
    source: &dyn ArtifactSource,
    address: &ArtifactAddress,
) -> ArtifactVersion {
    match source.locate(address).await.unwrap() {
        Located::Packed(version) => version,
        Located::Folder { path, .. } => panic!("{} is a folder", path.display()),
    }
}

pub(super) async fn bytes(
    source: &dyn ArtifactSource,
    address: &ArtifactAddress,
    version: &ArtifactVersion,
) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let mut reader = source.open(address, version).await?;
    match reader.read_to_end(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(FetchError::from_reader(address, error)),
    }
}
