//! Proves a signature: the key that a secret gives for a scope, and what it must have signed.
//!
//! Source: AWS Signature Version 4, "Create a signed AWS API request".

use super::{
    authorization::{ALGORITHM, hex},
    scope::CredentialScope,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

const TERMINATOR: &str = "aws4_request";

/// The key that signs for one day, region and service.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    pub fn derive(secret: &str, scope: &CredentialScope) -> Self {
        let CredentialScope { access_key_id: _, date, region, service } = scope;
        let mut key = keyed(format!("AWS4{secret}").as_bytes());
        for part in [date, region, service, TERMINATOR] {
            key.update(part.as_bytes());
            key = keyed(&key.finalize().into_bytes());
        }
        Self(key)
    }

    /// Compares in constant time.
    pub fn has_signed(
        &self,
        request_hash: &[u8; 32],
        timestamp: &str,
        scope: &CredentialScope,
        signature: &[u8; 32],
    ) -> bool {
        let CredentialScope { access_key_id: _, date, region, service } = scope;
        let mut mac = self.0.clone();
        for part in [ALGORITHM, "\n", timestamp, "\n"] {
            mac.update(part.as_bytes());
        }
        for part in [date, "/", region, "/", service, "/", TERMINATOR, "\n"] {
            mac.update(part.as_bytes());
        }
        mac.update(&hex(request_hash));
        mac.verify_slice(signature).is_ok()
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authorization::parse_hex;

    /// AWS's own example: "Example: GET Object" of the S3 documentation of Signature Version 4.
    #[test]
    fn the_example_of_the_documentation_is_proved() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let scope = CredentialScope::parse("AK/20130524/us-east-1/s3/aws4_request").unwrap();
        let parse = |digits: &str| parse_hex(digits.as_bytes()).unwrap();
        let request_hash =
            parse("7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
        let mut signature =
            parse("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let key = SigningKey::derive(secret, &scope);
        assert!(key.has_signed(&request_hash, "20130524T000000Z", &scope, &signature));
        signature[31] ^= 1;
        assert!(!key.has_signed(&request_hash, "20130524T000000Z", &scope, &signature));
    }
}
