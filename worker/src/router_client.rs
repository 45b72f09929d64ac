//! Asks routers what only they know: where models go, and which come.

use crate::trust;
use reqwest::{Response, StatusCode};
use shared::{
    api::residents::{Rehome, Rehomed, Resident, Share},
    token::ClusterToken,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{sync::watch, time::timeout};

/// Routers are near. One that does not take a connection is not waited for: there are others, or there
/// is nobody to hand over to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long routers may take to be found where etcd or DNS name them: that is one question.
const FIND_PATIENCE: Duration = Duration::from_secs(5);

/// A share of `MAX_SHARE` models with the longest addresses; a refusal is a line of text.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Asks routers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RouterClient {
    http: reqwest::Client,
    /// `http://host:port` of each, as they are found.
    found: watch::Receiver<BTreeSet<String>>,
    /// What they are shown.
    token: Option<ClusterToken>,
}

/// Why no router gave what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error("no router could be reached")]
    Unreachable(#[source] Option<reqwest::Error>),
    #[error("the router says that there is no other instance for models")]
    Nowhere,
    #[error("the router answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the router's answer broke off, or is none")]
    Garbled,
}

impl RouterClient {
    pub fn new(
        found: watch::Receiver<BTreeSet<String>>,
        token: Option<ClusterToken>,
    ) -> reqwest::Result<Self> {
        // A proxy of the environment is for the world, not for routers. How long an answer may take,
        // whoever asks decides.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        Ok(Self { http: http.build()?, found, token })
    }

    /// Waits until some router is found, if any is looked for.
    pub async fn find(&self) {
        let mut found = self.found.clone();
        // Nobody is found: not in time, or because nobody looks for any.
        let _ = timeout(FIND_PATIENCE, found.wait_for(|found| !found.is_empty())).await;
    }

    /// Has a model warm elsewhere. `at` are URLs of this instance at routers: the first that can be
    /// reached is asked.
    pub async fn rehome(&self, at: &[String], model: &Resident) -> Result<Rehomed, RouterError> {
        let Resident { artifact, serves_stale, .. } = model.clone();
        let model = Rehome { artifact, serves_stale };
        let ask = |url: &str| self.http.post(format!("{url}/rehome")).json(&model);
        self.ask(at, ask).await
    }

    /// Asks what will be this instance's once it serves.
    pub async fn share(&self, at: &[String]) -> Result<Share, RouterError> {
        self.ask(at, |url| self.http.get(format!("{url}/share"))).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        at: &[String],
        request: impl Fn(&str) -> reqwest::RequestBuilder,
    ) -> Result<T, RouterError> {
        let mut unreachable = RouterError::Unreachable(None);
        for url in at {
            match trust::show(self.token.as_ref(), request(url)).send().await {
                Ok(answer) => return read(answer).await,
                Err(error) => unreachable = RouterError::Unreachable(Some(error)),
            }
        }
        Err(unreachable)
    }
}

async fn read<T: serde::de::DeserializeOwned>(mut answer: Response) -> Result<T, RouterError> {
    let status = answer.status();
    if status == StatusCode::GONE {
        return Err(RouterError::Nowhere);
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| RouterError::Garbled)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(RouterError::Garbled);
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body).into_owned();
        return Err(RouterError::Refused { status, text });
    }
    serde_json::from_slice(&body).map_err(|_| RouterError::Garbled)
}
