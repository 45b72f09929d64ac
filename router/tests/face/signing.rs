//! Signs requests as AWS's own code for Rust does.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use std::time::{Duration, SystemTime};

/// What to sign with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer {
    pub(crate) access_key_id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) token: Option<&'static str>,
    pub(crate) service: &'static str,
    /// How long ago it says that it signed.
    pub(crate) age: Duration,
}

impl Signer {
    pub(crate) fn of(access_key_id: &'static str, secret: &'static str) -> Self {
        let age = Duration::ZERO;
        Self { access_key_id, secret, token: None, service: "sagemaker", age }
    }

    /// Returns the headers of a request to the host `r`, signed, one a line.
    pub(crate) fn sign(&self, line: &str, headers: &str, body: &[u8]) -> String {
        let Self { access_key_id, secret, token, service, age } = *self;
        let token = token.map(str::to_owned);
        let identity = Credentials::new(access_key_id, secret, token, None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(service)
            .time(SystemTime::now() - age)
            .settings(SigningSettings::default())
            .build()
            .expect("complete")
            .into();
        let (method, path) = line.split_once(' ').expect("method and path");
        let pairs = headers.lines().map(|line| line.split_once(": ").expect("a header"));
        let pairs = pairs.chain([("host", "localhost")]);
        let uri = format!("http://r{path}");
        let body = SignableBody::Bytes(body);
        let signable = SignableRequest::new(method, uri, pairs, body).expect("valid");
        let (instructions, _) = sign(signable, &params).expect("signs").into_parts();
        let signed = instructions.headers().map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{headers}{}", signed.collect::<String>())
    }
}
