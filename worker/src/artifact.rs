//! Artifacts: immutable packaged models in a store, and how they come to this instance's disk.
//!
//! In the order of a fetch: a source ([`s3`], [`dir`], joined by [`sources`]) gives bytes,
//! [`unpack`] turns the hostile archive into a folder, [`disk_cache`] keeps the folder, and
//! [`ingest`] is the story that joins them.

pub mod sources;
pub mod s3;
pub mod dir;
pub mod unpack;
pub mod disk_cache;
pub mod ingest;
#[cfg(test)]
mod contract;

use shared::{address::ArtifactAddress, api::error::ErrorKind};
use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};
use tokio::io::AsyncRead;

/// Gives artifacts. Implemented by a store (S3) and by local folders.
#[async_trait::async_trait]
pub trait ArtifactSource: fmt::Debug + Send + Sync + 'static {
    /// Returns what an address stands for now, without its bytes.
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError>;

    /// Opens exactly this version of a packed artifact for one pass over its bytes.
    ///
    /// The reader gives all `version.size_bytes` bytes or an error: never an early end. An error
    /// that carries a [`FetchError`] says which; any other means [`FetchError::Unavailable`].
    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError>;
}

/// The bytes of an artifact, packed as they lie in the store.
pub type ArtifactBytes = Box<dyn AsyncRead + Send + Unpin>;

/// What an address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// An object to fetch and unpack.
    Packed(ArtifactVersion),
    /// A folder on this machine that somebody unpacked already. It is used where it lies.
    Folder { path: PathBuf, version: ArtifactVersion },
}

impl Located {
    pub fn into_version(self) -> ArtifactVersion {
        match self {
            Self::Packed(version) | Self::Folder { version, .. } => version,
        }
    }
}

/// What an invocation wants of a model whose object was deleted: its variant says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeleted {
    #[default]
    Refuse,
    ServeStale,
}

/// What a fetch may give if the current version does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    Nothing,
    /// The last version that came, unless its object was deleted.
    Last,
    /// The last version that came, even then.
    Orphan,
}

/// How a version that is here relates to what its address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The store said so.
    Current,
    /// The last one that came: the store does not give what it has now.
    Last,
    /// The store has none any more.
    Orphan,
}

/// Which bytes an address stood for when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactVersion {
    /// Opaque; differs when the bytes differ.
    pub etag: String,
    /// Packed size; of a folder, the size of its files.
    pub size_bytes: u64,
}

/// Why an artifact did not come. `Clone`, because many wait for one fetch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    #[error("artifact `{0}` does not exist")]
    NotFound(ArtifactAddress),
    /// By a rule of this instance.
    #[error("artifact `{0}` may not be read here: {1}")]
    Forbidden(ArtifactAddress, &'static str),
    /// By the store, which may only have lost our credentials.
    #[error("store denies artifact `{0}`")]
    Denied(ArtifactAddress),
    #[error("store did not give artifact `{0}`")]
    Unavailable(ArtifactAddress, #[source] Arc<dyn Error + Send + Sync>),
    #[error("artifact `{0}` changed while it was read")]
    Changed(ArtifactAddress),
    /// With the version whose bytes are at fault, if it is known.
    #[error("artifact `{0}` is refused: {1}")]
    Refused(ArtifactAddress, String, Option<Box<ArtifactVersion>>),
    #[error("artifact `{0}` cannot be kept on this instance's disk: {1}")]
    NoSpace(ArtifactAddress, String),
    #[error("too many fetches wait already for artifact `{0}` to join them")]
    Overloaded(ArtifactAddress),
    #[error("fetch of artifact `{0}` broke off: {1}")]
    Interrupted(ArtifactAddress, &'static str),
}

impl FetchError {
    /// The failure of the store that `error` tells of.
    pub fn unavailable(
        address: &ArtifactAddress,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable(address.clone(), Arc::from(error.into()))
    }

    /// The failure that a reader of [`ArtifactSource::open`] reported.
    pub fn from_reader(address: &ArtifactAddress, error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        inner.cloned().unwrap_or_else(|| Self::unavailable(address, error))
    }

    /// What a version on disk is worth after this failure; `None` if it must not be served.
    pub fn standing(&self, otherwise: Otherwise) -> Option<Standing> {
        if otherwise == Otherwise::Nothing {
            return None;
        }
        match self {
            Self::NotFound(_) => (otherwise == Otherwise::Orphan).then_some(Standing::Orphan),
            // What this instance may not read now it may not serve either.
            Self::Forbidden(..) => None,
            Self::Denied(_)
            | Self::Unavailable(..)
            | Self::Changed(_)
            | Self::Refused(..)
            | Self::NoSpace(..)
            | Self::Overloaded(_)
            | Self::Interrupted(..) => Some(Standing::Last),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::ArtifactNotFound,
            Self::Forbidden(..) | Self::Denied(_) => ErrorKind::Forbidden,
            Self::Unavailable(..) | Self::Changed(_) | Self::Interrupted(..) => {
                ErrorKind::StoreUnavailable
            }
            Self::Refused(..) => ErrorKind::BadArtifact,
            Self::NoSpace(..) => ErrorKind::InsufficientMemory,
            Self::Overloaded(_) => ErrorKind::Overloaded,
        }
    }
}
