//! Artifacts in local folders: `file://`, only below configured roots.
//!
//! An address may name a packed artifact or a folder that is unpacked already, as SageMaker's
//! container contract hands over (`/opt/ml/models/{name}/model`).
//!
//! # Invariants
//!
//! - What is read lies below a root *after* all links are resolved, those of the root too.
//! - Outside of the roots nobody learns what exists, not even by a link that leads there.
//! - Nothing is opened that is neither file nor folder: a named pipe would be waited for.

use super::{ArtifactBytes, ArtifactSource, ArtifactVersion, FetchError, Located};
use shared::address::ArtifactAddress;
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use xxhash_rust::xxh3::Xxh3;

/// A folder with more entries is no model: listing it for its version would take too long.
const MAX_FOLDER_ENTRIES: usize = 50_000;

const LINK_OUTSIDE: &str = "a link in it leads outside or nowhere";
const ODD: &str = "something in it is neither file nor folder";
const OUTSIDE: &str = "it does not lie below a folder that this instance may read";

/// Local folders as a source of artifacts.
#[derive(Clone, Debug)]
pub struct DirSource {
    roots: Arc<[PathBuf]>,
    /// Of one folder, those in it included.
    max_entries: usize,
}

impl DirSource {
    /// A root need not exist yet. Without roots nothing may be read.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots: roots.into(), max_entries: MAX_FOLDER_ENTRIES }
    }

    /// Returns the real path of an artifact.
    fn resolve(&self, address: &ArtifactAddress) -> Result<PathBuf, FetchError> {
        let forbidden = || FetchError::Forbidden(address.clone(), OUTSIDE);
        let ArtifactAddress::File { path } = address else { return Err(forbidden()) };
        match path.canonicalize() {
            Ok(real) if self.is_below_a_root(&real) => Ok(real),
            // Only of what would lie below a root may be told that it does not exist.
            Err(error) if self.would_be_below_a_root(path) => Err(failed(address, error)),
            _ => Err(forbidden()),
        }
    }

    /// Whether a path that leads nowhere begins below a root.
    fn would_be_below_a_root(&self, path: &Path) -> bool {
        // What is there, also a link whose target is not: that one is no folder below a root.
        let mut above = path.ancestors().filter(|it| it.symlink_metadata().is_ok());
        let Some(Ok(nearest)) = above.next().map(Path::canonicalize) else { return false };
        let is_absent = |root: &Path| root.symlink_metadata().is_err();
        self.is_below_a_root(&nearest)
            || self.roots.iter().any(|root| path.starts_with(root) && is_absent(root))
    }

    fn is_below_a_root(&self, real: &Path) -> bool {
        let real_roots = self.roots.iter().filter_map(|root| root.canonicalize().ok());
        real_roots.into_iter().any(|root| real.starts_with(root))
    }

    fn locate_now(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        let path = self.resolve(address)?;
        let metadata = fs::metadata(&path).map_err(|error| failed(address, error))?;
        if metadata.is_dir() {
            let version = self.folder_version(address, &path)?;
            return Ok(Located::Folder { path, version });
        }
        if !metadata.is_file() {
            return Err(FetchError::Forbidden(address.clone(), "it is neither file nor folder"));
        }
        Ok(Located::Packed(file_version(&metadata)))
    }

    fn open_now(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<File, FetchError> {
        let Located::Packed(current) = self.locate_now(address)? else {
            return Err(FetchError::Changed(address.clone()));
        };
        let path = self.resolve(address)?;
        let file = File::open(path).map_err(|error| failed(address, error))?;
        let opened = file.metadata().map_err(|error| failed(address, error))?;
        if current != *version || file_version(&opened) != *version {
            return Err(FetchError::Changed(address.clone()));
        }
        Ok(file)
    }

    /// The version of a folder: a digest of the names, inodes, sizes and times of all files in it.
    fn folder_version(
        &self,
        address: &ArtifactAddress,
        folder: &Path,
    ) -> Result<ArtifactVersion, FetchError> {
        let mut listing = Vec::new();
        let mut folders = vec![folder.to_owned()];
        let mut n_entries = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| failed(address, error))? {
                n_entries += 1;
                if n_entries > self.max_entries {
                    let max_entries = self.max_entries;
                    let flaw = format!("it holds more than {max_entries} files and folders");
                    return Err(FetchError::Refused(address.clone(), flaw, None));
                }
                let path = entry.map_err(|error| failed(address, error))?.path();
                let metadata = self.entry_metadata(address, &path)?;
                // A linked folder is taken for a file: following it could go round for ever.
                if metadata.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    listing.push((path, file_version(&metadata)));
                }
            }
        }
        Ok(digest_of(listing))
    }

    /// Of what a link leads to, so that a link out of the roots is no way around them.
    fn entry_metadata(
        &self,
        address: &ArtifactAddress,
        path: &Path,
    ) -> Result<Metadata, FetchError> {
        let forbidden = |why| Err(FetchError::Forbidden(address.clone(), why));
        let real = match path.canonicalize() {
            Ok(real) if self.is_below_a_root(&real) => real,
            Err(error) if !path.is_symlink() => return Err(failed(address, error)),
            _ => return forbidden(LINK_OUTSIDE),
        };
        let metadata = fs::metadata(&real).map_err(|error| failed(address, error))?;
        if metadata.is_dir() || metadata.is_file() { Ok(metadata) } else { forbidden(ODD) }
    }
}

