//! The errors of a worker: one kind in a header, one body, one status.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a worker did not answer an invocation or a call of the container contract.
///
/// Travels in the header [`ERROR_KIND`](super::invocation::ERROR_KIND).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The call itself is malformed.
    BadRequest,
    /// The caller does not show the cluster's token.
    Untrusted,
    /// The caller may not ask for this address.
    Forbidden,
    /// No such model is resident (container contract).
    ModelNotFound,
    /// A model of that name is resident already (container contract).
    AlreadyLoaded,
    /// The store says definitely that there is no such object.
    ArtifactNotFound,
    /// The artifact is hostile, broken or not a model: a load can never succeed.
    BadArtifact,
    /// The store did not give the artifact, which may change.
    StoreUnavailable,
    /// No room, and nothing can go now.
    InsufficientMemory,
    /// The deadline passed while the model was loading; the load goes on.
    StillLoading,
    /// The model's queue is full.
    Overloaded,
    /// The instance is stopping.
    Draining,
    /// The input does not fit the model.
    BadInput,
    /// The input's content type is not served.
    UnsupportedMediaType,
    /// No acceptable answer type can be made.
    NotAcceptable,
    /// The model failed while it ran.
    ModelFailed,
    /// The deadline passed while the model ran.
    TimedOut,
}

/// The body of every error of a worker, in the shape of Multi Model Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub code: u16,
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::Untrusted,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::AlreadyLoaded,
        Self::ArtifactNotFound,
        Self::BadArtifact,
        Self::StoreUnavailable,
        Self::InsufficientMemory,
        Self::StillLoading,
        Self::Overloaded,
        Self::Draining,
        Self::BadInput,
        Self::UnsupportedMediaType,
        Self::NotAcceptable,
        Self::ModelFailed,
        Self::TimedOut,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Untrusted => "untrusted",
            Self::Forbidden => "forbidden",
            Self::ModelNotFound => "model-not-found",
            Self::AlreadyLoaded => "already-loaded",
            Self::ArtifactNotFound => "artifact-not-found",
            Self::BadArtifact => "bad-artifact",
            Self::StoreUnavailable => "store-unavailable",
            Self::InsufficientMemory => "insufficient-memory",
            Self::StillLoading => "still-loading",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::BadInput => "bad-input",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::NotAcceptable => "not-acceptable",
            Self::ModelFailed => "model-failed",
            Self::TimedOut => "timed-out",
        }
    }

    /// The worker's HTTP status. 404, 409 and 507 are those on which SageMaker acts.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadArtifact | Self::BadInput => 400,
            Self::Untrusted => 401,
            Self::Forbidden => 403,
            Self::ModelNotFound | Self::ArtifactNotFound => 404,
            Self::NotAcceptable => 406,
            Self::AlreadyLoaded => 409,
            Self::UnsupportedMediaType => 415,
            Self::ModelFailed => 500,
            Self::StoreUnavailable | Self::StillLoading | Self::Overloaded | Self::Draining => 503,
            Self::TimedOut => 504,
            Self::InsufficientMemory => 507,
        }
    }

    /// Whether another instance may answer: the invocation surely did not begin here, and what
    /// stopped it is this instance's own state.
    pub fn is_worth_another_instance(self) -> bool {
        match self {
            Self::Untrusted
            | Self::StoreUnavailable
            | Self::InsufficientMemory
            | Self::Overloaded
            | Self::Draining => true,
            Self::BadRequest
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::AlreadyLoaded
            | Self::ArtifactNotFound
            | Self::BadArtifact
            | Self::StillLoading
            | Self::BadInput
            | Self::UnsupportedMediaType
            | Self::NotAcceptable
            | Self::ModelFailed
            | Self::TimedOut => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown error kind `{0}`")]
pub struct UnknownErrorKind(String);

impl FromStr for ErrorKind {
    type Err = UnknownErrorKind;

    fn from_str(text: &str) -> Result<Self, UnknownErrorKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownErrorKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("no-such-kind".parse::<ErrorKind>().is_err());
    }
}
