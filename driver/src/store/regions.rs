//! The region of each bucket: a small file beside the buckets, as s3s-fs keeps its own.
//!
//! All regions are this folder, but clients compare: SDKs follow `x-amz-bucket-region`, and outside
//! of us-east-1 nobody creates a bucket twice.

use s3s::{S3Error, S3Result, s3_error};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where a bucket is that was created without a location constraint.
pub(super) const DEFAULT: &str = "us-east-1";

/// Longer than any region's name.
const MAX_CHARS: usize = 64;

/// Returns the region that a location constraint means.
pub(super) fn of_constraint(constraint: Option<&str>) -> S3Result<&str> {
    match constraint {
        None | Some("") => Ok(DEFAULT),
        // Its name from before there was a second one in Europe.
        Some("EU") => Ok("eu-west-1"),
        Some(region) if is_valid(region) => Ok(region),
        Some(_) => Err(s3_error!(InvalidLocationConstraint)),
    }
}

/// It becomes a header.
fn is_valid(region: &str) -> bool {
    region.len() <= MAX_CHARS
        && !region.is_empty()
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn remember(root: &Path, bucket: &str, region: &str) -> S3Result<()> {
    fs::write(file(root, bucket), region).map_err(S3Error::internal_error)
}

pub(super) fn forget(root: &Path, bucket: &str) {
    // What is left of it is written anew before there is such a bucket again.
    let _ = fs::remove_file(file(root, bucket));
}

/// Returns the region of a bucket. One that is older than this file's kind is in the default one.
pub(super) fn of_bucket(root: &Path, bucket: &str) -> S3Result<String> {
    match fs::read_to_string(file(root, bucket)) {
        Ok(region) if is_valid(&region) => Ok(region),
        Ok(_) => Ok(DEFAULT.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DEFAULT.to_owned()),
        Err(error) => Err(S3Error::internal_error(error)),
    }
}

/// No bucket's name begins with a dot.
fn file(root: &Path, bucket: &str) -> PathBuf {
    root.join(format!(".region-{bucket}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_region_will_do_that_a_header_can_hold() {
        assert_eq!(of_constraint(None).unwrap(), "us-east-1");
        assert_eq!(of_constraint(Some("EU")).unwrap(), "eu-west-1");
        assert_eq!(of_constraint(Some("mars-1")).unwrap(), "mars-1");
        assert!(of_constraint(Some("a\r\nb: c")).is_err());
        assert!(of_constraint(Some(&"x".repeat(65))).is_err());
    }

    #[test]
    fn a_bucket_keeps_its_region_until_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(of_bucket(root.path(), "bucket").unwrap(), "us-east-1");
        remember(root.path(), "bucket", "eu-west-1").unwrap();
        assert_eq!(of_bucket(root.path(), "bucket").unwrap(), "eu-west-1");
        forget(root.path(), "bucket");
        assert_eq!(of_bucket(root.path(), "bucket").unwrap(), "us-east-1");
    }
}
