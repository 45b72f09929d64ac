use super::*;
use crate::auth::{keyring::Keyring, secret::Secret};
use actix_web::http::header::HeaderMap;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use proptest::{prelude::*, sample::Index};
use serde::Deserialize;
use std::time::SystemTime;

/// Requests as botocore signs them; `tests/vectors/sign.py` made them.
const VECTORS: &str = include_str!("../../../tests/vectors/botocore.json");

#[derive(Deserialize)]
struct Vectors {
    now: String,
    secret_access_key: String,
    session_token: String,
    #[serde(rename = "vectors")]
    requests: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    api: String,
    method: String,
    path: String,
    query: String,
    headers: Vec<String>,
    body: String,
}

/// A request that can be changed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) api: Api,
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
        self
    }

    /// `None` if no HTTP server would take it.
    fn verify(&self, keyring: &Keyring, now: OffsetDateTime) -> Option<Result<Proved, Fault>> {
        let claim = self.read(|head| Claim::of(head, self.api, keyring, now))?;
        Some(claim.and_then(|claim| claim.prove(&sha256(&self.body))))
    }

    /// Gives it to whoever reads requests, as HTTP brings it.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Head<'_>) -> T) -> Option<T> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        let Self { method, path, query, .. } = self;
        Some(read(&Head { method, path, query, authority: None, headers: &headers }))
    }

    fn fault(&self) -> Option<Fault> {
        self.verify(&keyring(), now()).expect("a request").err()
    }
}

const SECRET: &str = "hush";

pub(crate) fn keyring() -> Keyring {
    let key = |id: &str| Key::new(id.to_owned(), Secret::new(SECRET), "arn".to_owned());
    let mut temporary = key("ASIA");
    temporary.session_token = Some(Secret::new("token"));
    temporary.expires = Some(now() + Duration::HOUR);
    Keyring::new([key("AKIA"), temporary]).unwrap()
}

pub(crate) fn now() -> OffsetDateTime {
    date::parse("20261123T040506Z").unwrap()
}

/// Signs by AWS's own code for Rust.
pub(crate) fn signed(
    request: Request,
    key: (&str, &str, Option<&str>),
    at: OffsetDateTime,
) -> Request {
    let Request { api, method, path, query, headers, body } = request;
    let (id, secret, token) = key;
    let identity = Credentials::new(id, secret, token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    if api == Api::S3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(api.service())
        .time(SystemTime::from(at))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let uri = format!("http://router.example:8080{path}?{query}");
    let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
    let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(&method, &uri, pairs, SignableBody::Bytes(&body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = Request { api, method, path, query, headers, body };
    for (name, value) in instructions.headers() {
        request = request.with(name, value);
    }
    request
}

pub(crate) fn invocation() -> Request {
    let headers = [
        ("host", "router.example:8080"),
        ("content-type", "application/json"),
        ("accept", "text/csv"),
        ("x-amzn-sagemaker-target-model", "köttbullar.tar.gz"),
    ];
    Request {
        api: Api::Runtime,
        method: "POST".to_owned(),
        path: "/endpoints/a%2Fb/invocations".to_owned(),
        query: "b=2&a=%20".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.into())).to_vec(),
        body: b"{}".to_vec(),
    }
}

pub(crate) const FOREVER: (&str, &str, Option<&str>) = ("AKIA", SECRET, None);
const TEMPORARY: (&str, &str, Option<&str>) = ("ASIA", SECRET, Some("token"));

#[test]
fn requests_of_botocore_are_proved() {
    let Vectors { now, secret_access_key, session_token, requests } =
        serde_json::from_str(VECTORS).unwrap();
    let now = date::parse(&now).unwrap();
    assert!(requests.len() > 20);
    for vector in requests {
        let request = Request::from(&vector);
        let secret = Secret::new(&*secret_access_key);
        let mut key = Key::new("AKIDEXAMPLE".to_owned(), secret, "arn".to_owned());
        let token = request.header("x-amz-security-token");
        key.session_token = token.map(|_| Secret::new(&*session_token));
        let keyring = Keyring::new([key]).unwrap();
        let proved = request.verify(&keyring, now).unwrap();
        assert!(proved.is_ok(), "{}: {proved:?}", vector.name);

        let other = Key::new("AKIDEXAMPLE".to_owned(), Secret::new("other"), "arn".to_owned());
        let refused = request.without("x-amz-security-token");
        let refused = refused.verify(&Keyring::new([other]).unwrap(), now).unwrap();
        assert!(refused.is_err(), "{}", vector.name);
    }
}

impl From<&Vector> for Request {
    fn from(vector: &Vector) -> Self {
        let header = |line: &String| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.as_bytes().to_vec())
        };
        let body = base64_simd::STANDARD.decode_to_vec(&vector.body).unwrap();
        Self {
            api: match &*vector.api {
                "runtime" => Api::Runtime,
                "control" => Api::Control,
                "sts" => Api::Sts,
                "iam" => Api::Iam,
                _ => Api::S3,
            },
            method: vector.method.clone(),
            path: vector.path.clone(),
            query: vector.query.clone(),
            headers: vector.headers.iter().map(header).collect(),
            body,
        }
    }
}

