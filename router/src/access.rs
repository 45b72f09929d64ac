//! Who comes in and what proves us to them, as it is configured now: the gate and the certificate,
//! read again whenever their files change.

use crate::{
    auth::{
        Gate,
        credentials::{Credentials, CredentialsError},
    },
    config::{Config, InvalidConfig},
    http::Face,
    tls::{Certificate, CertificateFiles, TlsError},
};
use shared::{
    reload::{Watch, follow},
    token::{ClusterToken, TokenFile},
};
use std::convert::Infallible;
use tracing::{info, warn};

/// The gate, and the certificate of the public listener.
#[derive(Debug)]
pub struct Access {
    pub gate: Gate,
    /// `None`: plain HTTP.
    pub certificate: Option<Certificate>,
    /// What the public listener serves.
    pub face: Face,
    /// `None`: this router knows its cluster by nothing.
    pub token: Option<ClusterToken>,
    token_file: Option<TokenFile>,
    credentials: Option<Credentials>,
    certificate_files: Option<CertificateFiles>,
    credentials_watch: Watch,
    certificate_watch: Watch,
}

impl Access {
    /// Reads credentials and certificate. Before anything is served, so it may block.
    pub fn read(config: &Config) -> Result<Self, InvalidConfig> {
        let credentials = config.access.credentials(&config.identity.account_id);
        let certificate_files = config.access.certificate();
        // Made before the files are read, so that no change is missed.
        let credentials_watch = Watch::new(credentials.iter().filter_map(|it| it.file.as_ref()));
        let certificate_watch =
            Watch::new(certificate_files.iter().flat_map(|it| [&it.chain, &it.key]));
        let gate = match &credentials {
            Some(credentials) => Gate::with(credentials.read()?),
            None => Gate::open(),
        };
        let certificate = certificate_files.as_ref().map(CertificateFiles::read).transpose()?;
        let token_file = config.access.token_file()?;
        let token = token_file.as_ref().map(TokenFile::token);
        let face = match (config.access.internal_listen, gate.is_open()) {
            (Some(_), _) => Face::Public,
            (None, false) => Face::Guarded,
            (None, true) => Face::Open,
        };
        let certificate = certificate.map(Certificate::new);
        Ok(Self {
            gate,
            certificate,
            face,
            token,
            token_file,
            credentials,
            certificate_files,
            credentials_watch,
            certificate_watch,
        })
    }

    /// Says in the log who may come in.
    pub fn announce(&self, config: &Config) {
        let Self { gate, certificate, face, token, .. } = self;
        let is_loopback = config.listen.ip().is_loopback();
        match (gate.is_open(), is_loopback) {
            (true, true) => info!("no credentials: everybody on this machine may invoke"),
            (true, false) => warn!("no credentials: everybody who reaches the port may invoke"),
            (false, true) => info!("only signed requests are served"),
            (false, false) if certificate.is_some() => info!("only signed requests are served"),
            (false, false) => info!("only signed requests are served, and without TLS"),
        }
        match token {
            Some(_) => info!("workers and launchers are known by the cluster's token"),
            None if *face == Face::Guarded => {
                info!("workers of other machines need --cluster-token-file or --internal-listen");
            }
            None => {}
        }
    }

    /// Follows the files. Never ends.
    pub async fn keep_current(self) -> Infallible {
        let Self { gate, certificate, credentials, certificate_files, .. } = self;
        let keys = follow("credentials", self.credentials_watch, || {
            if let Some(credentials) = &credentials {
                gate.replace(credentials.read()?);
            }
            Ok::<_, CredentialsError>(())
        });
        let pair = follow("certificate", self.certificate_watch, || {
            if let (Some(certificate), Some(files)) = (&certificate, &certificate_files) {
                certificate.replace(files.read()?);
            }
            Ok::<_, TlsError>(())
        });
        let tokens = TokenFile::keep_current(self.token_file);
        let (never, ..) = tokio::join!(keys, pair, tokens);
        never
    }
}

#[cfg(test)]
mod tests;
