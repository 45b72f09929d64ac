//! Where an artifact lies: `s3://bucket/key` or `file:///path`.

mod sagemaker;

use crate::id::TargetModel;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};

/// The address of one artifact. The key of every cache, together with the artifact's version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArtifactAddress {
    S3 {
        bucket: String,
        key: String,
    },
    /// An absolute path. The worker decides whether it may be read.
    File {
        path: PathBuf,
    },
}

/// A variant's `ModelDataUrl`: what a target model is appended to, by plain concatenation
/// (SageMaker API reference, `ContainerDefinition`; a missing trailing slash changes the key).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelDataUrl(String);

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    #[error("`{0}` is neither `s3://bucket/key` nor `file:///path`")]
    UnknownScheme(String),
    #[error("`{0}` names no valid bucket: 3 to 63 lower-case letters, digits, dots and hyphens")]
    Bucket(String),
    #[error("`{0}` names no object")]
    NoKey(String),
    #[error("`{0}` must hold an absolute path without `..`")]
    Path(String),
    #[error("`{0}` is at no host of S3")]
    Host(String),
    #[error("`{0}` is not percent-encoded UTF-8 without control characters, query and fragment")]
    Encoding(String),
}

impl ModelDataUrl {
    /// Returns the address of a target model: `ModelDataUrl + TargetModel`.
    pub fn join(&self, target_model: &TargetModel) -> Result<ArtifactAddress, InvalidAddress> {
        // Every invocation passes here: not by `format!`, which grows its string as it goes.
        [&self.0, target_model.as_str()].concat().parse()
    }
}

impl TryFrom<String> for ModelDataUrl {
    type Error = InvalidAddress;

    fn try_from(url: String) -> Result<Self, InvalidAddress> {
        // Any key will do to learn whether what precedes it is valid.
        format!("{url}x").parse::<ArtifactAddress>()?;
        Ok(Self(url))
    }
}

impl From<ModelDataUrl> for String {
    fn from(url: ModelDataUrl) -> Self {
        url.0
    }
}

impl ArtifactAddress {
    /// What it displays as. For hot paths: in one piece, and not through a formatter.
    pub fn to_text(&self) -> String {
        match self {
            Self::S3 { bucket, key } => ["s3://", bucket, "/", key].concat(),
            Self::File { .. } => self.to_string(),
        }
    }
}

impl FromStr for ArtifactAddress {
    type Err = InvalidAddress;

    fn from_str(address: &str) -> Result<Self, InvalidAddress> {
        if let Some(rest) = address.strip_prefix("s3://") {
            let (bucket, key) =
                rest.split_once('/').ok_or_else(|| InvalidAddress::NoKey(address.to_owned()))?;
            if !is_bucket(bucket) {
                return Err(InvalidAddress::Bucket(address.to_owned()));
            }
            if key.is_empty() {
                return Err(InvalidAddress::NoKey(address.to_owned()));
            }
            return Ok(Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() });
        }
        if let Some(path) = address.strip_prefix("file://") {
            let climbs = path.split('/').any(|part| part == "..");
            if !path.starts_with('/') || climbs || path.contains('\0') {
                return Err(InvalidAddress::Path(address.to_owned()));
            }
            return Ok(Self::File { path: PathBuf::from(path) });
        }
        Err(InvalidAddress::UnknownScheme(address.to_owned()))
    }
}

impl TryFrom<String> for ArtifactAddress {
    type Error = InvalidAddress;

    fn try_from(address: String) -> Result<Self, InvalidAddress> {
        address.parse()
    }
}

impl From<ArtifactAddress> for String {
    fn from(address: ArtifactAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ArtifactAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::File { path } => write!(f, "file://{}", path.display()),
        }
    }
}

/// S3's general-purpose bucket names (S3 user guide, "Bucket naming rules"), as far as they keep a
/// bucket from being taken for something else.
fn is_bucket(bucket: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(legal)
        && bucket.starts_with(|first: char| first.is_ascii_alphanumeric())
        && bucket.ends_with(|last: char| last.is_ascii_alphanumeric())
        && !bucket.as_bytes().windows(2).any(|pair| pair == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_is_plain_concatenation() {
        let join = |url: &str, model: &str| {
            let url = ModelDataUrl::try_from(url.to_owned()).unwrap();
            url.join(&model.parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(join("s3://bucket/models/", "a/b.tar.gz"), "s3://bucket/models/a/b.tar.gz");
        assert_eq!(join("s3://bucket/models", "b.tar.gz"), "s3://bucket/modelsb.tar.gz");
        assert_eq!(join("s3://bucket/", "b"), "s3://bucket/b");
        assert_eq!(join("file:///srv/models/", "b.pt"), "file:///srv/models/b.pt");
    }

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in ["s3://my-bucket/a/b c/ü.tar.gz", "file:///srv/m.pt"] {
            let address = text.parse::<ArtifactAddress>().unwrap();
            assert_eq!((address.to_string(), address.to_text()), (text.into(), text.into()));
        }
    }

    #[test]
    fn addresses_that_mean_something_else_are_refused() {
        for text in [
            "http://host/x",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3://Bucket/x",
            "s3://a/x",
            "s3://a..b/x",
            "s3:///x",
            "file://x",
            "file:///a/../b",
            "",
            "/etc/passwd",
        ] {
            assert!(text.parse::<ArtifactAddress>().is_err(), "{text}");
        }
    }
}
