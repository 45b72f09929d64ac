//! The token by which the processes of a cluster know each other.
//!
//! It lies in a file, one token a line: every one is accepted, and the first is what is sent. To
//! exchange it without a pause, add the new one below everywhere, then put it first everywhere, then
//! remove the old one.
//!
//! It crosses the network as it is: whoever reads the traffic has it, unless the network is encrypted.

use crate::{
    private_file::{self, PrivateFileError},
    reload::{Watch, follow},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use subtle::{Choice, ConstantTimeEq as _};
use tracing::warn;

/// The header that carries it. Beside it, `Authorization: Bearer TOKEN` is understood, because that
/// is what Prometheus and other tools can send.
pub const HEADER: &str = "x-manifold-cluster-token";

/// Nobody guesses 96 random bits over a network, which is what 16 characters of base64 hold.
const MIN_CHARS: usize = 16;

/// Longer ones only fill the heads of requests.
const MAX_CHARS: usize = 256;

/// An exchange needs two, an exchange in a hurry three.
const MAX_TOKENS: usize = 8;

const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Peers whose refusal is logged, until the token changes: more are an attack, not a mistake.
const MAX_LOGGED: usize = 256;

/// The token of this cluster, as its file is now. Cheap to clone. Its `Debug` does not show it, and it
/// has no `Display`.
#[derive(Clone)]
pub struct ClusterToken(Arc<Shared>);

struct Shared {
    tokens: ArcSwap<Tokens>,
    /// Who was refused: each is logged once.
    refused: Mutex<BTreeSet<Option<IpAddr>>>,
}

struct Tokens {
    sent: Bytes,
    accepted: Vec<Bytes>,
}

/// What a request says of who sent it.
#[derive(Clone, Copy, Default)]
pub struct Presented<'a> {
    /// The value of [`HEADER`].
    pub token: Option<&'a [u8]>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
}

/// Why a request is not believed to come from the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("this call is for the cluster alone, and carries no token ({HEADER})")]
    Missing,
    #[error("this call is for the cluster alone, and its token is not the cluster's")]
    Wrong,
}

/// Why a file of tokens cannot be used. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("there is no cluster token in {0}")]
    None(PathBuf),
    #[error("there are more than {MAX_TOKENS} cluster tokens in {0}")]
    TooMany(PathBuf),
    #[error(
        "line {1} of {0} is no cluster token: it takes {MIN_CHARS} to {MAX_CHARS} visible \
         characters of ASCII"
    )]
    Malformed(PathBuf, usize),
}

impl ClusterToken {
    /// Checks that a request comes from the cluster. Takes as long for every wrong token of one length.
    pub fn admit(&self, presented: Presented<'_>, peer: Option<IpAddr>) -> Result<(), Untrusted> {
        let checked = self.check(presented);
        if let Err(error) = checked {
            self.log_once(error, peer.map(|it| it.to_canonical()));
        }
        checked
    }

    fn check(&self, presented: Presented<'_>) -> Result<(), Untrusted> {
        let presented = presented.secret().ok_or(Untrusted::Missing)?;
        let tokens = self.0.tokens.load();
        // All are compared, so that the time does not tell which one it was like.
        let known = tokens.accepted.iter().map(|it| it.ct_eq(presented));
        let is_known = known.fold(Choice::from(0), |one, other| one | other);
        if is_known.into() { Ok(()) } else { Err(Untrusted::Wrong) }
    }

    fn log_once(&self, error: Untrusted, peer: Option<IpAddr>) {
        let mut refused = self.0.refused.lock();
        if refused.len() >= MAX_LOGGED || !refused.insert(peer) {
            return;
        }
        let is_last = refused.len() == MAX_LOGGED;
        drop(refused);
        let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        warn!(peer, %error, is_last, "refused; it is logged once for each peer");
    }

    /// What goes into [`HEADER`] of our own requests. Mark the header as sensitive, and show it nowhere.
    pub fn expose(&self) -> Bytes {
        self.0.tokens.load().sent.clone()
    }

    fn read_again(&self, path: &Path) -> Result<(), TokenError> {
        self.0.tokens.store(Arc::new(read(path)?));
        // Who has still the old one shall be heard of.
        self.0.refused.lock().clear();
        Ok(())
    }
}

impl<'a> Presented<'a> {
    fn secret(self) -> Option<&'a [u8]> {
        let bearer = |it: &'a [u8]| {
            let (scheme, secret) = it.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then(|| secret.trim_ascii())
        };
        self.token.or_else(|| self.authorization.and_then(bearer))
    }

    /// Why it is refused, if it is.
    pub fn fault(self) -> Untrusted {
        if self.secret().is_some() { Untrusted::Wrong } else { Untrusted::Missing }
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterToken(…)")
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(…)")
    }
}

/// A token and the file that it is kept in.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    watch: Watch,
    token: ClusterToken,
}

impl TokenFile {
    /// Reads the tokens. Small, and before anything is served, so it may block.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        // Made before the file is read, so that no change is missed.
        let watch = Watch::new([path]);
        let tokens = read(path)?;
        let shared = Shared { tokens: ArcSwap::from_pointee(tokens), refused: Mutex::default() };
        Ok(Self { path: path.to_owned(), watch, token: ClusterToken(Arc::new(shared)) })
    }

    pub fn token(&self) -> ClusterToken {
        self.token.clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Follows the file: what cannot be used changes nothing. Never ends, also without a file.
    pub async fn keep_current(file: Option<Self>) -> Infallible {
        let Some(Self { path, watch, token }) = file else {
            return std::future::pending().await;
        };
        follow("cluster token", watch, || token.read_again(&path)).await
    }
}

fn read(path: &Path) -> Result<Tokens, TokenError> {
    let text = private_file::read(path, MAX_FILE_BYTES)?;
    let mut accepted = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if !is_token(line) {
            return Err(TokenError::Malformed(path.to_owned(), at + 1));
        }
        accepted.push(Bytes::copy_from_slice(line.as_bytes()));
    }
    if accepted.len() > MAX_TOKENS {
        return Err(TokenError::TooMany(path.to_owned()));
    }
    let sent = accepted.first().ok_or_else(|| TokenError::None(path.to_owned()))?.clone();
    Ok(Tokens { sent, accepted })
}

fn is_token(line: &str) -> bool {
    (MIN_CHARS..=MAX_CHARS).contains(&line.len()) && line.bytes().all(|it| it.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
