//! A client of a cluster, over its public API alone.

use crate::signing::Key;
use aws_sigv4::http_request::SigningError;
use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};
use shared::{
    api::fleets::{DesiredFleets, FleetsReport},
    api::invocation::{CACHE, INSTANCE, TARGET_MODEL},
    id::{EndpointName, TargetModel},
    token::{self, ClusterToken},
};
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// Longer than the 60 s within which a router must answer: its answer tells more than our timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// Longer than a busy machine takes to answer a call that asks nothing of models.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    router_url: String,
    /// What calls of the control plane are signed with; `None`: they are not.
    key: Option<Key>,
    /// What routers and workers are shown that know their cluster by it.
    token: Option<ClusterToken>,
}

/// What to ask a model.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub endpoint: EndpointName,
    pub target_model: TargetModel,
    pub content_type: Option<String>,
    pub accept: Option<String>,
    pub body: Bytes,
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub elapsed: Duration,
}

/// An instance as the router lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Instance {
    pub instance: String,
    pub address: SocketAddr,
    pub resident_bytes: u64,
    pub n_resident: usize,
    pub in_service: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("could not reach {url}")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the header `{0}` cannot hold its value")]
    Header(HeaderName),
    #[error("{url} answered {status}: {body}")]
    Status { url: String, status: u16, body: String },
    #[error("the call could not be signed")]
    Sign(#[from] SigningError),
    #[error("{operation} was refused: {code}: {message}")]
    Refused { operation: String, code: String, message: String },
    #[error("{url} answered with something else than what it should")]
    Body {
        url: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Client {
    /// A client of a router on this machine, which no proxy of the environment can reach.
    pub fn new(router_url: &str) -> Self {
        Self::with(reqwest::Client::builder().no_proxy(), router_url)
    }

    /// A client of a router anywhere, through the proxy that the environment names.
    pub fn through_proxies(router_url: &str) -> Self {
        Self::with(reqwest::Client::builder(), router_url)
    }

    fn with(builder: reqwest::ClientBuilder, router_url: &str) -> Self {
        // Whoever a router points to shall not be shown the token.
        let http = builder.connect_timeout(CALL_TIMEOUT).redirect(Policy::none()).build();
        Self {
            http: http.expect("a client without TLS has nothing to fail at"),
            router_url: router_url.trim_end_matches('/').to_owned(),
            key: None,
            token: None,
        }
    }

    /// Signs calls of the control plane with `key`.
    #[must_use]
    pub fn signing_with(self, key: Option<Key>) -> Self {
        Self { key, ..self }
    }

    /// Shows `token` in calls that are for the cluster alone.
    #[must_use]
    pub fn showing(self, token: Option<ClusterToken>) -> Self {
        Self { token, ..self }
    }

    pub fn router_url(&self) -> &str {
        &self.router_url
    }

    /// Asks a model. Only a missing answer is an error: see [`Answer::status`].
    pub async fn invoke(&self, invocation: Invocation) -> Result<Answer, ClientError> {
        let mut headers = HeaderMap::new();
        let target_model = HeaderName::from_static(TARGET_MODEL);
        let given = [
            (target_model, Some(invocation.target_model.as_str().to_owned())),
            (CONTENT_TYPE, invocation.content_type),
            (ACCEPT, invocation.accept),
        ];
        for (name, value) in given {
            let Some(value) = value else { continue };
            // Bytes, because SageMaker's clients send names beyond ASCII as they are.
            let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else {
                return Err(ClientError::Header(name));
            };
            headers.insert(name, value);
        }
        let path = format!("/endpoints/{}/invocations", invocation.endpoint);
        self.post(&path, headers, invocation.body).await
    }

    /// Sends any request body anywhere, for what [`Client::invoke`] would not let through.
    pub async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let url = format!("{}{path}", self.router_url);
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
        let started = Instant::now();
        let request = self.http.post(&url).headers(headers).body(body).timeout(ANSWER_TIMEOUT);
        let answer = request.send().await.map_err(unreachable)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.map_err(unreachable)?;
        Ok(Answer { status, headers, body, elapsed: started.elapsed() })
    }

    /// Lists the instances that the router knows.
    pub async fn instances(&self) -> Result<Vec<Instance>, ClientError> {
        let url = format!("{}/manifold/v1/instances", self.router_url);
        let body = self.get(&url).await?;
        serde_json::from_str(&body).map_err(|source| ClientError::Body { url, source })
    }

    /// Tells the router what runs, and hears what shall.
    pub async fn report_fleets(&self, report: &FleetsReport) -> Result<DesiredFleets, ClientError> {
        let url = format!("{}/manifold/v1/fleets", self.router_url);
        self.exchange(Method::POST, url, report).await
    }

    /// Tells a worker how many bytes its models may take.
    pub async fn set_budget(&self, worker: SocketAddr, bytes: u64) -> Result<(), ClientError> {
        let url = format!("http://{worker}/manifold/v1/budget");
        let budget = json!({ "memory_budget_bytes": bytes });
        self.exchange(Method::PUT, url, &budget).await.map(|_: IgnoredAny| ())
    }

    /// Calls the control plane (`CreateModel`, …).
    pub async fn control(&self, operation: &str, input: &Value) -> Result<Value, ClientError> {
        let url = format!("{}/", self.router_url);
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
        let target = format!("SageMaker.{operation}");
        let own = [("x-amz-target", &*target), ("content-type", "application/x-amz-json-1.1")];
        let body = input.to_string();
        let key = self.key.as_ref();
        let signed = key.map(|key| key.sign(&url, &own, body.as_bytes())).transpose()?;
        let mut request = self.http.post(&url).timeout(CALL_TIMEOUT);
        for (name, value) in own {
            request = request.header(name, value);
        }
        for (name, value) in signed.into_iter().flatten() {
            request = request.header(name, value);
        }
        let request = request.body(body);
        let answer = request.send().await.map_err(unreachable)?;
        let is_success = answer.status().is_success();
        let body = answer.bytes().await.map_err(unreachable)?;
        let source = |source| ClientError::Body { url: url.clone(), source };
        let body: Value = serde_json::from_slice(&body).map_err(source)?;
        if is_success {
            return Ok(body);
        }
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        let (code, message) = (text("__type"), text("message"));
        Err(ClientError::Refused { operation: operation.to_owned(), code, message })
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        method: Method,
        url: String,
        body: &impl Serialize,
    ) -> Result<A, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
        let request = self.http.request(method, &url).json(body).timeout(CALL_TIMEOUT);
        let answer = self.show(request).send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(ClientError::Status { url, status: status.as_u16(), body });
        }
        // An answer that says nothing is read as `null`.
        let body = if body.is_empty() { "null" } else { &body };
        serde_json::from_str(body).map_err(|source| ClientError::Body { url, source })
    }

    /// Adds the cluster's token, if there is one. Invocations and the control plane never carry it.
    fn show(&self, request: RequestBuilder) -> RequestBuilder {
        let Some(token) = &self.token else { return request };
        let value = HeaderValue::from_maybe_shared(token.expose());
        let mut value = value.expect("a token has visible characters of ASCII alone");
        value.set_sensitive(true);
        request.header(token::HEADER, value)
    }

    /// Reads a text from a whole URL of the cluster: `/ping`, `/metrics`.
    pub async fn get(&self, url: &str) -> Result<String, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: url.to_owned(), source };
        let request = self.show(self.http.get(url).timeout(CALL_TIMEOUT));
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(ClientError::Status { url: url.to_owned(), status: status.as_u16(), body })
        }
    }
}

impl ClientError {
    /// Whether the router understood the call and did not do it.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Status { .. })
    }
}

impl Answer {
    /// Returns a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The instance that answered, if the router says so.
    pub fn instance(&self) -> &str {
        self.header(INSTANCE)
    }

    pub fn is_hit(&self) -> bool {
        self.header(CACHE) == "hit"
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sums every sample of a metric in a text of `/metrics`, over all its labels.
pub fn metric_sum(text: &str, name: &str) -> f64 {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // A label's value may hold a brace, but no number follows it.
            Some(labelled) => labelled.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(sample).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels_and_nothing_else() {
        let text = "# HELP a_total Things\n# TYPE a counter\na_total{reason=\"x\"} 2\n\
                    a_total{reason=\"{y} \"} 3\na_total_more 7\nb 1.5\nb_total 9\n";
        let check = |name, expected: f64| {
            assert!((metric_sum(text, name) - expected).abs() < f64::EPSILON, "{name}");
        };
        check("a_total", 5.0);
        check("b", 1.5);
        check("none", 0.0);
    }
}
