//! The requests of a run, made before it starts as far as they can be: an invocation costs a copy of
//! a few headers.

use super::{
    plan::{Plan, PlanError},
    popularity::Choice,
};
use crate::signing::Key;
use aws_sigv4::http_request::SigningError;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Uri,
    body::{Body, Frame, SizeHint},
    header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use shared::api::invocation::TARGET_MODEL;
use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// A router takes signatures that are up to 5 minutes off.
const SIGNATURE_LIFE: Duration = Duration::from_mins(1);

/// Of about 1 KiB each. A popular model's is among them.
const MAX_SIGNATURES: usize = 16 * 1024;

/// A body in one piece.
#[derive(Debug)]
pub(super) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[derive(Debug)]
pub(super) struct Requests {
    path: Uri,
    /// `host:port` of each router.
    authorities: Vec<String>,
    /// Headers by router, then body; the target model is yet to be put in.
    headers: Vec<Vec<HeaderMap>>,
    targets: Vec<HeaderValue>,
    bodies: Vec<Bytes>,
    signer: Option<Signer>,
}

#[derive(Debug)]
struct Signer {
    key: Key,
    /// The signed URL of each router.
    urls: Vec<String>,
    made: RefCell<Made>,
}

type Signature = Vec<(HeaderName, HeaderValue)>;

/// Signatures of requests that were made before, by router and choice.
#[derive(Debug)]
struct Made {
    since: Instant,
    signatures: HashMap<(usize, u32, u32), Signature>,
}

impl Requests {
    pub(super) fn new(plan: &Plan) -> Result<Self, PlanError> {
        let path = format!("/endpoints/{}/invocations", plan.endpoint);
        let authorities: Vec<String> =
            plan.routers.iter().map(|url| authority(url)).collect::<Result<_, _>>()?;
        let headers = authorities.iter().map(|host| headers(host, plan)).collect::<Result<_, _>>();
        let targets = plan.targets.iter().map(|target| value(target.as_str()));
        let urls = authorities.iter().map(|host| format!("http://{host}{path}")).collect();
        let made = || RefCell::new(Made { since: Instant::now(), signatures: HashMap::new() });
        Ok(Self {
            headers: headers?,
            targets: targets.collect::<Result<_, _>>()?,
            bodies: plan.bodies.iter().map(|body| body.bytes.clone()).collect(),
            signer: plan.key.clone().map(|key| Signer { key, urls, made: made() }),
            path: path.parse().expect("an endpoint's name is a part of a path"),
            authorities,
        })
    }

    pub(super) fn authorities(&self) -> &[String] {
        &self.authorities
    }

    pub(super) fn body(&self, choice: Choice) -> &Bytes {
        &self.bodies[choice.body as usize]
    }

