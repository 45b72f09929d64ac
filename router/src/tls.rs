//! TLS of the public listener: rustls with ring, the certificate from files.
//!
//! A certificate is read again whenever its files change; connections that are open keep theirs.

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{path::PathBuf, sync::Arc};

/// Certificates of a chain; four are usual at most.
const MAX_CHAIN: usize = 16;

/// Where a certificate comes from.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// PEM: the chain, the router's own certificate first.
    pub chain: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read certificates from {0}")]
    Chain(PathBuf, #[source] pem::Error),
    #[error("{0} must have 1 to {MAX_CHAIN} certificates")]
    Length(PathBuf),
    #[error("cannot read a private key from {0}")]
    Key(PathBuf, #[source] pem::Error),
    #[error("certificate and private key cannot be used together")]
    Pair(#[source] rustls::Error),
    #[error("TLS cannot be set up")]
    Config(#[source] rustls::Error),
}

/// The certificate that new connections see. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Current>);

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl CertificateFiles {
    /// Reads the certificate and checks that the key is its own. Small, so it may block.
    pub fn read(&self) -> Result<CertifiedKey, TlsError> {
        let Self { chain: chain_path, key: key_path } = self;
        let broken = |error| TlsError::Chain(chain_path.clone(), error);
        let chain = CertificateDer::pem_file_iter(chain_path).map_err(broken)?;
        let chain = chain.take(MAX_CHAIN + 1).collect::<Result<Vec<_>, _>>().map_err(broken)?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(TlsError::Length(chain_path.clone()));
        }
        let key = PrivateKeyDer::from_pem_file(key_path)
            .map_err(|error| TlsError::Key(key_path.clone(), error))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Pair)
    }
}

impl Certificate {
    pub fn new(pair: CertifiedKey) -> Self {
        Self(Arc::new(Current(ArcSwap::from_pointee(pair))))
    }

    /// Replaces what new connections see.
    pub fn replace(&self, pair: CertifiedKey) {
        self.0.0.store(Arc::new(pair));
    }

    /// Returns what a listener needs.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?;
        let resolver = Arc::clone(&self.0);
        Ok(builder.with_no_client_auth().with_cert_resolver(resolver))
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

#[cfg(test)]
mod tests;