#[test]
fn requests_of_the_rust_sdk_are_proved() {
    for api in [Api::Runtime, Api::Control, Api::Sts, Api::Iam, Api::S3] {
        for key in [FOREVER, TEMPORARY] {
            let request = signed(Request { api, ..invocation() }, key, now());
            let proved = request.verify(&keyring(), now()).unwrap();
            assert_eq!(proved.unwrap().key.access_key_id, key.0, "{api:?}");
        }
    }
}

/// Changes what comes of a signed request, and checks that it is refused for it.
#[track_caller]
fn check(change: impl FnOnce(Request) -> Request, expected: &Fault) {
    let request = signed(invocation(), TEMPORARY, now());
    assert_eq!(request.fault(), None);
    assert_eq!(change(request).fault().as_ref(), Some(expected));
}

#[test]
fn whatever_was_changed_is_refused() {
    check(|it| Request { body: b"{} ".to_vec(), ..it }, &Fault::Mismatch);
    check(|it| Request { method: "PUT".to_owned(), ..it }, &Fault::Mismatch);
    let path = "/endpoints/other/invocations".to_owned();
    check(|it| Request { path, ..it }, &Fault::Mismatch);
    check(|it| Request { query: "b=2&a=1".to_owned(), ..it }, &Fault::Mismatch);
    check(|it| it.without("accept"), &Fault::Mismatch);
    let model = "x-amzn-sagemaker-target-model";
    check(|it| it.without(model).with(model, "other"), &Fault::Mismatch);
}

#[test]
fn what_is_added_must_be_signed() {
    let uncovered = |header: &str| Fault::Uncovered {
        header: header.to_owned(),
        problem: "must be a 'SignedHeader' in the AWS Authorization.",
    };
    for header in ["x-amzn-sagemaker-target-variant", "x-amz-target", "x-amz-copy-source"] {
        check(|it| it.with(header, "other"), &uncovered(header));
    }
    let bare = Request { headers: vec![("host".to_owned(), b"h".to_vec())], ..invocation() };
    let bare = signed(bare, FOREVER, now());
    assert_eq!(bare.fault(), None);
    assert_eq!(bare.clone().with("accept", "*/*").fault(), None);
    assert_eq!(bare.clone().with("x-amzn-trace-id", "Root=1").fault(), None);
    for header in ["accept", "content-type"] {
        assert_eq!(bare.clone().with(header, "text/csv").fault(), Some(uncovered(header)));
    }
}

#[test]
fn what_decides_comes_once() {
    let twice =
        |header: &str| Fault::Uncovered { header: header.to_owned(), problem: "must come once." };
    for header in ["host", "x-amz-date", "content-type", "x-amzn-sagemaker-target-model"] {
        check(|it| it.with(header, "other"), &twice(header));
    }
    let fault = Fault::Incomplete(Flaw::Header(MAX_CHARS));
    check(|it| it.with("authorization", "other"), &fault);
}

#[test]
fn keys_and_tokens_are_known_or_not() {
    let fault = |key| signed(invocation(), key, now()).fault();
    assert_eq!(fault(("AKIA", "other", None)), Some(Fault::Mismatch));
    assert_eq!(fault(("OTHER", SECRET, None)), Some(Fault::UnknownKey));
    assert_eq!(fault(("AKIA", SECRET, Some("token"))), Some(Fault::WrongToken));
    assert_eq!(fault(("ASIA", SECRET, None)), Some(Fault::WrongToken));
    assert_eq!(fault(("ASIA", SECRET, Some("tokem"))), Some(Fault::WrongToken));
    check(|it| it.without("authorization"), &Fault::Missing);
}

#[test]
fn a_temporary_key_ends() {
    let later = now() + Duration::HOUR;
    let before =
        signed(invocation(), TEMPORARY, later).verify(&keyring(), later - Duration::SECOND);
    assert!(before.unwrap().is_ok());
    let after = signed(invocation(), TEMPORARY, later).verify(&keyring(), later);
    assert_eq!(after.unwrap().unwrap_err(), Fault::Expired);
}

