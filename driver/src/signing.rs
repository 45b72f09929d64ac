//! Signs our own calls, where the router wants them signed.

use crate::processes::REGION;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningError, SigningSettings, sign},
    sign::v4,
};
use std::{fmt, time::SystemTime};

/// What the credential scope names.
const SERVICE: &str = "sagemaker";

/// A key of the router.
#[derive(Clone)]
pub struct Key {
    id: String,
    secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    pub fn new(id: String, secret: String) -> Self {
        Self { id, secret }
    }

    /// A key for one run of one router, which nobody else knows.
    pub fn random() -> Self {
        let secret = uuid::Uuid::new_v4().simple().to_string();
        Self { id: "MANIFOLDUP".to_owned(), secret: secret.repeat(2) }
    }

    /// What a router is told of it. By its environment, because flags can be read by everybody.
    pub fn environment(&self) -> [(String, String); 2] {
        let Self { id, secret } = self.clone();
        [("ROUTER_ACCESS_KEY_ID".to_owned(), id), ("ROUTER_SECRET_ACCESS_KEY".to_owned(), secret)]
    }

    /// The key as the AWS SDK takes it.
    pub(crate) fn credentials(&self) -> Credentials {
        let Self { id, secret } = self.clone();
        Credentials::new(id, secret, None, None, "manifold")
    }

    /// Returns the headers that a signed `POST` has beside `headers`.
    pub fn sign(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<(String, String)>, SigningError> {
        let identity = self.credentials().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .expect("every parameter is there")
            .into();
        let headers = headers.iter().copied();
        let request = SignableRequest::new("POST", url, headers, SignableBody::Bytes(body))?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(instructions.headers().map(owned).collect())
    }
}
