//! Which source an address belongs to: by its scheme.

use super::{ArtifactBytes, ArtifactSource, ArtifactVersion, FetchError, Located};
use shared::address::ArtifactAddress;
use std::sync::Arc;

/// All sources of a worker, as one.
#[derive(Clone, Debug)]
pub struct Sources {
    pub s3: Arc<dyn ArtifactSource>,
    pub files: Arc<dyn ArtifactSource>,
}

impl Sources {
    fn of(&self, address: &ArtifactAddress) -> &dyn ArtifactSource {
        match address {
            ArtifactAddress::S3 { .. } => self.s3.as_ref(),
            ArtifactAddress::File { .. } => self.files.as_ref(),
        }
    }
}

#[async_trait::async_trait]
impl ArtifactSource for Sources {
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        self.of(address).locate(address).await
    }

    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError> {
        self.of(address).open(address, version).await
    }
}
