//! A store that misbehaves: a proxy before the real one that fails as it is told.

use rand::RngExt as _;
use std::net::IpAddr;
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
    /// As many of a hundred requests, picked at random, are answered 503.
    Sometimes(u32),
    /// Connections are closed as they come.
    Gone,
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
    pub async fn start(url: &str, host: IpAddr) -> Self {
        let store = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((host, 0)).await.expect("the host has a free port");
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
            client.write_all(&error("500 Internal Server Error")).await
        }
        Fault::Sometimes(percent) => sometimes(client, store, percent).await,
        Fault::Gone => Ok(()),
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

/// Serves one request, whose answer is an error now and then. Requests have no body: workers only
/// read from their store.
async fn sometimes(mut client: TcpStream, store: &str, percent: u32) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if rand::rng().random_range(0..100) < percent {
        return client.write_all(&error("503 Service Unavailable")).await;
    }
    // One request a connection: so the end of its answer can be seen.
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"connection: close\r\n\r\n");
    let mut upstream = TcpStream::connect(store).await?;
    upstream.write_all(&head).await?;
    copy(&mut upstream, &mut client).await?;
    Ok(())
}

fn error(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}
