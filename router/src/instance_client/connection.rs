//! Connections to instances, watched for their end.
//!
//! awc ends an answer's stream in the same way whether the answer was whole or its connection was
//! closed in the middle. A chunked answer that broke off would so be passed on as if it were
//! whole. Hence each connection notes here that a read met the end; whoever polled looks.

use crate::sockets::{INSTANCE_PATIENCE, notice_loss};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Connector as TcpConnector};
use actix_web::{
    dev::{Service, always_ready},
    rt::net::{ActixStream, Ready, TcpStream},
};
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a read met the end of a connection since this was last cleared.
///
/// One for all connections of a thread: polling an answer reads only its own connection, and
/// nothing else runs on the thread meanwhile.
#[derive(Clone, Debug, Default)]
pub struct EndOfStream(Rc<Cell<bool>>);

impl EndOfStream {
    pub fn clear(&self) {
        self.0.set(false);
    }

    pub fn was_met(&self) -> bool {
        self.0.get()
    }
}

/// Opens watched connections.
#[derive(Clone, Debug)]
pub struct Connector {
    end_of_stream: EndOfStream,
    patience: Duration,
}

impl Connector {
    pub fn new(end_of_stream: EndOfStream) -> Self {
        Self { end_of_stream, patience: INSTANCE_PATIENCE }
    }

    /// For a peer that may take nothing of what was sent for as long as `patience`.
    pub fn patient(end_of_stream: EndOfStream, patience: Duration) -> Self {
        Self { end_of_stream, patience }
    }
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connection<Uri, Watched>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let connect = TcpConnector::default().service().call(info);
        let Self { end_of_stream, patience } = self.clone();
        Box::pin(async move {
            let (tcp, uri) = connect.await?.into_parts();
            // The last piece of a large body must not wait for an acknowledgement.
            tcp.set_nodelay(true).map_err(ConnectError::Io)?;
            notice_loss(&tcp, patience).map_err(ConnectError::Io)?;
            Ok(Connection::new(uri, Watched { tcp, end_of_stream }))
        })
    }
}

/// A connection that notes when a read meets its end.
#[derive(Debug)]
pub struct Watched {
    tcp: TcpStream,
    end_of_stream: EndOfStream,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == n_before {
            self.end_of_stream.0.set(true);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl ActixStream for Watched {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.tcp, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.tcp, cx)
    }
}
