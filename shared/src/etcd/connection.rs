//! The connection to etcd: made by one attempt at a time, which all who need it wait for.

use super::{Access, CALL_PATIENCE, EtcdError, RETRY, convert};
use etcd_client::{Client, ConnectOptions};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// What an attempt came to; `None`: it goes on.
type Outcome = watch::Receiver<Option<Result<Link, EtcdError>>>;

/// One connection at a time. Its lock is never held while somebody waits.
pub(super) struct Connection {
    access: Arc<Access>,
    state: Arc<Mutex<State>>,
}

/// A connection that was made.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    /// Counts the attempts, so that only who used this connection gives it up.
    pub(super) number: u64,
    pub(super) host: String,
}

#[derive(Default)]
struct State {
    /// The last attempt; `None`: there was none, or its connection was given up.
    attempt: Option<Outcome>,
    number: u64,
    /// Which host is talked to.
    host_idx: usize,
    /// Attempts in a row that failed.
    n_failed: usize,
    /// Until when a failure stands.
    failed_until: Option<Instant>,
}

impl Connection {
    /// Nothing is connected yet.
    pub(super) fn new(access: Arc<Access>) -> Self {
        Self { access, state: Arc::default() }
    }

    /// Returns the connection, once it is there.
    pub(super) async fn link(&self) -> Result<Link, EtcdError> {
        let (mut outcome, host) = self.attempt();
        // An attempt that panicked is over, too.
        let outcome = outcome.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        outcome.unwrap_or(Err(EtcdError::Unreachable(host, None)))
    }

    /// A connection is of no use any more: the next one is to the next host.
    pub(super) fn give_up(&self, number: u64) {
        let mut state = self.state.lock();
        if state.number == number && state.attempt.take().is_some() {
            state.host_idx += 1;
        }
    }

    /// Returns the attempt that stands, else a new one, and its host.
    fn attempt(&self) -> (Outcome, String) {
        let mut state = self.state.lock();
        let hosts = &self.access.address.hosts;
        let standing = state.attempt.clone().filter(|it| state.stands(it));
        let outcome = standing.unwrap_or_else(|| {
            state.number += 1;
            let (publish, outcome) = watch::channel(None);
            state.attempt = Some(outcome.clone());
            let host = hosts[state.host_idx % hosts.len()].clone();
            let (access, number) = (Arc::clone(&self.access), state.number);
            let shared = Arc::clone(&self.state);
            // A task of its own: who asked first may leave.
            tokio::spawn(async move {
                let made = connect(&access, host).await;
                let made = made.map(|(client, host)| Link { client, number, host });
                shared.lock().ended(made.is_ok(), access.address.hosts.len());
                publish.send_replace(Some(made));
            });
            outcome
        });
        (outcome, hosts[state.host_idx % hosts.len()].clone())
    }
}

impl State {
    fn stands(&self, attempt: &Outcome) -> bool {
        match &*attempt.borrow() {
            Some(Ok(_)) => true,
            Some(Err(_)) => self.failed_until.is_some_and(|until| Instant::now() < until),
            None => attempt.has_changed().is_ok(),
        }
    }

    fn ended(&mut self, is_made: bool, n_hosts: usize) {
        if is_made {
            (self.n_failed, self.failed_until) = (0, None);
            return;
        }
        self.host_idx += 1;
        self.n_failed += 1;
        // Other hosts are tried at once. The first delay only: callers wait longer and longer themselves.
        let are_all_tried = self.n_failed.is_multiple_of(n_hosts.max(1));
        self.failed_until = are_all_tried.then(|| Instant::now() + RETRY.delay(0));
    }
}

async fn connect(access: &Access, host: String) -> Result<(Client, String), EtcdError> {
    let options = access.read().await?;
    // A member that has lost the others must say so, instead of showing what it last knew.
    let options: ConnectOptions = options
        .with_connect_timeout(CALL_PATIENCE)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    let url = access.address.url(&host);
    match timeout(CALL_PATIENCE, Client::connect([url], Some(options))).await {
        Ok(Ok(client)) => Ok((client, host)),
        Ok(Err(error)) => Err(convert::error(host, error)),
        Err(_) => Err(EtcdError::Unreachable(host, None)),
    }
}