#[async_trait::async_trait]
impl ArtifactSource for DirSource {
    async fn locate(&self, address: &ArtifactAddress) -> Result<Located, FetchError> {
        let (source, address) = (self.clone(), address.clone());
        blocking(address.clone(), move || source.locate_now(&address)).await
    }

    async fn open(
        &self,
        address: &ArtifactAddress,
        version: &ArtifactVersion,
    ) -> Result<ArtifactBytes, FetchError> {
        let (source, version) = (self.clone(), version.clone());
        let to_open = address.clone();
        let file = blocking(address.clone(), move || source.open_now(&to_open, &version)).await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }
}

/// A file's version: a copy that replaces it has another inode, a rewrite another time or size.
fn file_version(metadata: &Metadata) -> ArtifactVersion {
    let (inode, seconds, nanos) = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
    ArtifactVersion { etag: format!("{inode:x}-{seconds:x}.{nanos:x}"), size_bytes: metadata.len() }
}

fn digest_of(mut listing: Vec<(PathBuf, ArtifactVersion)>) -> ArtifactVersion {
    listing.sort_by(|one, other| one.0.cmp(&other.0));
    let mut digest = Xxh3::new();
    let mut size_bytes = 0_u64;
    for (path, version) in listing {
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(format!("\0{}\0{}\0", version.etag, version.size_bytes).as_bytes());
        size_bytes = size_bytes.saturating_add(version.size_bytes);
    }
    ArtifactVersion { etag: format!("{:032x}", digest.digest128()), size_bytes }
}

fn failed(address: &ArtifactAddress, error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            FetchError::NotFound(address.clone())
        }
        io::ErrorKind::PermissionDenied => FetchError::Denied(address.clone()),
        _ => FetchError::unavailable(address, error),
    }
}

