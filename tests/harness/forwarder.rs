//! A connection's way that takes time: a proxy that hands on every byte late.

use crate::rig::{Rig, flag, with_flag};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Pieces on their way in one direction of one connection.
const MAX_PIECES: usize = 1024;

/// Hands connections on to a process, each byte as much later as is set. It ends when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    target: Arc<Mutex<Target>>,
    delay: watch::Sender<Duration>,
    _accepting: JoinSet<()>,
}

/// Where connections lead.
#[derive(Clone, Debug)]
enum Target {
    Nowhere,
    Address(String),
    /// A file that a process writes its address into, again after each start.
    File(PathBuf),
}

impl Forwarder {
    pub fn start() -> Self {
        let listener =
            StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let address = listener.local_addr().expect("it is bound");
        let listener = TcpListener::from_std(listener).expect("the runtime takes a socket");
        let target = Arc::new(Mutex::new(Target::Nowhere));
        let (delay, delays) = watch::channel(Duration::ZERO);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&target), delays));
        Self { address, target, delay, _accepting: accepting }
    }

    /// Sets how long each byte takes from now on, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }

    fn lead_to(&self, target: Target) {
        *self.target.lock().expect("nobody panics with the lock") = target;
    }
}

/// Puts one forwarder between a worker's router and the worker, another one between the worker and
/// its router: the whole way between the two.
pub fn between(to_worker: &Arc<Forwarder>, to_router: &Arc<Forwarder>) -> Rig {
    let (to_worker, to_router) = (Arc::clone(to_worker), Arc::clone(to_router));
    Rig::new(move |spec| {
        let router = flag(&spec, "--router");
        to_router.lead_to(Target::Address(router.trim_start_matches("http://").to_owned()));
        to_worker.lead_to(Target::File(spec.address_file.clone()));
        let spec = with_flag(spec, "--router", format!("http://{}", to_router.address));
        with_flag(spec, "--advertise", to_worker.address.to_string())
    })
}

impl Target {
    fn address(&self) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Address(address) => Some(address.clone()),
            Self::File(path) => Some(std::fs::read_to_string(path).ok()?.trim().to_owned()),
        }
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<Target>>,
    delays: watch::Receiver<Duration>,
) {
    // Dropped with this task, and all connections with them.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let target = target.lock().expect("nobody panics with the lock").address();
        let Some(target) = target else { continue };
        let delays = delays.clone();
        connections.spawn(async move {
            // A process that is not there is what its peer shall see: the connection closes.
            let Ok(far) = TcpStream::connect(target).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            // Each direction ends by itself, so that the end of one is seen by the other in time.
            tokio::join!(hand_on(from_near, to_far, &delays), hand_on(from_far, to_near, &delays));
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Hands on what comes, late, until the end, which comes late, too.
async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delays: &watch::Receiver<Duration>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_PIECES);
    let reading = async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let n_read = from.read(&mut buffer).await.unwrap_or(0);
            let due = Instant::now() + *delays.borrow();
            let is_over = sender.send((due, buffer[..n_read].to_vec())).await.is_err();
            if n_read == 0 || is_over {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
