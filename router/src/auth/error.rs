//! Why a request is refused, with the names, statuses and texts of AWS.

use super::api::{Api, Family};
use actix_web::http::StatusCode;

/// A refusal. Its `Display` is the text for the client; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError {
    pub api: Api,
    pub fault: Fault,
}

/// What is wrong with a request, whatever its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not signed.
    Missing,
    /// It is signed in its query.
    Presigned,
    /// Its `Authorization` or date cannot be read.
    Incomplete(Flaw),
    /// It was signed for something else.
    Scope(String),
    /// A header that decides something is not signed, or comes twice.
    Uncovered {
        header: String,
        problem: &'static str,
    },
    UnknownKey,
    WrongToken,
    Expired,
    /// It was signed too long ago, or for later than now.
    Skewed(String),
    Mismatch,
    /// Its body is not the one that `x-amz-content-sha256` announces.
    BodyMismatch,
    /// The caller is known and may not do this.
    Denied {
        arn: String,
        action: String,
        resource: String,
    },
}

/// What cannot be read of a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("Authorization header must come once, as at most {0} characters of ASCII.")]
    Header(usize),
    #[error("Unsupported AWS 'algorithm': only 'AWS4-HMAC-SHA256' is supported.")]
    Algorithm,
    #[error("Authorization header requires '{0}' parameter.")]
    Lacks(&'static str),
    #[error("Authorization header has a part that is no parameter of it, or has one twice.")]
    Parameter,
    #[error(
        "Credential must have exactly 5 slash-delimited elements, e.g. \
         keyid/date/region/service/term."
    )]
    Credential,
    #[error("SignedHeaders must be names in lower case, in order, delimited by semicolons.")]
    SignedHeaders,
    #[error("Signature must be 64 hexadecimal digits in lower case.")]
    Signature,
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    NoDate,
    #[error("Date must be in ISO-8601 'basic format', such as 20261123T040506Z.")]
    Date,
    #[error("The query has more than {0} parameters.")]
    Query(usize),
    #[error("x-amz-content-sha256 must be a SHA-256 in lower case{0}.")]
    BodyHash(&'static str),
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you \
    provided. Check your AWS Secret Access Key and signing method. Consult the service \
    documentation for details.";
const MISMATCH_OF_S3: &str = "The request signature we calculated does not match the signature you \
    provided. Check your key and signing method.";

const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

impl AuthError {
    pub fn status(&self) -> StatusCode {
        self.name().0
    }

    /// The error's name, as clients tell errors apart.
    pub fn code(&self) -> &'static str {
        self.name().1
    }

    fn name(&self) -> (StatusCode, &'static str) {
        match self.api.family() {
            Family::Json => self.name_in_json(),
            Family::Query => self.name_in_query(),
            Family::S3 => self.name_in_s3(),
        }
    }

    fn name_in_json(&self) -> (StatusCode, &'static str) {
        match self.fault {
            Fault::Missing => (FORBIDDEN, "MissingAuthenticationTokenException"),
            Fault::Incomplete(_) => (BAD_REQUEST, "IncompleteSignatureException"),
            Fault::Scope(_)
            | Fault::Uncovered { .. }
            | Fault::Skewed(_)
            | Fault::Mismatch
            | Fault::BodyMismatch => (FORBIDDEN, "InvalidSignatureException"),
            Fault::UnknownKey | Fault::WrongToken => (FORBIDDEN, "UnrecognizedClientException"),
            Fault::Expired => (FORBIDDEN, "ExpiredTokenException"),
            // JSON 1.1 has 400 for whatever a client can mend.
            Fault::Denied { .. } if self.api == Api::Control => {
                (BAD_REQUEST, "AccessDeniedException")
            }
            Fault::Denied { .. } | Fault::Presigned => (FORBIDDEN, "AccessDeniedException"),
        }
    }

    fn name_in_query(&self) -> (StatusCode, &'static str) {
        match self.fault {
            Fault::Missing => (FORBIDDEN, "MissingAuthenticationToken"),
            Fault::Incomplete(_) => (BAD_REQUEST, "IncompleteSignature"),
            Fault::Scope(_)
            | Fault::Uncovered { .. }
            | Fault::Skewed(_)
            | Fault::Mismatch
            | Fault::BodyMismatch => (FORBIDDEN, "SignatureDoesNotMatch"),
            Fault::UnknownKey | Fault::WrongToken => (FORBIDDEN, "InvalidClientTokenId"),
            Fault::Expired => (FORBIDDEN, "ExpiredToken"),
            Fault::Denied { .. } | Fault::Presigned => (FORBIDDEN, "AccessDenied"),
        }
    }

    fn name_in_s3(&self) -> (StatusCode, &'static str) {
        match self.fault {
            Fault::Incomplete(_) | Fault::Scope(_) => (BAD_REQUEST, "AuthorizationHeaderMalformed"),
            Fault::UnknownKey => (FORBIDDEN, "InvalidAccessKeyId"),
            Fault::WrongToken => (BAD_REQUEST, "InvalidToken"),
            Fault::Expired => (BAD_REQUEST, "ExpiredToken"),
            Fault::Skewed(_) => (FORBIDDEN, "RequestTimeTooSkewed"),
            Fault::Mismatch => (FORBIDDEN, "SignatureDoesNotMatch"),
            Fault::BodyMismatch => (BAD_REQUEST, "XAmzContentSHA256Mismatch"),
            Fault::Missing | Fault::Presigned | Fault::Uncovered { .. } | Fault::Denied { .. } => {
                (FORBIDDEN, "AccessDenied")
            }
        }
    }
}