async fn blocking<T: Send + 'static>(
    address: ArtifactAddress,
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(FetchError::Interrupted(address, "reading its folder panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::contract;
    use std::os::unix::fs::symlink;

    fn address(path: &Path) -> ArtifactAddress {
        format!("file://{}", path.display()).parse().unwrap()
    }

    async fn text(source: &DirSource, path: &Path) -> String {
        source.locate(&address(path)).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_folder_keeps_the_contract_of_sources() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model.tar.gz");
        let source = DirSource::new(vec![root.path().to_owned()]);
        // As an upload does: a new file takes the old one's place.
        let put = async |bytes: &[u8]| {
            fs::write(root.path().join("new"), bytes).unwrap();
            fs::rename(root.path().join("new"), &path).unwrap();
        };
        contract::keeps_the_contract(&source, &address(&path), put).await;
    }

    #[tokio::test]
    async fn nothing_outside_of_the_roots_is_read_or_told() {
        let outer = tempfile::tempdir().unwrap();
        let (root, secret) = (outer.path().join("root"), outer.path().join("secret"));
        fs::create_dir(&root).unwrap();
        fs::write(&secret, "x").unwrap();
        symlink(&secret, root.join("link")).unwrap();
        symlink(outer.path(), root.join("folder")).unwrap();
        let source = DirSource::new(vec![root.clone()]);

        let absent = outer.path().join("absent");
        symlink(&absent, root.join("dangling")).unwrap();
        let linked = ["link", "folder/secret", "folder/absent", "folder/absent/x", "dangling"];
        let linked = linked.map(|name| root.join(name));
        for path in [&secret, &absent].into_iter().chain(&linked) {
            let expected = format!("artifact `{}` may not be read here: {OUTSIDE}", address(path));
            assert_eq!(text(&source, path).await, expected);
        }
        let absent = root.join("absent");
        let expected = format!("artifact `{}` does not exist", address(&absent));
        assert_eq!(text(&source, &absent).await, expected);
        assert!(text(&DirSource::new(vec![]), &secret).await.ends_with(OUTSIDE));
    }

    #[tokio::test]
    async fn a_link_below_a_linked_root_is_followed() {
        let outer = tempfile::tempdir().unwrap();
        let (real, root) = (outer.path().join("real"), outer.path().join("root"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join("v1.pt"), "x").unwrap();
        symlink("v1.pt", real.join("latest.pt")).unwrap();
        symlink(&real, &root).unwrap();
        let source = DirSource::new(vec![root.clone()]);

        let located = source.locate(&address(&root.join("latest.pt"))).await;
        assert!(matches!(located, Ok(Located::Packed(_))), "{located:?}");
    }

    #[tokio::test]
    async fn an_unpacked_folder_is_used_where_it_lies_and_has_a_version() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("H/model");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("sub/model.pt"), "weights").unwrap();
        let source = DirSource::new(vec![root.path().to_owned()]);
        let locate = async || match source.locate(&address(&folder)).await.unwrap() {
            Located::Folder { path, version } => (path, version),
            Located::Packed(_) => panic!("a folder is not packed"),
        };

        let (path, version) = locate().await;
        assert_eq!(path, folder.canonicalize().unwrap());
        assert_eq!(version.size_bytes, 7);
        assert_eq!(locate().await.1, version);
        fs::write(folder.join("sub/model.pt"), "other weights").unwrap();
        assert_ne!(locate().await.1, version);
    }

    #[tokio::test]
    async fn a_folder_with_a_link_that_leads_outside_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("model")).unwrap();
        fs::write(outer.path().join("secret"), "x").unwrap();
        let source = DirSource::new(vec![root.clone()]);
        for target in ["secret", "absent"] {
            let link = root.join("model/model.pt");
            symlink(outer.path().join(target), &link).unwrap();
            assert!(text(&source, &root.join("model")).await.ends_with(LINK_OUTSIDE), "{target}");
            fs::remove_file(link).unwrap();
        }
    }

    #[tokio::test]
    async fn a_folder_with_a_named_pipe_is_refused_and_does_not_hang() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("manifold.toml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let source = DirSource::new(vec![root.path().to_owned()]);
        assert!(text(&source, root.path()).await.ends_with(ODD));
        // Also behind a link.
        fs::create_dir(root.path().join("model")).unwrap();
        symlink(&pipe, root.path().join("model/model.pt")).unwrap();
        assert!(text(&source, &root.path().join("model")).await.ends_with(ODD));
    }

    #[tokio::test]
    async fn folders_count_as_entries_also_after_they_were_listed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("1/2/3")).unwrap();
        let roots = Arc::from([root.path().to_owned()]);
        let source = |max_entries| DirSource { roots: Arc::clone(&roots), max_entries };
        assert!(source(3).locate(&address(root.path())).await.is_ok());
        let why = text(&source(2), root.path()).await;
        assert!(why.ends_with("it holds more than 2 files and folders"), "{why}");
    }

    #[tokio::test]
    async fn what_is_neither_file_nor_folder_is_refused_and_does_not_hang() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let source = DirSource::new(vec![root.path().to_owned()]);
        assert!(text(&source, &socket).await.ends_with("it is neither file nor folder"));
    }
}
