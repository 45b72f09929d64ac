//! Checks a signed request: everything that is known before its body, then the signature itself.
//!
//! Plain functions: what a request says, the keys and the time go in.

use super::{
    api::{Api, Family},
    authorization::{Authorization, MAX_CHARS, hex, parse_hex},
    canonical::{self, Head},
    date,
    error::{Fault, Flaw},
    keyring::{Key, Keyring},
    scope::CredentialScope,
    signature::sha256,
};
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName, HeaderValue,
};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// How far a client's clock may be off: AWS's own limit.
const MAX_SKEW: Duration = Duration::minutes(5);

/// Set on the way by load balancers, and signed by no SDK.
const TRACE_ID: &str = "x-amzn-trace-id";

static AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
static SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
static CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// A request that claims to be signed by a key, and is right in all but its signature, which needs
/// the hash of its body.
#[derive(Debug)]
pub struct Claim {
    pub key: Arc<Key>,
    pub scope: CredentialScope,
    pub announced: Option<Announced>,
    timestamp: String,
    /// The canonical request up to the hash of the body.
    canonical: Vec<u8>,
    signature: [u8; 32],
}

/// Who signed a request, and for what.
#[derive(Clone, Debug)]
pub struct Proved {
    pub key: Arc<Key>,
    pub scope: CredentialScope,
}

/// What `x-amz-content-sha256` says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    Sha256([u8; 32]),
    /// The signature is over the head alone: one of S3's words for that, verbatim.
    Unsigned(&'static str),
}

/// What S3 takes in place of a hash. Not a body whose chunks are signed each: nobody here verifies
/// them, and whoever signed them believes that somebody does.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];

impl Claim {
    /// Checks what a request says outside its body.
    pub fn of(
        head: &Head<'_>,
        api: Api,
        keyring: &Keyring,
        now: OffsetDateTime,
    ) -> Result<Self, Fault> {
        let header = authorization(head)?;
        let authorization = Authorization::parse(header).map_err(Fault::Incomplete)?;
        let (timestamp, signed_at) = timestamp(head)?;
        let key = keyring.get(&authorization.scope.access_key_id).ok_or(Fault::UnknownKey)?;
        check_scope(&authorization.scope, api, &timestamp)?;
        check_token(head, key)?;
        if key.expires.is_some_and(|expires| expires <= now) {
            return Err(Fault::Expired);
        }
        check_skew(signed_at, now, api)?;
        check_coverage(head, &authorization, api)?;
        let announced = announced(head, api)?;
        let canonical = canonical::request(head, &authorization, api).map_err(Fault::Incomplete)?;
        Ok(Self {
            key: Arc::clone(key),
            announced,
            timestamp,
            canonical: canonical.ok_or(Fault::Mismatch)?,
            signature: authorization.signature,
            scope: authorization.scope,
        })
    }

    /// Proves the signature with the hash of the body.
    pub fn prove(self, body_hash: &[u8; 32]) -> Result<Proved, Fault> {
        match self.announced {
            Some(Announced::Sha256(announced)) if announced != *body_hash => {
                Err(Fault::BodyMismatch)
            }
            Some(announced) => self.prove_announced(announced),
            None => self.prove_announced(Announced::Sha256(*body_hash)),
        }
    }

    /// Proves the signature over the head and what the request says of its body.
    pub fn prove_announced(self, announced: Announced) -> Result<Proved, Fault> {
        let Self { key, scope, announced: _, timestamp, mut canonical, signature } = self;
        match announced {
            Announced::Sha256(hash) => canonical.extend_from_slice(&hex(&hash)),
            Announced::Unsigned(word) => canonical.extend_from_slice(word.as_bytes()),
        }
        let (signing_key, was_kept) = key.signing_key(&scope);
        if !signing_key.has_signed(&sha256(&canonical), &timestamp, &scope, &signature) {
            return Err(Fault::Mismatch);
        }
        if !was_kept {
            key.keep(&scope, &signing_key);
        }
        Ok(Proved { key, scope })
    }
}

/// Returns the one `Authorization` header.
fn authorization<'a>(head: &Head<'a>) -> Result<&'a str, Fault> {
    let is_presigned = head.query.split('&').any(|it| {
        let name = it.split('=').next().unwrap_or_default();
        name.eq_ignore_ascii_case("X-Amz-Signature") || name.eq_ignore_ascii_case("X-Amz-Algorithm")
    });
    if is_presigned {
        return Err(Fault::Presigned);
    }
    let value = only(head, &AUTHORIZATION)?.ok_or(Fault::Missing)?;
    value.to_str().map_err(|_| Fault::Incomplete(Flaw::Header(MAX_CHARS)))
}

/// Returns a header that must not come twice: of two, this and another reader might each believe
/// another one.
fn only<'a>(head: &Head<'a>, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Fault> {
    let mut values = head.headers.get_all(name);
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) if name == AUTHORIZATION => Err(Fault::Incomplete(Flaw::Header(MAX_CHARS))),
        Some(_) => Err(twice(name)),
    }
}

