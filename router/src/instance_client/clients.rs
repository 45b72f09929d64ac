//! One client, and so one set of kept connections, for each instance.
//!
//! awc closes an idle connection only when the next invocation looks for one to the same address.
//! Those to an address that nobody uses any more would stay open for ever, a file each.

use super::connection::{Connector, EndOfStream};
use crate::{
    config::InstanceConfig,
    instance::{Instance, Life},
};
use awc::http::{Uri, header::HOST};
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::time::interval;

/// How often clients of instances that are gone are looked for. Nothing waits for it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Where invocations go. A client is one instance's, and requests carry its address and its name: awc
/// hashes and compares the name in here, several times for each.
const URI: &str = "http://i/invocations";

/// Room for the headers of nearly every invocation: growing moves all that are there.
const N_HEADERS: usize = 14;

/// Connections live for a day: their age is no reason to close them.
const CONNECTION_LIFETIME: Duration = Duration::from_hours(24);

/// The clients of one HTTP thread, by the address of their instance. Cheap to clone.
#[derive(Clone)]
pub(super) struct Clients(Rc<Inner>);

struct Inner {
    end_of_stream: EndOfStream,
    config: InstanceConfig,
    uri: Uri,
    /// By the id of the process: one at the same address as another has connections of its own.
    kept: RefCell<HashMap<usize, Kept>>,
}

struct Kept {
    client: awc::Client,
    life: Life,
}

impl Clients {
    /// Sweeps from now on, so it needs the thread's runtime.
    pub(super) fn new(config: InstanceConfig, end_of_stream: EndOfStream) -> Self {
        let inner = Rc::new(Inner {
            end_of_stream,
            config,
            uri: Uri::from_static(URI),
            kept: RefCell::default(),
        });
        actix_web::rt::spawn(sweep(Rc::downgrade(&inner)));
        Self(inner)
    }

    /// Begins a `POST` to an instance.
    pub(super) fn post(&self, instance: &Instance) -> awc::ClientRequest {
        let mut kept = self.0.kept.borrow_mut();
        // Holding its life keeps the id from being another's.
        let new = || Kept { client: self.0.client(), life: instance.life() };
        let kept = kept.entry(instance.process_id()).or_insert_with(new);
        let mut request = kept.client.post(self.0.uri.clone()).address(instance.address);
        let headers = request.headers_mut();
        headers.reserve(N_HEADERS);
        headers.insert(HOST, instance.host.clone());
        request
    }
}

impl Inner {
    fn client(&self) -> awc::Client {
        let InstanceConfig { connect_timeout, keep_alive, .. } = self.config;
        client(Connector::new(self.end_of_stream.clone()), connect_timeout, keep_alive)
    }
}

/// Drops clients together with the last who knows their instance, which closes what is idle.
async fn sweep(clients: Weak<Inner>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(clients) = clients.upgrade() else { return };
        clients.kept.borrow_mut().retain(|_, kept| !kept.life.is_over());
    }
}

pub(crate) fn client(
    connector: Connector,
    connect_timeout: Duration,
    keep_alive: Duration,
) -> awc::Client {
    let connector = awc::Connector::new()
        .connector(connector)
        // In flight is bounded where invocations come in, not by a hidden queue here.
        .limit(0)
        .timeout(connect_timeout)
        .conn_keep_alive(keep_alive)
        .conn_lifetime(CONNECTION_LIFETIME);
    awc::Client::builder()
        .connector(connector)
        // Deadlines are the invocation's own; awc's would cost a second timer.
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish()
}
