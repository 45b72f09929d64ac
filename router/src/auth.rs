//! Who sent a request, and what they may do.
//!
//! A request comes in through the [`Gate`]. [`Gate::admit`] checks everything that needs no body, so
//! that strangers cost nothing; [`Visitor::identify`] proves the signature with the body's hash;
//! [`Caller::may`] asks what the caller's key is allowed. Beneath are plain functions: [`claim`]
//! checks a request against a [`keyring`], by [`authorization`], [`canonical`] and [`signature`].
//! [`credentials`] says where keys come from. [`scope`] reads what a request says of its signature,
//! without believing it.

pub mod api;
pub mod authorization;
pub mod canonical;
pub mod claim;
pub mod credentials;
pub mod date;
pub mod error;
pub mod keyring;
pub mod pattern;
pub mod scope;
pub mod secret;
pub mod signature;

use actix_web::HttpRequest;
use api::Api;
use arc_swap::ArcSwap;
use canonical::Head;
use claim::{Announced, Claim, Proved};
use error::{AuthError, Fault, Flaw};
use keyring::Keyring;
use scope::CredentialScope;
use sha2::{Digest as _, Sha256};
use shared::id::TargetModel;
use std::sync::Arc;
use time::OffsetDateTime;

/// Where requests come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate(Option<Arc<ArcSwap<Keyring>>>);

impl Gate {
    /// No credentials are configured: everybody may do everything.
    pub fn open() -> Self {
        Self(None)
    }

    /// Only who signs with one of these keys comes in.
    pub fn with(keyring: Keyring) -> Self {
        Self(Some(Arc::new(ArcSwap::from_pointee(keyring))))
    }

    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Replaces all keys, for every clone of this gate.
    pub fn replace(&self, keyring: Keyring) {
        if let Some(current) = &self.0 {
            current.store(Arc::new(keyring));
        }
    }

    /// Checks everything of a request that needs no body.
    pub fn admit(&self, request: &HttpRequest, api: Api) -> Result<Visitor, AuthError> {
        if self.is_open() {
            return Ok(Visitor { api, claim: None });
        }
        self.admit_at(&Head::of(request), api, OffsetDateTime::now_utc())
    }

    /// [`Gate::admit`] at a given time.
    pub fn admit_at(
        &self,
        head: &Head<'_>,
        api: Api,
        now: OffsetDateTime,
    ) -> Result<Visitor, AuthError> {
        let claim = match &self.0 {
            None => None,
            Some(keyring) => {
                let claim = Claim::of(head, api, &keyring.load(), now);
                Some(Box::new(claim.map_err(|fault| AuthError { api, fault })?))
            }
        };
        Ok(Visitor { api, claim })
    }
}

/// Who has been admitted, but not yet proved who they are.
#[must_use]
#[derive(Debug)]
pub struct Visitor {
    api: Api,
    /// Boxed, so that an open gate moves nothing.
    claim: Option<Box<Claim>>,
}

impl Visitor {
    /// Whether no credentials are configured, so that there is nothing to prove.
    pub fn is_anybody(&self) -> bool {
        self.claim.is_none()
    }

    /// Proves the signature over the head and `body`. Hashes it: see [`Visitor::identify_hash`] for
    /// one that is large.
    pub fn identify(self, body: &[u8]) -> Result<Caller, AuthError> {
        if self.claim.is_none() {
            return Ok(Caller { api: self.api, proved: None });
        }
        self.identify_hash(&signature::sha256(body))
    }

    /// Proves the signature over the head and a body with this SHA-256.
    pub fn identify_hash(self, body_hash: &[u8; 32]) -> Result<Caller, AuthError> {
        let Self { api, claim } = self;
        let proved = claim.map(|claim| claim.prove(body_hash)).transpose();
        let proved = proved.map_err(|fault| AuthError { api, fault })?;
        Ok(Caller { api, proved: proved.map(Box::new) })
    }

    /// Proves the signature before the body has come, as S3's requests allow: what they announce of
    /// it is signed. The body must then keep to it.
    pub fn identify_head(self) -> Result<(Caller, BodyCheck), AuthError> {
        let Self { api, claim } = self;
        let Some(claim) = claim else {
            let check = BodyCheck { api, expected: None };
            return Ok((Caller { api, proved: None }, check));
        };
        let failed = |fault| AuthError { api, fault };
        let announced = claim.announced.ok_or(Fault::Incomplete(Flaw::BodyHash("")));
        let announced = announced.map_err(failed)?;
        let proved = Box::new(claim.prove_announced(announced).map_err(failed)?);
        let expected = match announced {
            Announced::Sha256(hash) => Some((Sha256::new(), hash)),
            Announced::Unsigned(_) => None,
        };
        Ok((Caller { api, proved: Some(proved) }, BodyCheck { api, expected }))
    }
}

/// Compares a body, as it streams by, with what was announced of it.
#[must_use]
#[derive(Clone, Debug)]
pub struct BodyCheck {
    api: Api,
    expected: Option<(Sha256, [u8; 32])>,
}

impl BodyCheck {
    pub fn update(&mut self, chunk: &[u8]) {
        if let Some((hasher, _)) = &mut self.expected {
            hasher.update(chunk);
        }
    }

    /// Says whether the whole body was what its sender signed.
    pub fn finish(self) -> Result<(), AuthError> {
        let Self { api, expected } = self;
        let is_right = expected.is_none_or(|(hasher, expected)| hasher.finalize() == expected);
        if is_right { Ok(()) } else { Err(AuthError { api, fault: Fault::BodyMismatch }) }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    api: Api,
    /// `None`: no credentials are configured.
    proved: Option<Box<Proved>>,
}

impl Caller {
    /// Checks that the caller's key allows `action`. An invocation names its target model: a key
    /// that is restricted to some may not go without.
    pub fn may(
        &self,
        action: &str,
        target_model: Option<&TargetModel>,
        resource_arn: impl FnOnce() -> String,
    ) -> Result<(), AuthError> {
        let Some(proved) = &self.proved else {
            return Ok(());
        };
        let key = &proved.key;
        if key.may(action, target_model.map(TargetModel::as_str)) {
            return Ok(());
        }
        let (arn, action) = (key.arn.clone(), action.to_owned());
        let fault = Fault::Denied { arn, action, resource: resource_arn() };
        Err(AuthError { api: self.api, fault })
    }

    /// `None` where no credentials are configured.
    pub fn arn(&self) -> Option<&str> {
        Some(&self.proved.as_ref()?.key.arn)
    }

    /// `None` where no credentials are configured.
    pub fn access_key_id(&self) -> Option<&str> {
        Some(&self.proved.as_ref()?.key.access_key_id)
    }

    /// What the request was signed for; `None` where no credentials are configured.
    pub fn scope(&self) -> Option<&CredentialScope> {
        Some(&self.proved.as_ref()?.scope)
    }
}

#[cfg(test)]
mod tests;
