//! Resolves the name behind which routers are. In a task of its own: a slow name server delays nobody.

use std::{collections::BTreeSet, time::Duration};
use tokio::{
    net::lookup_host,
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

/// How often a name is resolved: routers come and go by the minute, and heartbeats say who is gone.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a name server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the name server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// The URLs of those that are behind the name.
    Named(BTreeSet<String>),
    /// It cannot be asked.
    #[default]
    Unknown,
}

/// Asks again and again, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Names {
    task: JoinHandle<()>,
    answers: watch::Receiver<Answer>,
}

impl Names {
    /// Begins to resolve `host:port`.
    pub(super) fn follow(name: String) -> Self {
        let (publish, answers) = watch::channel(Answer::default());
        Self { task: tokio::spawn(follow(name, publish)), answers }
    }

    pub(super) fn answers(&self) -> watch::Receiver<Answer> {
        self.answers.clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(name: String, publish: watch::Sender<Answer>) {
    let mut lookups = interval(INTERVAL);
    lookups.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = None;
    loop {
        lookups.tick().await;
        let answer = resolve(&name).await;
        log_change(&name, &mut failing, answer.as_ref().err());
        let answer = answer.map_or(Answer::Unknown, Answer::Named);
        publish.send_if_modified(|before| {
            let is_news = *before != answer;
            *before = answer;
            is_news
        });
    }
}

async fn resolve(name: &str) -> Result<BTreeSet<String>, String> {
    match timeout(PATIENCE, lookup_host(name)).await {
        Ok(Ok(addresses)) => Ok(addresses.map(|address| format!("http://{address}")).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name server does not answer".to_owned()),
    }
}

/// Logs when the name cannot be resolved and when it can again, not at every try.
fn log_change(name: &str, failing: &mut Option<String>, reason: Option<&String>) {
    match reason {
        Some(reason) if failing.as_ref() != Some(reason) => {
            warn!(name, reason, "routers not looked up; those that are known stay");
        }
        None if failing.is_some() => info!(name, "routers are looked up again"),
        _ => {}
    }
    *failing = reason.cloned();
}
