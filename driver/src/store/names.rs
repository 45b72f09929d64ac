//! Where an object lies on disk, and which keys the store cannot hold.
//!
//! s3s-fs keeps an object in a file named by its key and two small files beside the buckets, named
//! by bucket and key in base64. What a file name cannot express is refused here with S3's error,
//! before it becomes an internal error half way through an upload.

use s3s::{S3Result, s3_error};
use std::path::{Path, PathBuf};

/// The bound of every common file system.
const MAX_FILE_NAME_BYTES: usize = 255;

/// `.bucket-`, `.object-`, `.upload-` with a UUID, `.metadata.json`: the longest name around a key.
const METADATA_NAME_BYTES: usize = 8 + 8 + 44 + 14;

/// Returns the bucket's folder.
pub(super) fn bucket_path(root: &Path, bucket: &str) -> S3Result<PathBuf> {
    // s3s has checked the name by S3's rules, under which it is one ordinary file name. A leading
    // dot would name one of s3s-fs' own files.
    if bucket.is_empty() || bucket.starts_with('.') || bucket.contains('/') {
        return Err(s3_error!(InvalidBucketName));
    }
    Ok(root.join(bucket))
}

/// Returns the object's file, which is always below its bucket's folder.
pub(super) fn object_path(root: &Path, bucket: &str, key: &str) -> S3Result<PathBuf> {
    let bucket_path = bucket_path(root, bucket)?;
    // One slash at the end makes a folder, as S3's console does.
    let parts = key.strip_suffix('/').unwrap_or(key).split('/');
    for part in parts {
        if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
            return Err(s3_error!(
                InvalidArgument,
                "the local store keeps objects as files: a key cannot have empty, `.` or `..` parts"
            ));
        }
        if part.len() > MAX_FILE_NAME_BYTES {
            return Err(s3_error!(KeyTooLongError));
        }
    }
    Ok(bucket_path.join(key))
}

/// Checks that a new object's metadata can be stored too.
pub(super) fn check_new_key(bucket: &str, key: &str) -> S3Result<()> {
    let name_bytes = METADATA_NAME_BYTES + base64_len(bucket.len()) + base64_len(key.len());
    if name_bytes > MAX_FILE_NAME_BYTES {
        return Err(s3_error!(
            KeyTooLongError,
            "the local store keeps keys in file names: this one is too long by {} characters",
            (name_bytes - MAX_FILE_NAME_BYTES).div_ceil(4) * 3
        ));
    }
    Ok(())
}

/// The length of `n` bytes in base64 without padding.
fn base64_len(n: usize) -> usize {
    (n * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expected: Option<&str>) {
        let path = object_path(Path::new("/root"), "bucket", key).ok();
        assert_eq!(path.as_deref(), expected.map(Path::new), "{key}");
    }

    #[test]
    fn keys_become_files_below_their_bucket() {
        check("a.tar.gz", Some("/root/bucket/a.tar.gz"));
        check("models/ü b/..a", Some("/root/bucket/models/ü b/..a"));
        check("folder/", Some("/root/bucket/folder/"));
    }

    #[test]
    fn keys_that_would_leave_their_bucket_are_refused() {
        for key in ["..", "../x", "a/../../x", "a/..", "/etc/passwd", "a//b", "./a", "", "a\0b"] {
            check(key, None);
        }
        check(&"x".repeat(256), None);
    }

    #[test]
    fn keys_are_bounded_by_what_a_file_name_holds() {
        assert!(check_new_key("manifold-demo", &"x".repeat(100)).is_ok());
        assert!(check_new_key("manifold-demo", &"x".repeat(200)).is_err());
    }
}
