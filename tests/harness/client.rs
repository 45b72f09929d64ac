//! A client of a test: the public API, and what a broken client might send.

use bytes::Bytes;
use driver::client::{Answer, ClientError, Instance, Invocation, metric_sum};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use shared::token::TokenFile;
use std::ops::Deref;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: driver::client::Client,
}

/// An answer, and what tests ask of one.
#[derive(Clone, Debug)]
pub struct TestAnswer(Answer);

impl Client {
    pub fn new(router_url: &str) -> Self {
        Self { inner: driver::client::Client::new(router_url) }
    }

    /// Shows the token of this file in calls that are for the cluster alone, as it is then.
    #[must_use]
    pub fn showing(self, file: TokenFile) -> Self {
        let inner = self.inner.showing(Some(file.token()));
        // It ends with the test's runtime.
        tokio::spawn(TokenFile::keep_current(Some(file)));
        Self { inner }
    }

    pub fn router_url(&self) -> &str {
        self.inner.router_url()
    }

    /// Asks a model of the test endpoint. Only a missing answer is an error.
    pub async fn try_invoke(&self, model: &str, body: &[u8]) -> Result<TestAnswer, ClientError> {
        self.try_invoke_at(driver::endpoint::ENDPOINT, model, body).await
    }

    /// Asks a model of any endpoint.
    pub async fn try_invoke_at(
        &self,
        endpoint: &str,
        model: &str,
        body: &[u8],
    ) -> Result<TestAnswer, ClientError> {
        let invocation = Invocation {
            endpoint: endpoint.parse().expect("the test names a valid endpoint"),
            target_model: model.parse().expect("the test names a valid model"),
            content_type: Some("application/octet-stream".to_owned()),
            accept: None,
            body: Bytes::copy_from_slice(body),
        };
        self.inner.invoke(invocation).await.map(TestAnswer)
    }

    /// Calls the control plane. A refusal is an error, too.
    pub async fn try_control(&self, operation: &str, input: Value) -> Result<Value, ClientError> {
        self.inner.control(operation, &input).await
    }

    /// Calls the control plane, and fails the test if it refuses.
    #[track_caller]
    pub fn control(&self, operation: &str, input: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        let operation = operation.to_owned();
        async move {
            let output = self.inner.control(&operation, &input).await;
            output.unwrap_or_else(|error| panic!("{operation} at {caller}: {error}"))
        }
    }

    /// Asks a model of the test endpoint, and fails the test if nothing answers.
    #[track_caller]
    pub fn invoke(&self, model: &str, body: &[u8]) -> impl Future<Output = TestAnswer> {
        let answer = self.try_invoke(model, body);
        async { answer.await.expect("the router answers") }
    }

    /// Sends any headers and body to any path.
    pub async fn post(&self, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> TestAnswer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("the test names a header");
            map.append(name, HeaderValue::from_bytes(value).expect("HTTP can carry the value"));
        }
        let answer = self.inner.post(path, map, Bytes::copy_from_slice(body)).await;
        TestAnswer(answer.expect("the router answers"))
    }

    pub async fn instances(&self) -> Vec<Instance> {
        self.inner.instances().await.expect("the router lists its instances")
    }

    pub async fn n_in_service(&self) -> usize {
        self.instances().await.iter().filter(|instance| instance.in_service).count()
    }

    /// Sums a metric of the process at `url` over all its labels.
    pub async fn metric(&self, url: &str, name: &str) -> f64 {
        let text = self.inner.get(&format!("{url}/metrics")).await.expect("metrics are served");
        metric_sum(&text, name)
    }
}

impl TestAnswer {
    /// Whether it is a good answer of a model that was in memory.
    pub fn is_warm(&self) -> bool {
        self.status == 200 && self.is_hit()
    }

    /// Returns the body as JSON, or fails the test.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value = serde_json::from_slice(&self.body);
        value.unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Fails the test unless the answer is this error, as SDKs read it.
    #[track_caller]
    pub fn expect_error(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let kind = self.header("x-amzn-errortype");
        assert_eq!(kind.split(':').next(), Some(name), "{}", self.text());
        assert!(!self.header("x-amzn-requestid").is_empty(), "an error without a request id");
        let json = self.json();
        let message = json.get("Message").or(json.get("message")).and_then(Value::as_str);
        message.unwrap_or_else(|| panic!("an error without a message: {json}")).to_owned()
    }
}

impl Deref for TestAnswer {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.0
    }
}
