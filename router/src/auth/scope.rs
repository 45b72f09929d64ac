//! The credential scope of a request: what it was signed for. Read, not verified: it names the
//! service that a client means and the region of the ARNs that it expects.
//!
//! Source: AWS Signature Version 4, "Elements of an AWS API request signature".

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use percent_encoding::percent_decode_str;

/// `AKID/20261123/us-east-1/sagemaker/aws4_request`, without its last part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialScope {
    pub access_key_id: String,
    /// `YYYYMMDD`.
    pub date: String,
    pub region: String,
    pub service: String,
}

impl CredentialScope {
    /// Returns the scope of a signed request, or of a presigned one (`X-Amz-Credential` in `query`).
    pub fn of(headers: &HeaderMap, query: &str) -> Option<Self> {
        let authorization = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        match authorization.and_then(credential) {
            Some(credential) => Self::parse(credential),
            None => Self::parse(&presigned_credential(query)?),
        }
    }

    /// Parses `AKID/DATE/REGION/SERVICE/aws4_request`. An access key id may hold slashes.
    pub fn parse(credential: &str) -> Option<Self> {
        let mut parts = credential.rsplitn(5, '/');
        let terminator = parts.next()?;
        let (service, region, date) = (parts.next()?, parts.next()?, parts.next()?);
        let access_key_id = parts.next()?;
        let is_whole = [access_key_id, date, region, service].iter().all(|it| !it.is_empty());
        (terminator == "aws4_request" && is_whole).then(|| Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}

/// The value of `Credential=` in `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
fn credential(authorization: &str) -> Option<&str> {
    let (algorithm, parameters) = authorization.split_once(' ')?;
    if !algorithm.starts_with("AWS4-") {
        return None;
    }
    parameters.split(',').find_map(|it| it.trim().strip_prefix("Credential="))
}

fn presigned_credential(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|it| it.strip_prefix("X-Amz-Credential="))?;
    Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn of_header(authorization: &str) -> Option<CredentialScope> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        CredentialScope::of(&headers, "")
    }

    #[test]
    fn scope_names_key_region_and_service() {
        let scope = of_header(
            "AWS4-HMAC-SHA256 Credential=AK/20261123/eu-west-1/s3/aws4_request, \
             SignedHeaders=host, Signature=00",
        );
        let scope = scope.unwrap();
        assert_eq!((&*scope.access_key_id, &*scope.date), ("AK", "20261123"));
        assert_eq!((&*scope.region, &*scope.service), ("eu-west-1", "s3"));
    }

    #[test]
    fn presigned_requests_have_a_scope_too() {
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
                     &X-Amz-Credential=AK%2F20261123%2Fus-east-1%2Fs3%2Faws4_request";
        let scope = CredentialScope::of(&HeaderMap::new(), query).unwrap();
        assert_eq!(scope.service, "s3");
    }

    #[test]
    fn what_is_not_signed_by_version_4_has_none() {
        for authorization in
            ["Basic YTpi", "AWS AK:sig", "AWS4-HMAC-SHA256", "Bearer Credential=a/b/c/d/e"]
        {
            assert_eq!(of_header(authorization), None, "{authorization}");
        }
        assert_eq!(CredentialScope::of(&HeaderMap::new(), "x=1"), None);
        assert_eq!(CredentialScope::parse("AK/20261123/us-east-1/s3/other"), None);
        assert_eq!(CredentialScope::parse("//us-east-1/s3/aws4_request"), None);
    }
}
