//! Parses the `Authorization` header of Signature Version 4.
//!
//! A stranger writes it, so that every part has a bound, and one form alone is taken: what reads
//! the same but is written otherwise would be a second signature for the same request.

use super::{error::Flaw, scope::CredentialScope};

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Room for a hundred headers; SDKs need 600.
pub const MAX_CHARS: usize = 4096;

/// What a client says about its signature. Nothing of it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    pub scope: CredentialScope,
    /// Names in lower case, in order, each once, delimited by `;`.
    pub signed_headers: &'a str,
    pub signature: [u8; 32],
}

impl<'a> Authorization<'a> {
    /// Parses `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    pub fn parse(header: &'a str) -> Result<Self, Flaw> {
        if header.len() > MAX_CHARS {
            return Err(Flaw::Header(MAX_CHARS));
        }
        let (algorithm, parameters) = header.split_once(' ').ok_or(Flaw::Algorithm)?;
        if algorithm != ALGORITHM {
            return Err(Flaw::Algorithm);
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for parameter in parameters.split(',') {
            let (name, value) =
                parameter.trim_matches(' ').split_once('=').ok_or(Flaw::Parameter)?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(Flaw::Parameter),
            };
            if place.replace(value).is_some() {
                return Err(Flaw::Parameter);
            }
        }
        let credential = credential.ok_or(Flaw::Lacks("Credential"))?;
        let signed_headers = signed_headers.ok_or(Flaw::Lacks("SignedHeaders"))?;
        let signature = signature.ok_or(Flaw::Lacks("Signature"))?;
        if !are_in_order(signed_headers) {
            return Err(Flaw::SignedHeaders);
        }
        Ok(Self {
            scope: CredentialScope::parse(credential).ok_or(Flaw::Credential)?,
            signed_headers,
            signature: parse_hex(signature.as_bytes()).ok_or(Flaw::Signature)?,
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.signed_headers.split(';')
    }

    pub fn covers(&self, header: &str) -> bool {
        self.names().any(|name| name == header)
    }
}

fn are_in_order(names: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|it| it.is_ascii_graphic() && !it.is_ascii_uppercase())
    };
    names.split(';').all(is_name) && names.split(';').is_sorted_by(|before, after| before < after)
}

/// Reads a SHA-256 in hexadecimal digits of lower case.
pub fn parse_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0])? << 4) | value(pair[1])?;
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Writes a SHA-256 as AWS does: in lower case.
pub fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CREDENTIAL: &str = "Credential=AK/20261123/us-east-1/sagemaker/aws4_request";
    const SIGNATURE: &str =
        "Signature=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn header(parameters: &[&str]) -> String {
        format!("{ALGORITHM} {}", parameters.join(", "))
    }

    #[track_caller]
    fn check_refused(header: &str, flaw: &Flaw) {
        assert_eq!(Authorization::parse(header).as_ref(), Err(flaw), "{header}");
    }

    #[test]
    fn its_parameters_come_in_any_order() {
        let one = header(&[CREDENTIAL, "SignedHeaders=host;x-amz-date", SIGNATURE]);
        let other = header(&[SIGNATURE, CREDENTIAL, "SignedHeaders=host;x-amz-date"]);
        let parsed = Authorization::parse(&one).unwrap();
        assert_eq!(parsed, Authorization::parse(&other).unwrap());
        assert_eq!(Authorization::parse(&one.replace(", ", ",")).unwrap(), parsed);
        assert_eq!(parsed.scope.service, "sagemaker");
        assert!(parsed.covers("host") && parsed.covers("x-amz-date") && !parsed.covers("ho"));
        assert_eq!((parsed.signature[0], parsed.signature[31]), (0x00, 0xff));
        assert_eq!(&hex(&parsed.signature)[..], SIGNATURE.split('=').nth(1).unwrap().as_bytes());
    }

    #[test]
    fn what_lacks_a_part_is_told_which() {
        let signed = "SignedHeaders=host";
        check_refused(&header(&[signed, SIGNATURE]), &Flaw::Lacks("Credential"));
        check_refused(&header(&[CREDENTIAL, SIGNATURE]), &Flaw::Lacks("SignedHeaders"));
        check_refused(&header(&[CREDENTIAL, signed]), &Flaw::Lacks("Signature"));
        check_refused(&header(&[CREDENTIAL, signed, SIGNATURE, signed]), &Flaw::Parameter);
        check_refused(&header(&[CREDENTIAL, signed, SIGNATURE, "X=1"]), &Flaw::Parameter);
        check_refused(&header(&[CREDENTIAL, signed, SIGNATURE, ""]), &Flaw::Parameter);
        check_refused(&header(&["Credential=AK/x", signed, SIGNATURE]), &Flaw::Credential);
    }

    #[test]
    fn other_algorithms_are_refused() {
        for header in ["", "AWS4-HMAC-SHA256", "Basic YTpi", "AWS AK:sig", "aws4-hmac-sha256 a=b"] {
            check_refused(header, &Flaw::Algorithm);
        }
        check_refused("AWS4-ECDSA-P256-SHA256 Credential=AK", &Flaw::Algorithm);
        check_refused(&"x".repeat(MAX_CHARS + 1), &Flaw::Header(MAX_CHARS));
    }

    #[test]
    fn each_part_has_one_form() {
        for names in ["", "host;", "Host", "x-amz-date;host", "host;host", "ho st", "hôst"] {
            let signed = format!("SignedHeaders={names}");
            check_refused(&header(&[CREDENTIAL, &signed, SIGNATURE]), &Flaw::SignedHeaders);
        }
        for signature in [SIGNATURE.to_uppercase().replace("SIGNATURE", "Signature"), {
            SIGNATURE[..SIGNATURE.len() - 1].to_owned()
        }] {
            let parts = [CREDENTIAL, "SignedHeaders=host", &signature];
            check_refused(&header(&parts), &Flaw::Signature);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(header in "(AWS4-HMAC-SHA256 )?[A-Za-z0-9/=, ;\\PC]{0,200}") {
            let _ = Authorization::parse(&header);
        }

        #[test]
        fn hexadecimal_digits_come_back(bytes: [u8; 32]) {
            prop_assert_eq!(parse_hex(&hex(&bytes)), Some(bytes));
        }
    }
}
