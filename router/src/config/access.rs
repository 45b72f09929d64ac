//! The flags that decide who comes in, and how: credentials, TLS, the listener of the cluster's own.

use super::InvalidConfig;
use crate::{
    auth::{credentials::Credentials, secret::Secret},
    tls::CertificateFiles,
};
use shared::token::TokenFile;
use std::{net::SocketAddr, path::PathBuf};

/// Who may come in, and through which door.
#[derive(Clone, Debug, clap::Args)]
pub struct AccessConfig {
    /// File with the keys that requests must be signed with (TOML), readable by its owner alone.
    /// Read again when it changes.
    #[arg(long, env = "ROUTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// A key that may do everything, beside those of the file.
    #[arg(long, env = "ROUTER_ACCESS_KEY_ID")]
    pub access_key_id: Option<String>,

    /// Its secret. Better from the environment: flags can be read by everybody on the machine.
    #[arg(long, env = "ROUTER_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub secret_access_key: Option<Secret>,

    /// File with the cluster's token, readable by its owner alone: what is for workers and launchers
    /// is then for those who show it, and workers are shown it. One token a line, all of which are
    /// accepted and the first is sent. Read again when it changes.
    #[arg(long, env = "ROUTER_CLUSTER_TOKEN_FILE")]
    pub cluster_token_file: Option<PathBuf>,

    /// Address of plain HTTP for workers and launchers alone (`/manifold/v1`, `/ping`, `/metrics`);
    /// `--listen` then has only `/ping` of these. Without a cluster token, whoever reaches it may
    /// register instances.
    #[arg(long, env = "ROUTER_INTERNAL_LISTEN")]
    pub internal_listen: Option<SocketAddr>,

    /// Certificate chain (PEM): `--listen` then speaks TLS. Read again when it changes.
    #[arg(long, env = "ROUTER_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM).
    #[arg(long, env = "ROUTER_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
}

impl AccessConfig {
    pub(super) fn validate(&self) -> Result<(), InvalidConfig> {
        let Self { credentials: _, access_key_id, secret_access_key, .. } = self;
        let Self { internal_listen, tls_cert, tls_key, .. } = self;
        let is_empty = access_key_id.as_ref().is_some_and(String::is_empty)
            || secret_access_key.as_ref().is_some_and(Secret::is_empty);
        if is_empty || access_key_id.is_some() != secret_access_key.is_some() {
            let relation = "both there, and not empty";
            return Err(InvalidConfig::Relation(
                "--access-key-id and --secret-access-key",
                relation,
            ));
        }
        if tls_cert.is_some() != tls_key.is_some() {
            return Err(InvalidConfig::Relation("--tls-cert and --tls-key", "both there"));
        }
        if tls_cert.is_some() && internal_listen.is_none() {
            let relation = "there with --tls-cert: workers and launchers speak plain HTTP";
            return Err(InvalidConfig::Relation("--internal-listen", relation));
        }
        Ok(())
    }

    /// Checks that nothing is open to strangers that nobody has asked for.
    pub(super) fn check_reach(
        &self,
        listen: SocketAddr,
        allow_unauthenticated: bool,
    ) -> Result<(), InvalidConfig> {
        if allow_unauthenticated {
            return Ok(());
        }
        if !listen.ip().is_loopback() && !self.has_credentials() {
            return Err(InvalidConfig::Unauthenticated(listen));
        }
        match self.internal_listen {
            Some(internal) if !internal.ip().is_loopback() && self.cluster_token_file.is_none() => {
                Err(InvalidConfig::Untrusting(internal))
            }
            _ => Ok(()),
        }
    }

    /// Reads the cluster's token; `None`: there is none.
    pub fn token_file(&self) -> Result<Option<TokenFile>, InvalidConfig> {
        Ok(self.cluster_token_file.as_deref().map(TokenFile::read).transpose()?)
    }

    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some() || self.access_key_id.is_some()
    }

    /// Where credentials are to be read from; `None`: everybody may do everything.
    pub fn credentials(&self, account_id: &str) -> Option<Credentials> {
        let own = self.access_key_id.clone().zip(self.secret_access_key.clone());
        let file = self.credentials.clone();
        let account_id = account_id.to_owned();
        self.has_credentials().then_some(Credentials { file, own, account_id })
    }

    /// Where the certificate is to be read from; `None`: plain HTTP.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (chain, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(CertificateFiles { chain, key })
    }
}
