//! The flags that say what requests are signed with.

use crate::signing::Key;
use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use std::{fs, path::PathBuf};

/// Whose key it is: of a file, or told.
#[derive(Clone, Debug, Args)]
pub struct SigningFlags {
    /// File with keys of the router (TOML): requests are signed with its first one.
    #[arg(long, env = "ROUTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// A key that requests are signed with.
    #[arg(long, env = "ROUTER_ACCESS_KEY_ID", requires = "secret_access_key")]
    pub access_key_id: Option<String>,

    /// The secret of that key.
    #[arg(long, env = "ROUTER_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub secret_access_key: Option<String>,
}

impl SigningFlags {
    /// Returns what requests are signed with, if they are.
    pub fn key(&self) -> anyhow::Result<Option<Key>> {
        if let Some((id, secret)) = self.access_key_id.clone().zip(self.secret_access_key.clone()) {
            return Ok(Some(Key::new(id, secret)));
        }
        let Some(path) = &self.credentials else { return Ok(None) };
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("could not read {}", path.display()))?;
        first_key(&text).with_context(|| format!("could not use {}", path.display())).map(Some)
    }
}

/// What we need of the router's file of credentials.
#[derive(Deserialize)]
struct Credentials {
    credential: Vec<Credential>,
}

#[derive(Deserialize)]
struct Credential {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

fn first_key(text: &str) -> anyhow::Result<Key> {
    let Credentials { credential } = toml::from_str(text)?;
    let mut credentials = credential.into_iter();
    let lasting = credentials.find(|it| it.session_token.is_none());
    let lasting = lasting.context("it has no credential without a session token")?;
    Ok(Key::new(lasting.access_key_id, lasting.secret_access_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_the_first_that_lasts() {
        let file = "[[credential]]\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n\
                    session_token = \"t\"\n[[credential]]\naccess_key_id = \"B\"\n\
                    secret_access_key = \"s\"\nuser = \"u\"\n";
        assert!(format!("{:?}", first_key(file).unwrap()).contains("\"B\""));
        assert!(first_key("credential = []").is_err());
        assert!(first_key("x").is_err());
    }
}
