//! Who we are to etcd, and whom we trust to be it: files, read whenever a connection is made.

use super::address::ClusterAddress;
use crate::private_file::{self, PrivateFileError};
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Far more than any password, key or chain of certificates.
const MAX_FILE_BYTES: usize = 1 << 20;

/// What it takes to be let in. Holds names of files, no secrets.
#[derive(Clone, Debug)]
pub struct Access {
    pub address: ClusterAddress,
    /// PEM: whose signature etcd's certificate must bear.
    pub ca: Option<PathBuf>,
    /// PEM: our own certificate and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// Why there is no way in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot read {}", _0.display())]
    File(PathBuf, #[source] Arc<io::Error>),
    /// Of a file that holds a secret.
    #[error(transparent)]
    Private(Arc<PrivateFileError>),
    #[error("etcds:// needs --cluster-ca: whose signature etcd's certificate bears")]
    NoCa,
    #[error("--cluster-ca, --cluster-cert and --cluster-key are for etcds:// alone")]
    NotTls,
    #[error("--cluster-cert and --cluster-key need each other")]
    HalfACertificate,
    #[error("--cluster-user and --cluster-password-file need each other")]
    HalfAUser,
}

impl Access {
    /// Without user and certificate.
    pub fn open(address: ClusterAddress) -> Self {
        Self { address, ca: None, certificate: None, key: None, user: None, password_file: None }
    }

    /// Checks how the parts relate.
    pub fn validate(&self) -> Result<(), AccessError> {
        let Self { address, ca, certificate, key, user, password_file } = self;
        if address.is_tls && ca.is_none() {
            return Err(AccessError::NoCa);
        }
        if !address.is_tls && (ca.is_some() || certificate.is_some() || key.is_some()) {
            return Err(AccessError::NotTls);
        }
        if certificate.is_some() != key.is_some() {
            return Err(AccessError::HalfACertificate);
        }
        if user.is_some() != password_file.is_some() {
            return Err(AccessError::HalfAUser);
        }
        Ok(())
    }

    /// Reads the files.
    pub(super) async fn read(&self) -> Result<ConnectOptions, AccessError> {
        let mut options = ConnectOptions::new();
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            let password = read_private(file)?;
            // An editor ends a file with a line feed; a password has none.
            options = options.with_user(user, password.trim_end_matches(['\r', '\n']));
        }
        if let (true, Some(ca)) = (self.address.is_tls, &self.ca) {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca).await?));
            if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
                tls =
                    tls.identity(Identity::from_pem(read(certificate).await?, read_private(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    let failed = |error| AccessError::File(path.to_owned(), Arc::new(error));
    let bytes = tokio::fs::read(path).await.map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("it is larger than a mebibyte")));
    }
    Ok(bytes)
}

/// Reads a file with a secret, unless others can read or change it.
fn read_private(path: &Path) -> Result<String, AccessError> {
    let read = private_file::read(path, MAX_FILE_BYTES as u64);
    read.map_err(|error| AccessError::Private(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn what_belongs_together_must_come_together() {
        let open = |address: &str| Access::open(address.parse().unwrap());
        let file = || Some(PathBuf::from("file"));
        assert!(open("etcd://a").validate().is_ok());
        assert!(matches!(open("etcds://a").validate(), Err(AccessError::NoCa)));
        let tls = Access { ca: file(), ..open("etcds://a") };
        assert!(tls.validate().is_ok());
        let half = Access { certificate: file(), ..tls.clone() };
        assert!(matches!(half.validate(), Err(AccessError::HalfACertificate)));
        assert!(Access { key: file(), ..half }.validate().is_ok());
        let plain = Access { ca: file(), ..open("etcd://a") };
        assert!(matches!(plain.validate(), Err(AccessError::NotTls)));
        let user = Access { user: Some("u".to_owned()), ..open("etcd://a") };
        assert!(matches!(user.validate(), Err(AccessError::HalfAUser)));
        assert!(Access { password_file: file(), ..user }.validate().is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let access = Access {
            user: Some("u".to_owned()),
            password_file: Some("/no/such/file".into()),
            ..Access::open("etcd://a".parse().unwrap())
        };
        let error = access.read().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/file");
    }

    #[tokio::test]
    async fn secrets_that_others_can_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [secret, open] = ["secret", "open"].map(|name| folder.path().join(name));
        for file in [&secret, &open] {
            fs::write(file, "hush").unwrap();
        }
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        let user = |file: &Path| Access {
            user: Some("u".to_owned()),
            password_file: Some(file.to_owned()),
            ..Access::open("etcd://a".parse().unwrap())
        };
        let tls = |key: &Path| Access {
            ca: Some(open.clone()),
            certificate: Some(open.clone()),
            key: Some(key.to_owned()),
            ..Access::open("etcds://a".parse().unwrap())
        };
        // What is no secret may be read by everybody.
        assert!(user(&secret).read().await.is_ok() && tls(&secret).read().await.is_ok());
        for access in [user(&open), tls(&open)] {
            let error = access.read().await.unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }
}
