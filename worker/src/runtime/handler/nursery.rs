//! The thread that starts handler processes.
//!
//! A handler process asks the kernel to be killed when its parent dies, and for the kernel the parent is
//! the thread that started it: one of the runtime's may end at any time. This one lives as long as the
//! worker.

use std::{io, sync::mpsc, thread};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

/// Starts processes. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Nursery {
    orders: mpsc::SyncSender<Order>,
}

#[derive(Debug)]
struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Orders that wait: a process is started within milliseconds, and few are wanted at once.
const MAX_ORDERS: usize = 64;

impl Nursery {
    /// Starts the thread. Call it on a runtime, which then watches the processes.
    pub(super) fn start() -> io::Result<Self> {
        let (orders, ordered) = mpsc::sync_channel::<Order>(MAX_ORDERS);
        let runtime = Handle::current();
        thread::Builder::new().name("nursery".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            for Order { mut command, reply } in ordered {
                // Who has gone meanwhile drops the child, which kills it.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a process.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let busy = |_| io::Error::other("too many processes are being started");
        self.orders.try_send(Order { command, reply }).map_err(busy)?;
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the nursery has ended")))
    }
}
