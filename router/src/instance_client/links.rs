//! The connections of one HTTP thread to instances: kept while they are idle, for each process its own.
//!
//! # Invariants
//!
//! - What is kept is bounded in number and age, and goes with the last who knows its instance.
//! - A request goes over a second connection only if surely nothing of it was taken over the first.

use super::{
    DEAF,
    head::Head,
    link::{Buffers, Failure, Link, Response},
};
use crate::{
    config::InstanceConfig,
    instance::{Instance, Life},
    sockets::{INSTANCE_PATIENCE, notice_loss},
};
use actix_http::{ServiceConfig, h1::ClientCodec, header::HeaderValue};
use awc::error::{ConnectError, SendRequestError};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How often is looked for what need not be kept any more. Nothing waits for it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The pause of a thread that has invocations. tokio wakes its own thread with a system call for each
/// timer that is due before all others, as an invocation's is; but for none behind this one.
const TICK: Duration = DEAF.checked_div(2).expect("two is not zero");

/// Idle connections of a thread to one process. Each is a file, here and there; more than these are
/// in use at once only in a burst.
const MAX_IDLE: usize = 256;

/// The links of one HTTP thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Links(Rc<Inner>);

struct Inner {
    config: InstanceConfig,
    /// One for all: each has a task that keeps its clock.
    http: ServiceConfig,
    buffers: Rc<Buffers>,
    /// Whether anything was sent since the last tick.
    is_busy: Cell<bool>,
    /// By the id of the process: one at the same address as another has connections of its own.
    kept: RefCell<HashMap<usize, Kept>>,
}

struct Kept {
    shelf: Rc<Shelf>,
    life: Life,
}

/// The idle links to one process, the last used last.
pub(super) struct Shelf {
    idle: RefCell<Vec<Idle>>,
    keep_alive: Duration,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Links {
    /// Sweeps from now on, so it needs the thread's runtime.
    pub(super) fn new(config: InstanceConfig) -> Self {
        let inner = Rc::new(Inner {
            config,
            http: ServiceConfig::default(),
            buffers: Rc::default(),
            is_busy: Cell::new(false),
            kept: RefCell::default(),
        });
        actix_web::rt::spawn(sweep(Rc::downgrade(&inner)));
        Self(inner)
    }

    /// Sends the request of the invocation `id` over a kept link or a new one, and waits for the head of
    /// its answer. `write` puts its headers, beside those that frame the body and name the invocation.
    pub(super) async fn send(
        &self,
        instance: &Instance,
        id: &HeaderValue,
        write: impl Fn(&mut Head),
        body: &Bytes,
    ) -> Result<Response, SendRequestError> {
        self.0.is_busy.set(true);
        let kept = self.0.shelf(instance);
        while let Some(link) = kept.take() {
            match link.exchange(id, &write, body).await {
                Err(Failure::Stale(_)) => {}
                Err(Failure::Lost(error)) => return Err(error),
                Ok(response) => return Ok(response),
            }
        }
        let link = self.0.open(instance.address, Rc::downgrade(&kept)).await?;
        let answered = link.exchange(id, &write, body).await;
        answered.map_err(|(Failure::Stale(error) | Failure::Lost(error))| error)
    }
}

impl Inner {
    fn shelf(&self, instance: &Instance) -> Rc<Shelf> {
        let mut kept = self.kept.borrow_mut();
        let kept = kept.entry(instance.process_id()).or_insert_with(|| Kept {
            shelf: Rc::new(Shelf { idle: RefCell::default(), keep_alive: self.config.keep_alive }),
            // Holding its life keeps the id from being another's.
            life: instance.life(),
        });
        Rc::clone(&kept.shelf)
    }

    async fn open(&self, address: SocketAddr, home: Weak<Shelf>) -> Result<Link, SendRequestError> {
        let connected = timeout(self.config.connect_timeout, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Io)?;
        set_up(&stream).map_err(ConnectError::Io)?;
        let codec = ClientCodec::new(self.http.clone());
        Ok(Link::new(stream, codec, Rc::clone(&self.buffers), home))
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // The last piece of a large body must not wait for an acknowledgement.
    stream.set_nodelay(true)?;
    notice_loss(stream, INSTANCE_PATIENCE)
}

impl Shelf {
    /// Returns the link that was used last and is still good.
    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            if last.since.elapsed() > self.keep_alive {
                // All others have been here for longer.
                idle.clear();
            } else if last.link.is_quiet() {
                return Some(last.link);
            }
        }
        None
    }

    pub(super) fn keep(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && !self.keep_alive.is_zero() {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    fn sweep(&self) {
        let is_good = |it: &Idle| it.since.elapsed() <= self.keep_alive && it.link.is_quiet();
        self.idle.borrow_mut().retain(is_good);
    }
}

/// Closes what was idle for too long, what the instance has closed, and what led to instances that are
/// gone; and ticks.
async fn sweep(links: Weak<Inner>) {
    let (mut pause, mut swept) = (SWEEP_INTERVAL, Instant::now());
    loop {
        sleep(pause).await;
        let Some(links) = links.upgrade() else { return };
        pause = if links.is_busy.replace(false) { TICK } else { SWEEP_INTERVAL };
        if swept.elapsed() >= SWEEP_INTERVAL {
            swept = Instant::now();
            let mut kept = links.kept.borrow_mut();
            kept.retain(|_, kept| !kept.life.is_over());
            kept.values().for_each(|kept| kept.shelf.sweep());
        }
    }
}

#[cfg(test)]
mod tests;
