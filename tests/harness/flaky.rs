//! A store that misbehaves: a proxy before the real one that fails as it is told.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What happens to the answers of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every request is answered 500.
    InternalError,
    /// Requests are read and never answered.
    Stall,
    /// Answers end after this many bytes, head included.
    CutAfter(u64),
}

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct FlakyStore {
    url: String,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl FlakyStore {
    /// Starts a proxy before the store at `url`, without a fault.
    pub async fn start(url: &str) -> Self {
        let store = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (fault, faults) = watch::channel(Fault::None);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (store, mut faults) = (store.clone(), faults.clone());
                let fault = *faults.borrow_and_update();
                tokio::spawn(async move {
                    tokio::select! {
                        // A connection that breaks is what this is for.
                        _ = serve(client, &store, fault) => {}
                        // Connections that are open change with the fault: they are closed.
                        _ = faults.changed() => {}
                    }
                });
            }
        });
        Self { url, fault, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets what happens from now on. Open connections are closed.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for FlakyStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection. Only a connection without a fault serves more than one request.
async fn serve(mut client: TcpStream, store: &str, fault: Fault) -> std::io::Result<()> {
    match fault {
        Fault::InternalError => {
            if client.read(&mut [0; 16_384]).await? == 0 {
                return Ok(());
            }
            let answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            client.write_all(answer).await
        }
        Fault::Stall => {
            // Until the client gives up.
            while client.read(&mut [0; 16_384]).await? > 0 {}
            Ok(())
        }
        Fault::None | Fault::CutAfter(_) => {
            let mut upstream = TcpStream::connect(store).await?;
            let (mut from_client, mut to_client) = client.split();
            let (from_store, mut to_store) = upstream.split();
            let limit = if let Fault::CutAfter(bytes) = fault { bytes } else { u64::MAX };
            let mut from_store = from_store.take(limit);
            tokio::select! {
                it = copy(&mut from_client, &mut to_store) => it?,
                it = copy(&mut from_store, &mut to_client) => it?,
            };
            Ok(())
        }
    }
}