    /// Makes a request for a router.
    pub(super) fn request(
        &self,
        router_idx: usize,
        choice: Choice,
    ) -> Result<Request<Whole>, SigningError> {
        let body = self.body(choice);
        let mut request = Request::new(Whole(Some(body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let mut headers = self.headers[router_idx][choice.body as usize].clone();
        headers.insert(TARGET_MODEL, self.targets[choice.target as usize].clone());
        if let Some(signer) = &self.signer {
            signer.sign(router_idx, choice, &mut headers, body)?;
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl Signer {
    fn sign(
        &self,
        router_idx: usize,
        choice: Choice,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<(), SigningError> {
        let mut made = self.made.borrow_mut();
        if made.since.elapsed() > SIGNATURE_LIFE || made.signatures.len() == MAX_SIGNATURES {
            *made = Made { since: Instant::now(), signatures: HashMap::new() };
        }
        let id = (router_idx, choice.target, choice.body);
        let signature = match made.signatures.entry(id) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => place.insert(self.signature(router_idx, headers, body)?),
        };
        headers.extend(signature.iter().cloned());
        Ok(())
    }

    fn signature(
        &self,
        router_idx: usize,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Signature, SigningError> {
        // The host is signed by its URL. Names beyond ASCII are signed as their bytes.
        let given: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| **name != HOST)
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.as_bytes())))
            .map(|(name, value)| (name, value.expect("they were made of texts")))
            .collect();
        let signed = self.key.sign(&self.urls[router_idx], &given, body)?;
        let header = |(name, value): (String, String)| {
            (HeaderName::try_from(name), HeaderValue::try_from(value))
        };
        let header = signed.into_iter().map(header);
        Ok(header.filter_map(|(name, value)| Some((name.ok()?, value.ok()?))).collect())
    }
}

fn headers(host: &str, plan: &Plan) -> Result<Vec<HeaderMap>, PlanError> {
    let accept = plan.accept.as_deref().map(value).transpose()?;
    let host = value(host)?;
    let of_body = |content_type: Option<&str>| {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(HOST, host.clone());
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, value(content_type)?);
        }
        if let Some(accept) = &accept {
            headers.insert(ACCEPT, accept.clone());
        }
        // Its place, so that putting in the real one does not make room anew each time.
        headers.insert(TARGET_MODEL, HeaderValue::from_static(""));
        Ok(headers)
    };
    plan.bodies.iter().map(|body| of_body(body.content_type.as_deref())).collect()
}

/// Bytes, because SageMaker's clients send names beyond ASCII as they are.
fn value(text: &str) -> Result<HeaderValue, PlanError> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| PlanError::Header(text.to_owned()))
}

/// Returns `host:port` of a router's URL.
fn authority(url: &str) -> Result<String, PlanError> {
    let refused = || PlanError::RouterUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let is_plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
    let authority = uri.authority().filter(|it| is_plain && !it.as_str().contains('@'));
    let authority = authority.ok_or_else(refused)?;
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Input;

    fn plan() -> Plan {
        let targets = ["a.tar.gz".parse().unwrap(), "ä b.tar.gz".parse().unwrap()];
        Plan::closed("http://127.0.0.1:8080/", &targets, 1)
    }

    #[test]
    fn request_has_what_a_router_needs_and_nothing_else() {
        let mut plan = plan();
        let content_type = Some("image/jpeg".to_owned());
        plan.bodies.push(Input { name: String::new(), content_type, bytes: Bytes::from("cat") });
        let requests = Requests::new(&plan).unwrap();
        let choice = Choice { target: 1, body: 1, is_cold: false };
        let request = requests.request(0, choice).unwrap();
        assert_eq!(request.uri(), "/endpoints/demo/invocations");
        assert_eq!(request.headers()[HOST], "127.0.0.1:8080");
        assert_eq!(request.headers()[CONTENT_TYPE], "image/jpeg");
        assert_eq!(request.headers()[TARGET_MODEL].as_bytes(), "ä b.tar.gz".as_bytes());
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.body().size_hint().exact(), Some(3));
    }

    #[test]
    fn signed_request_is_signed_once_a_while() {
        let key = Some(Key::new("AKID".to_owned(), "secret".to_owned()));
        let requests = Requests::new(&Plan { key, ..plan() }).unwrap();
        let signature = |target| {
            let request = requests.request(0, Choice { target, body: 0, is_cold: false }).unwrap();
            request.headers()["authorization"].to_str().unwrap().to_owned()
        };
        let first = signature(1);
        assert!(first.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{first}");
        assert!(
            first.contains("content-type;host;x-amz-date;x-amzn-sagemaker-target-model"),
            "{first}"
        );
        assert_eq!(signature(1), first);
        assert_ne!(signature(0), first);
    }

    #[test]
    fn only_plain_urls_of_routers_are_taken() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(authority(url).ok().as_deref(), expected, "{url}");
        };
        check("http://127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("http://router/", Some("router:80"));
        check("http://[::1]:8080", Some("[::1]:8080"));
        for bad in ["https://a", "a:80", "http://a/b", "http://u@a", "", "http://"] {
            check(bad, None);
        }
    }
}
