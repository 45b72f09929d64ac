//! What is asked of a backend. Whatever is asked has an end in time, and its answer one in length.

use super::{
    BackendUrl,
    answers::{self, BackendError, Page, Said},
};
use crate::runtime::{InputHead, ModelInput};
use bytes::{Bytes, BytesMut};
use reqwest::{
    RequestBuilder, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde_json::json;
use shared::{api::invocation::TARGET_MODEL, telemetry::Chain};
use std::time::Duration;
use tokio::time::timeout;

/// The platform gives a connection 250 ms; on a machine that starts a container beside it, that is little.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The platform's patience with a ping, and ours with a list.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next invocation: servers close theirs after 2 s at the earliest,
/// and one that is closed at that very moment fails an invocation.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest answer that is not a model's: a page of 100 models takes 20 KB, a traceback of Python less.
const MAX_OTHER_BYTES: usize = 1 << 20;

/// Pages of a list: 100,000 models, more than any server holds.
const MAX_PAGES: usize = 1000;

/// What the platform passes on of a request's head, beside its content type and what is wanted.
const PASSED_ON: &str = "x-amzn-sagemaker-";

/// Speaks to one backend. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// `http://host:port`
    url: String,
}

impl Client {
    pub(super) fn new(url: &BackendUrl) -> reqwest::Result<Self> {
        // A proxy of the environment is for the world, and a backend sends nobody elsewhere.
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none());
        // Python servers compare names as they come, and clients write them so.
        let http = http.http1_title_case_headers();
        let http = http.connect_timeout(CONNECT_TIMEOUT).pool_idle_timeout(IDLE_TIMEOUT);
        Ok(Self { http: http.build()?, url: url.to_string() })
    }

    /// Whether it says that it is well.
    pub(super) async fn ping(&self) -> Result<(), BackendError> {
        let said = self.ask(self.http.get(format!("{}/ping", self.url)), PING_TIMEOUT).await?;
        if said.status == 200 {
            return Ok(());
        }
        Err(BackendError::NoAnswer(format!("its /ping says {}", said.status)))
    }

    /// The names of the models that it has.
    pub(super) async fn list(&self) -> Result<Vec<String>, BackendError> {
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let Page { names: more, next } = self.page(token.as_deref()).await?;
            let is_over = more.is_empty() || next.is_none() || next == token;
            names.extend(more);
            token = next;
            if is_over {
                break;
            }
        }
        Ok(names)
    }

    async fn page(&self, token: Option<&str>) -> Result<Page, BackendError> {
        let mut url = format!("{}/models", self.url);
        if let Some(token) = token {
            let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
            url = format!("{url}?next_page_token={token}");
        }
        let request = self.http.get(url).header(ACCEPT, "application/json");
        answers::page(&self.ask(request, LIST_TIMEOUT).await?)
    }

    /// Whether it has a model.
    pub(super) async fn has(&self, name: &str) -> Result<bool, BackendError> {
        let request = self.http.get(format!("{}/models/{name}", self.url));
        Ok(self.ask(request, LIST_TIMEOUT).await?.status != 404)
    }

    pub(super) async fn load(
        &self,
        name: &str,
        target: &str,
        path: &str,
        patience: Duration,
    ) -> Result<Said, BackendError> {
        let body = json!({ "model_name": name, "url": path });
        let request = self.http.post(format!("{}/models", self.url)).json(&body);
        self.ask(request.headers(target_model(target)), patience).await
    }

    /// Has it unload a model, and says whether it has.
    pub(super) async fn unload(
        &self,
        name: &str,
        target: &str,
        patience: Duration,
    ) -> Result<bool, BackendError> {
        let request = self.http.delete(format!("{}/models/{name}", self.url));
        let said = self.ask(request.headers(target_model(target)), patience).await?;
        Ok(answers::unloaded(&said))
    }

    /// Has a model run. Takes as long as it takes: whoever waits has a deadline.
    pub(super) async fn invoke(
        &self,
        name: &str,
        target: &str,
        input: ModelInput,
        max_bytes: usize,
    ) -> Result<Said, BackendError> {
        let request = self.http.post(format!("{}/models/{name}/invoke", self.url));
        let request = request.headers(headers(&input, target)).body(input.body);
        answer(request.send().await.map_err(failed)?, max_bytes).await
    }

    async fn ask(&self, request: RequestBuilder, patience: Duration) -> Result<Said, BackendError> {
        let asked = async { answer(request.send().await.map_err(failed)?, MAX_OTHER_BYTES).await };
        let late = |_| Err(BackendError::NoAnswer(format!("none came within {patience:?}")));
        timeout(patience, asked).await.unwrap_or_else(late)
    }
}

/// What the platform passes on of a request.
fn headers(input: &ModelInput, target: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let heads: &[(String, String)] =
        input.head.as_deref().map_or(&[], |it: &InputHead| &it.headers);
    for (name, value) in heads {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
            && name.as_str().starts_with(PASSED_ON)
        {
            headers.append(name, value);
        }
    }
    for (name, value) in [(CONTENT_TYPE, &input.content_type), (ACCEPT, &input.accept)] {
        let value = value.as_ref().and_then(|it| HeaderValue::from_bytes(it.as_bytes()).ok());
        value.map(|value| headers.insert(name, value));
    }
    headers.extend(target_model(target));
    headers
}

/// The same at a load, an invocation and an unload: Triton's images find models by it.
fn target_model(target: &str) -> HeaderMap {
    let value = HeaderValue::from_bytes(target.as_bytes());
    value.map(|it| (HeaderName::from_static(TARGET_MODEL), it)).into_iter().collect()
}

async fn answer(mut response: Response, max_bytes: usize) -> Result<Said, BackendError> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(BackendError::TooLong(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Said { status, headers, body: Bytes::from(body) })
}

fn failed(error: reqwest::Error) -> BackendError {
    let is_connect = error.is_connect();
    // The URL says nothing that is not known, and everybody reads it.
    let text = Chain(&error.without_url()).to_string();
    if is_connect { BackendError::Unreachable(text) } else { BackendError::NoAnswer(text) }
}
