//! Asks routers what only they know: where models go, and which come.
//!
//! # Invariants
//!
//! - No router keeps an answer from coming that another one gives: whoever fails or says nothing for a
//!   while has the next one asked, too. What all of them say twice costs a load, never an answer.

use crate::trust;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use reqwest::{RequestBuilder, Response, StatusCode, redirect::Policy};
use serde::de::DeserializeOwned;
use shared::{
    api::residents::{Rehome, Rehomed, Resident, Share},
    backoff::Backoff,
    id::InstanceId,
    token::ClusterToken,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Routers are near. One that does not take a connection is not waited for: there are others, or there
/// is nobody to hand over to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a router is waited for before the next is asked beside it. Most models are loaded by then;
/// of one that is not, two routers know then, and its next home loads it once.
const HEAD_START: Duration = Duration::from_secs(1);

/// How long a router may take to tell a share: it waits 3 s for instances that do not answer it.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rounds in a row in which no router answers before none is believed to be there. Pauses of 100, 200
/// and 400 ms: as long as a router's restart takes, and soon over where it has gone first.
pub const MAX_IN_A_ROW: u32 = 4;

/// Between rounds.
pub const PAUSES: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(1) };

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
    /// Who asks.
    instance: InstanceId,
    /// What they are shown.
    token: Option<ClusterToken>,
    /// Which one is asked first: that answered last.
    first: Arc<AtomicUsize>,
}

/// Why no router gave what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error("every router says that there is no other instance for models")]
    Nowhere,
    #[error("no router could be reached")]
    Unreachable(#[source] Option<reqwest::Error>),
    /// It is overloaded, or has just started and not heard of this instance.
    #[error("the router cannot say now ({status}): {text}")]
    NotNow { status: StatusCode, text: String },
    #[error("the router answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the router's answer broke off, or is none")]
    Garbled,
}

/// What came of looking for routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    Found,
    NoneYet,
    /// Nobody looks for any: the worker is by itself.
    Never,
}

/// Returns the URL of an instance at a router.
pub fn instance_url(router: &str, instance: &InstanceId) -> String {
    format!("{}/manifold/v1/instances/{instance}", router.trim_end_matches('/'))
}

impl RouterClient {
    pub fn new(
        found: watch::Receiver<BTreeSet<String>>,
        instance: InstanceId,
        token: Option<ClusterToken>,
    ) -> reqwest::Result<Self> {
        // A proxy of the environment is for the world, not for routers; and nobody but them shall be
        // shown the token, wherever they point. How long an answer may take, whoever asks decides.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let http = http.redirect(Policy::none());
        Ok(Self { http: http.build()?, found, instance, token, first: Arc::default() })
    }

    /// Waits until some router is found, if any is looked for.
    pub async fn find(&self) -> Sought {
        let mut found = self.found.clone();
        match timeout(FIND_PATIENCE, found.wait_for(|found| !found.is_empty())).await {
            Ok(Ok(_)) => Sought::Found,
            Ok(Err(_)) => Sought::Never,
            Err(_) => Sought::NoneYet,
        }
    }

    /// Has a model warm elsewhere. Takes as long as its load; whoever asks has the patience.
    pub async fn rehome(&self, model: &Resident) -> Result<Rehomed, RouterError> {
        let Resident { artifact, serves_stale, .. } = model.clone();
        let model = Rehome { artifact, serves_stale };
        self.ask(|url| self.http.post(format!("{url}/rehome")).json(&model)).await
    }

    /// Asks what will be this instance's once it serves.
    pub async fn share(&self) -> Result<Share, RouterError> {
        self.ask(|url| self.http.get(format!("{url}/share")).timeout(SHARE_TIMEOUT)).await
    }

    /// Asks the routers in rounds until one answers, or it is known that none will.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn(&str) -> RequestBuilder,
    ) -> Result<T, RouterError> {
        let mut n_rounds = 0;
        loop {
            match self.ask_each(&request).await {
                Err(RouterError::Unreachable(_) | RouterError::NotNow { .. })
                    if n_rounds + 1 < MAX_IN_A_ROW =>
                {
                    sleep(PAUSES.delay(n_rounds)).await;
                    n_rounds += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Asks each router once: the next one when those before have failed, or had their head start.
    async fn ask_each<T: DeserializeOwned>(
        &self,
        request: &impl Fn(&str) -> RequestBuilder,
    ) -> Result<T, RouterError> {
        let mut routers: Vec<String> = self.found.borrow().iter().cloned().collect();
        let first = self.first.load(Ordering::Relaxed) % routers.len().max(1);
        routers.rotate_left(first);
        let n_routers = routers.len();
        let mut left = routers.iter().enumerate();
        let (mut asked, mut failure) = (FuturesUnordered::new(), None);
        loop {
            if let Some((nth, router)) = left.next() {
                let url = instance_url(router, &self.instance);
                let request = trust::show(self.token.as_ref(), request(&url));
                asked.push(async move { (nth, answer::<T>(request).await) });
            } else if asked.is_empty() {
                return Err(failure.unwrap_or(RouterError::Unreachable(None)));
            }
            let next = asked.next();
            let is_last = left.len() == 0;
            // Nobody is left to ask beside the last one: whoever asks ends the wait for it.
            let next =
                if is_last { next.await } else { timeout(HEAD_START, next).await.ok().flatten() };
            match next {
                Some((nth, Ok(answer))) => {
                    self.first.store((first + nth) % n_routers, Ordering::Relaxed);
                    return Ok(answer);
                }
                Some((_, Err(error))) => failure = Some(graver(failure, error)),
                None => {}
            }
        }
    }
}

/// Of what two routers said, what is to be believed: that models can go nowhere only if both say so.
fn graver(before: Option<RouterError>, error: RouterError) -> RouterError {
    let rank = |error: &RouterError| match error {
        RouterError::Nowhere => 0,
        RouterError::Unreachable(_) | RouterError::NotNow { .. } => 1,
        RouterError::Refused { .. } | RouterError::Garbled => 2,
    };
    match before {
        Some(before) if rank(&before) >= rank(&error) => before,
        _ => error,
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, RouterError> {
    let answer = request.send().await;
    read(answer.map_err(|error| RouterError::Unreachable(Some(error)))?).await
}

async fn read<T: DeserializeOwned>(mut answer: Response) -> Result<T, RouterError> {
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
        return Err(match status {
            StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => {
                RouterError::NotNow { status, text }
            }
            _ => RouterError::Refused { status, text },
        });
    }
    serde_json::from_slice(&body).map_err(|_| RouterError::Garbled)
}