#[test]
fn clocks_may_be_off_by_five_minutes() {
    let at = |skew: Duration| signed(invocation(), FOREVER, now() + skew).fault();
    for minutes in [-5, 5] {
        assert_eq!(at(Duration::minutes(minutes)), None);
    }
    let expired = "Signature expired: 20261123T040005Z is now earlier than 20261123T040006Z \
                   (20261123T040506Z - 5 min.)";
    assert_eq!(at(Duration::seconds(-301)), Some(Fault::Skewed(expired.to_owned())));
    let early = "Signature not yet current: 20261123T041007Z is still later than \
                 20261123T041006Z (20261123T040506Z + 5 min.)";
    assert_eq!(at(Duration::seconds(301)), Some(Fault::Skewed(early.to_owned())));
}

#[test]
fn a_signature_is_for_one_service_and_day() {
    let text = "Credential should be scoped to correct service: 's3'.";
    check(|it| Request { api: Api::S3, ..it }, &Fault::Scope(text.to_owned()));
    let text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                from HTTP: '20261123' != '20261122', from '20261122T235959Z'.";
    let yesterday = |it: Request| it.without("x-amz-date").with("x-amz-date", "20261122T235959Z");
    check(yesterday, &Fault::Scope(text.to_owned()));
}

#[test]
fn presigned_requests_are_refused() {
    for query in ["X-Amz-Signature=00", "a=1&x-amz-algorithm=AWS4-HMAC-SHA256&b"] {
        check(|it| Request { query: query.to_owned(), ..it }, &Fault::Presigned);
        let query = query.to_owned();
        check(|it| Request { query, ..it.without("authorization") }, &Fault::Presigned);
    }
}

#[test]
fn a_body_keeps_to_what_is_announced_of_it() {
    let put = Request { api: Api::S3, ..invocation() };
    let request = signed(put, FOREVER, now());
    assert_eq!(request.fault(), None);
    let other = Request { body: b"{} ".to_vec(), ..request.clone() };
    assert_eq!(other.fault(), Some(Fault::BodyMismatch));
    let bare = request.without("x-amz-content-sha256");
    assert!(matches!(bare.fault(), Some(Fault::Incomplete(Flaw::BodyHash(_)))));
    // Nobody may say of an invocation that its body does not count.
    let unsigned = invocation().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    let fault = signed(unsigned, FOREVER, now()).fault();
    assert_eq!(fault, Some(Fault::Incomplete(Flaw::BodyHash(""))));
}

/// Where one byte can be changed.
fn places(request: &mut Request) -> Vec<&mut u8> {
    let Request { headers, body, .. } = request;
    let values = headers.iter_mut().filter(|(name, _)| name != "authorization");
    values.flat_map(|(_, value)| value.iter_mut()).chain(body.iter_mut()).collect()
}

proptest! {
    #[test]
    fn any_request_of_the_rust_sdk_is_proved(
        path in "(/[a-z~%25._-]{0,6}){1,4}",
        query in "([a-zA-Z~-]{1,3}=[a-zA-Z0-9~._-]{0,4}&){0,3}z",
        model in "[!-~é]([ !-~é]{0,20}[!-~é])?",
        body: Vec<u8>,
    ) {
        // SDKs differ in whether such a path ends with a slash.
        prop_assume!(!path.ends_with("/.") && !path.ends_with("/.."));
        let path = path.replace('%', "%25");
        let request = Request { path, query, body, ..invocation() };
        let request = request.without("x-amzn-sagemaker-target-model");
        let request = request.with("x-amzn-sagemaker-target-model", &model);
        prop_assert_eq!(signed(request, FOREVER, now()).fault(), None);
    }

    #[test]
    fn any_changed_byte_of_a_header_or_the_body_is_refused(place: Index, byte: u8) {
        let mut request = signed(invocation(), TEMPORARY, now());
        let mut places = places(&mut request);
        let at = place.index(places.len());
        prop_assume!(*places[at] != byte);
        *places[at] = byte;
        // What is no header value never arrives.
        prop_assert!(request.verify(&keyring(), now()).is_none_or(|it| it.is_err()));
    }

    #[test]
    fn any_changed_byte_of_the_authorization_is_refused(place: Index, byte in b' '..=b'~') {
        let mut request = signed(invocation(), TEMPORARY, now());
        let (_, value) = request.headers.iter_mut().find(|it| it.0 == "authorization").unwrap();
        let at = place.index(value.len());
        prop_assume!(value[at] != byte);
        value[at] = byte;
        prop_assert!(request.verify(&keyring(), now()).is_none_or(|it| it.is_err()));
    }

    #[test]
    fn any_changed_character_of_the_target_is_refused(place: Index, byte in b'!'..=b'~') {
        let request = signed(invocation(), TEMPORARY, now());
        let mut target = format!("{}?{}", request.path, request.query).into_bytes();
        let at = place.index(target.len());
        prop_assume!(target[at] != byte);
        target[at] = byte;
        let target = String::from_utf8(target).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let request = Request { path: path.to_owned(), query: query.to_owned(), ..request };
        prop_assert!(request.fault().is_some());
    }
}