impl std::error::Error for AuthError {}

impl std::fmt::Display for AuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of_s3 = self.api.family() == Family::S3;
        match &self.fault {
            Fault::Missing if of_s3 => f.write_str("Access Denied."),
            Fault::Missing => f.write_str("Missing Authentication Token"),
            Fault::Presigned => f.write_str("Presigned requests are not supported."),
            Fault::Incomplete(flaw) => flaw.fmt(f),
            Fault::Scope(text) | Fault::Skewed(text) => f.write_str(text),
            Fault::Uncovered { header, problem } => write!(f, "'{header}' {problem}"),
            Fault::UnknownKey if of_s3 => {
                f.write_str("The AWS Access Key Id you provided does not exist in our records.")
            }
            Fault::WrongToken if of_s3 => {
                f.write_str("The provided token is malformed or otherwise invalid.")
            }
            Fault::UnknownKey | Fault::WrongToken => {
                f.write_str("The security token included in the request is invalid.")
            }
            Fault::Expired if of_s3 => f.write_str("The provided token has expired."),
            Fault::Expired => f.write_str("The security token included in the request is expired"),
            Fault::Mismatch if of_s3 => f.write_str(MISMATCH_OF_S3),
            Fault::BodyMismatch if of_s3 => f.write_str(
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            Fault::Mismatch | Fault::BodyMismatch => f.write_str(MISMATCH),
            Fault::Denied { arn, action, resource } => write!(
                f,
                "User: {arn} is not authorized to perform: {action} on resource: {resource} \
                 because no identity-based policy allows the {action} action"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fault: &Fault, expected: [(u16, &str); 4]) {
        for (api, expected) in
            [Api::Runtime, Api::Control, Api::Sts, Api::S3].into_iter().zip(expected)
        {
            let error = AuthError { api, fault: fault.clone() };
            assert_eq!((error.status().as_u16(), error.code()), expected, "{api:?} {error}");
        }
    }

    #[test]
    fn each_api_has_its_own_names_of_what_is_no_signature() {
        check(
            &Fault::Missing,
            [
                (403, "MissingAuthenticationTokenException"),
                (403, "MissingAuthenticationTokenException"),
                (403, "MissingAuthenticationToken"),
                (403, "AccessDenied"),
            ],
        );
        check(
            &Fault::Incomplete(Flaw::NoDate),
            [
                (400, "IncompleteSignatureException"),
                (400, "IncompleteSignatureException"),
                (400, "IncompleteSignature"),
                (400, "AuthorizationHeaderMalformed"),
            ],
        );
    }

    #[test]
    fn each_api_has_its_own_names_of_a_wrong_signature() {
        let names = |(status, of_s3)| {
            let invalid = (403, "InvalidSignatureException");
            [invalid, invalid, (403, "SignatureDoesNotMatch"), (status, of_s3)]
        };
        check(&Fault::Mismatch, names((403, "SignatureDoesNotMatch")));
        check(&Fault::Skewed(String::new()), names((403, "RequestTimeTooSkewed")));
        check(&Fault::BodyMismatch, names((400, "XAmzContentSHA256Mismatch")));
        check(&Fault::Scope(String::new()), names((400, "AuthorizationHeaderMalformed")));
    }

    #[test]
    fn each_api_has_its_own_names_of_a_caller() {
        check(
            &Fault::UnknownKey,
            [
                (403, "UnrecognizedClientException"),
                (403, "UnrecognizedClientException"),
                (403, "InvalidClientTokenId"),
                (403, "InvalidAccessKeyId"),
            ],
        );
        check(
            &Fault::Expired,
            [
                (403, "ExpiredTokenException"),
                (403, "ExpiredTokenException"),
                (403, "ExpiredToken"),
                (400, "ExpiredToken"),
            ],
        );
        let text = String::new;
        check(
            &Fault::Denied { arn: text(), action: text(), resource: text() },
            [
                (403, "AccessDeniedException"),
                (400, "AccessDeniedException"),
                (403, "AccessDenied"),
                (403, "AccessDenied"),
            ],
        );
    }
}
