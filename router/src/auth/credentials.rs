//! Reads the credentials that are configured: a file, and a key of the environment.
//!
//! What goes wrong is told without the words of the file: any of them may be a secret.

use super::{
    keyring::{Key, Keyring, Twice},
    pattern::Pattern,
    secret::Secret,
};
use serde::Deserialize;
use shared::private_file::{self, PrivateFileError};
use std::path::{Path, PathBuf};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A file of a thousand keys has 300 KB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where keys come from. Read again whenever the file changes.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub file: Option<PathBuf>,
    /// A key that may do everything.
    pub own: Option<(String, Secret)>,
    /// The account of the callers' ARNs.
    pub account_id: String,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("credentials in {path} are not valid: line {line}: {problem}")]
    Invalid { path: PathBuf, line: usize, problem: String },
    #[error("credential {0} of the file {problem}", problem = _1)]
    Entry(usize, &'static str),
    #[error(transparent)]
    Twice(#[from] Twice),
    #[error("there is no credential in {0}")]
    None(PathBuf),
}

/// The file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default, rename = "credential")]
    credentials: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    expires: Option<toml::Value>,
    user: Option<String>,
    actions: Option<Vec<Pattern>>,
    target_models: Option<Vec<Pattern>>,
}

impl Credentials {
    /// Reads every key. Small, so it may block.
    pub fn read(&self) -> Result<Keyring, CredentialsError> {
        let mut keys = Vec::new();
        if let Some((access_key_id, secret)) = &self.own {
            let arn = self.arn(access_key_id, None);
            keys.push(Key::new(access_key_id.clone(), secret.clone(), arn));
        }
        if let Some(path) = &self.file {
            let entries = parse(&private_file::read(path, MAX_FILE_BYTES)?, path)?;
            if entries.is_empty() {
                return Err(CredentialsError::None(path.clone()));
            }
            for (at, entry) in entries.into_iter().enumerate() {
                let key = self.key(entry);
                keys.push(key.map_err(|problem| CredentialsError::Entry(at + 1, problem))?);
            }
        }
        Ok(Keyring::new(keys)?)
    }

    fn key(&self, entry: Entry) -> Result<Key, &'static str> {
        let Entry { access_key_id, secret_access_key, session_token, expires, user, .. } = entry;
        if access_key_id.is_empty() || secret_access_key.is_empty() {
            return Err("has an empty access_key_id or secret_access_key");
        }
        if session_token.as_ref().is_some_and(Secret::is_empty) {
            return Err("has an empty session_token");
        }
        let arn = self.arn(&access_key_id, user.as_deref());
        let any = || vec![Pattern::any()];
        let mut key = Key::new(access_key_id, secret_access_key, arn);
        key.session_token = session_token;
        key.expires = expires.map(|it| moment(&it)).transpose()?;
        key.actions = entry.actions.unwrap_or_else(any);
        key.target_models = entry.target_models.unwrap_or_else(any);
        Ok(key)
    }

    /// Without a user's name, a session of a role: SDKs look for a role to run models with.
    fn arn(&self, access_key_id: &str, user: Option<&str>) -> String {
        let account_id = &self.account_id;
        match user {
            Some(user) => format!("arn:aws:iam::{account_id}:user/{user}"),
            None => format!("arn:aws:sts::{account_id}:assumed-role/manifold/{access_key_id}"),
        }
    }
}

fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, CredentialsError> {
    let entries = toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|it| *it == b'\n').count();
        let path = path.to_owned();
        CredentialsError::Invalid { path, line, problem: presentable(error.message()) }
    });
    entries.map(|Entries { credentials }| credentials)
}

/// What is wrong, if it names fields alone; other messages quote values.
fn presentable(message: &str) -> String {
    let names_fields =
        ["unknown field", "missing field", "duplicate"].iter().any(|it| message.starts_with(it));
    if names_fields {
        message.lines().next().unwrap_or_default().to_owned()
    } else {
        "not TOML, or a value of another type than it must be".to_owned()
    }
}

/// Reads a date of TOML, or the same as text.
fn moment(value: &toml::Value) -> Result<OffsetDateTime, &'static str> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(date) => date.to_string(),
        _ => String::new(),
    };
    OffsetDateTime::parse(&text, &Rfc3339)
        .map_err(|_| "has an expires that is no RFC 3339 date, such as 2026-11-23T04:05:06Z")
}

#[cfg(test)]
mod tests;