fn twice(name: &HeaderName) -> Fault {
    Fault::Uncovered { header: name.to_string(), problem: "must come once." }
}

/// Returns the date as it was signed, and what it means.
fn timestamp(head: &Head<'_>) -> Result<(String, OffsetDateTime), Fault> {
    let value = match only(head, &AMZ_DATE)? {
        Some(value) => Some(value),
        None => only(head, &DATE)?,
    };
    let value = value.ok_or(Fault::Incomplete(Flaw::NoDate))?;
    let signed_at = value.to_str().ok().and_then(date::parse);
    let signed_at = signed_at.ok_or(Fault::Incomplete(Flaw::Date))?;
    Ok((date::basic(signed_at), signed_at))
}

fn check_scope(scope: &CredentialScope, api: Api, timestamp: &str) -> Result<(), Fault> {
    if scope.service != api.service() {
        let expected = api.service();
        return Err(Fault::Scope(format!(
            "Credential should be scoped to correct service: '{expected}'."
        )));
    }
    let date = &timestamp[..8];
    if scope.date != date {
        return Err(Fault::Scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{date}', from '{timestamp}'.",
            scope.date
        )));
    }
    Ok(())
}

fn check_token(head: &Head<'_>, key: &Key) -> Result<(), Fault> {
    let is_right = match (only(head, &SECURITY_TOKEN)?, &key.session_token) {
        (None, None) => true,
        (Some(token), Some(expected)) => expected.is(token.as_bytes()),
        (Some(_), None) | (None, Some(_)) => false,
    };
    if is_right { Ok(()) } else { Err(Fault::WrongToken) }
}

fn check_skew(signed_at: OffsetDateTime, now: OffsetDateTime, api: Api) -> Result<(), Fault> {
    if (now - signed_at).abs() <= MAX_SKEW {
        return Ok(());
    }
    let [signed, at, earliest, latest] =
        [signed_at, now, now - MAX_SKEW, now + MAX_SKEW].map(date::basic);
    Err(Fault::Skewed(if api.family() == Family::S3 {
        "The difference between the request time and the current time is too large.".to_owned()
    } else if signed_at < now {
        format!("Signature expired: {signed} is now earlier than {earliest} ({at} - 5 min.)")
    } else {
        format!("Signature not yet current: {signed} is still later than {latest} ({at} + 5 min.)")
    }))
}

/// Checks that every header that decides something is signed and comes once. What is neither could
/// be added on the way: another target model, another operation.
fn check_coverage(
    head: &Head<'_>,
    authorization: &Authorization<'_>,
    api: Api,
) -> Result<(), Fault> {
    let not_signed = |header: &str| Fault::Uncovered {
        header: header.to_owned(),
        problem: "must be a 'SignedHeader' in the AWS Authorization.",
    };
    if !authorization.covers(HOST.as_str()) {
        return Err(not_signed("Host"));
    }
    only(head, &HOST)?;
    if !authorization.covers(AMZ_DATE.as_str()) && !authorization.covers(DATE.as_str()) {
        return Err(not_signed("X-Amz-Date"));
    }
    for name in head.headers.keys() {
        if !decides(name, head, api) {
            continue;
        }
        if !authorization.covers(name.as_str()) {
            return Err(not_signed(name.as_str()));
        }
        only(head, name)?;
    }
    Ok(())
}

/// Whether a header changes what a request means.
fn decides(name: &HeaderName, head: &Head<'_>, api: Api) -> bool {
    let text = name.as_str();
    let is_of_aws = text.starts_with("x-amz-") || text.starts_with("x-amzn-");
    // A model sees what is accepted, but not every tool signs that it takes anything.
    let is_choice = |value: &HeaderValue| value.as_bytes() != b"*/*";
    (is_of_aws && text != TRACE_ID)
        || *name == CONTENT_TYPE
        || (*name == ACCEPT && api == Api::Runtime && head.headers.get_all(&ACCEPT).any(is_choice))
}

fn announced(head: &Head<'_>, api: Api) -> Result<Option<Announced>, Fault> {
    let Some(value) = only(head, &CONTENT_SHA256)? else {
        return match api {
            Api::S3 => Err(Fault::Incomplete(Flaw::BodyHash(", or a word that S3 knows"))),
            Api::Runtime | Api::Control | Api::Sts | Api::Iam => Ok(None),
        };
    };
    if let Some(hash) = parse_hex(value.as_bytes()) {
        return Ok(Some(Announced::Sha256(hash)));
    }
    // Only S3 takes bodies that nobody signed.
    if api != Api::S3 {
        return Err(Fault::Incomplete(Flaw::BodyHash("")));
    }
    let word = UNSIGNED.into_iter().find(|word| value.as_bytes() == word.as_bytes());
    let word = word.ok_or(Fault::Incomplete(Flaw::BodyHash(", or a word that S3 knows")))?;
    Ok(Some(Announced::Unsigned(word)))
}

#[cfg(test)]
pub(super) mod tests;
