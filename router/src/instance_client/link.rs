//! One connection to an instance, and what goes over it: a request up, an answer back.
//!
//! Answers are read by actix-http's own codec; nothing is parsed here
//! ([ADR 0007](../../../docs/adr/0007-own-connections-to-instances.md)).
//!
//! # Invariants
//!
//! - A connection is used again only if all of the request went up, all of the answer was read, the
//!   answer's end is beyond doubt, and nothing came after it. In every other case it is dropped,
//!   which closes it.
//! - An answer names the invocation that it is for, and is believed by no other. One that does not
//!   is the only one of its connection.
//! - Of an answer, nothing but the head is read before somebody asks for more.
//! - A body is written from where it lies, and never copied.

use super::{answer::is_chunked, head::Head, links::Shelf};
use crate::headers::INVOCATION_ID;
use actix_http::{
    ResponseHead,
    error::{ParseError, PayloadError},
    h1::{ClientCodec, ClientPayloadCodec, MessageType},
    header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING},
};
use awc::{
    error::{ConnectError, SendRequestError},
    http::StatusCode,
};
use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    mem,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    net::TcpStream,
};
use tokio_util::codec::Decoder as _;

/// As much of a body as one system call takes: between two of them, tokio may let others go first.
const PIECE_BYTES: usize = 64 * 1024;

/// Room that a read begins with: as much as the codec itself would make.
const READ_BYTES: usize = 32 * 1024;

/// Less room than this is not worth a system call: an answer of a kilobyte, with its head, fits.
const MIN_READ_BYTES: usize = 8 * 1024;

/// The buffers of one thread. No connection keeps one while it waits, so one of each serves all, and
/// an idle connection costs no more than its socket.
#[derive(Default)]
pub(super) struct Buffers {
    read: Cell<BytesMut>,
    head: Cell<BytesMut>,
}

/// A connection over which nothing goes at the moment.
pub(super) struct Link {
    wire: Wire,
    codec: ClientCodec,
    home: Weak<Shelf>,
    /// Whether there was an answer before.
    is_used: bool,
}

/// An answer whose head has come.
pub(super) struct Response {
    pub(super) head: ResponseHead,
    /// `None` once it was read.
    body: Option<Incoming>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The instance had closed the connection before: surely nothing of the request was taken.
    Stale(SendRequestError),
    Lost(SendRequestError),
}

/// For which invocation an answer is.
enum Whose {
    Ours,
    Unsaid,
    Others,
}

/// A body that is still to be read.
struct Incoming {
    wire: Wire,
    codec: ClientPayloadCodec,
    /// Where the connection goes afterwards; nowhere if it cannot be used again.
    home: Weak<Shelf>,
}

struct Wire {
    stream: TcpStream,
    /// What came and was not decoded yet.
    unread: BytesMut,
    buffers: Rc<Buffers>,
}

/// What of a request is still to be written.
struct Outgoing {
    head: BytesMut,
    body: Bytes,
    /// Whether any of it was.
    is_begun: bool,
}

impl Link {
    pub(super) fn new(
        stream: TcpStream,
        codec: ClientCodec,
        buffers: Rc<Buffers>,
        home: Weak<Shelf>,
    ) -> Self {
        let wire = Wire { stream, unread: BytesMut::new(), buffers };
        Self { wire, codec, home, is_used: false }
    }

    /// Whether nothing came while nothing was asked for. An end, or an answer to no question, is
    /// known from the last time that the thread looked at its sockets: this is no system call.
    pub(super) fn is_quiet(&self) -> bool {
        let read = self.wire.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends the request of the invocation `id`, and waits for the head of the answer. `write` puts its
    /// headers, beside those that frame the body and name the invocation. Dropping this closes the
    /// connection.
    pub(super) async fn exchange(
        mut self,
        id: &HeaderValue,
        write: impl FnOnce(&mut Head),
        body: &Bytes,
    ) -> Result<Response, Failure> {
        let mut head = Head::begin(self.wire.buffers.head.take());
        head.put_number(&CONTENT_LENGTH, body.len() as u64);
        head.put(&INVOCATION_ID, id);
        write(&mut head);
        let mut outgoing = Outgoing { head: head.end(), body: body.clone(), is_begun: false };
        let mut early = None;
        let head = poll_fn(|cx| self.poll_exchange(cx, &mut outgoing, &mut early)).await?;
        match self.whose(&head, id) {
            Whose::Ours => Ok(self.into_response(head, outgoing.is_over())),
            Whose::Unsaid => Ok(self.into_response(head, false)),
            Whose::Others => Err(Failure::Lost(ConnectError::Disconnected.into())),
        }
    }

    /// `early` keeps a success that came before all of the body went up.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Outgoing,
        early: &mut Option<ResponseHead>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        match outgoing.poll_write(&mut self.wire.stream, cx) {
            Poll::Ready(Ok(())) => {
                lend(&mut outgoing.head, &self.wire.buffers.head);
                match early.take() {
                    Some(head) => Poll::Ready(Ok(head)),
                    None => self.poll_head(cx).map_err(Failure::Lost),
                }
            }
            Poll::Ready(Err(error)) if !outgoing.is_begun => {
                Poll::Ready(Err(Failure::Stale(SendRequestError::Send(error))))
            }
            Poll::Ready(Err(error)) => {
                let last_word = if early.is_none() { self.poll_head(cx) } else { Poll::Pending };
                match last_word {
                    // It said why it closes.
                    Poll::Ready(Ok(head)) if !head.status.is_success() => Poll::Ready(Ok(head)),
                    _ => Poll::Ready(Err(Failure::Lost(SendRequestError::Send(error)))),
                }
            }
            Poll::Pending if early.is_some() => Poll::Pending,
            Poll::Pending => match ready!(self.poll_head(cx)) {
                // An answer to half of a body is not believed, but a refusal is.
                Ok(head) if head.status.is_success() => {
                    *early = Some(head);
                    Poll::Pending
                }
                answered => Poll::Ready(answered.map_err(Failure::Lost)),
            },
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, SendRequestError>> {
        loop {
            if !self.wire.unread.is_empty()
                && let Some(head) = self.codec.decode(&mut self.wire.unread)?
            {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.wire.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(ConnectError::Disconnected.into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(ParseError::Io(error).into())),
            }
        }
    }

    /// An answer to no question would otherwise be taken for that to the next one, and so would all that
    /// follow.
    fn whose(&self, head: &ResponseHead, id: &HeaderValue) -> Whose {
        match head.headers.get(&INVOCATION_ID) {
            Some(said) if said == id => Whose::Ours,
            None if !self.is_used => Whose::Unsaid,
            _ => Whose::Others,
        }
    }

    fn into_response(self, head: ResponseHead, may_go_on: bool) -> Response {
        let Self { wire, codec, home, .. } = self;
        let home = if may_go_on && ends_without_doubt(&head) { home } else { Weak::new() };
        if codec.message_type() == MessageType::None {
            Link { wire, codec, home, is_used: true }.rest();
            return Response { head, body: None };
        }
        let mut body = Incoming { wire, codec: codec.into_payload_codec(), home };
        body.wire.lend();
        Response { head, body: Some(body) }
    }

    /// Ends one use of the connection: the next may begin, unless something came that nobody asked for.
    fn rest(mut self) {
        self.wire.lend();
        if self.wire.unread.is_empty()
            && let Some(home) = self.home.upgrade()
        {
            home.keep(self);
        }
    }
}

/// Whether a connection may go on after an answer, and its body can have only one end. What is
/// both sized and in chunks may be read differently by others (RFC 9112, section 6.3); what is neither
/// ends with the connection; and after an interim answer comes another.
fn ends_without_doubt(head: &ResponseHead) -> bool {
    let is_sized = head.headers.contains_key(CONTENT_LENGTH);
    let has_end = match head.headers.get(TRANSFER_ENCODING) {
        Some(coding) => !is_sized && is_chunked(coding),
        None => is_sized || head.status == StatusCode::NO_CONTENT,
    };
    has_end && head.keep_alive() && !head.status.is_informational()
}

impl Response {
    /// Returns the next piece of the body; `None` at its end, `Some(Err(None))` if the connection
    /// ended before.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Option<PayloadError>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let piece = ready!(body.poll_next(cx));
        if piece.is_none()
            && let Some(Incoming { wire, codec, home }) = self.body.take()
        {
            Link { wire, codec: codec.into_message_codec(), home, is_used: true }.rest();
        }
        Poll::Ready(piece)
    }
}

impl Incoming {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Option<PayloadError>>>> {
        loop {
            match self.codec.decode(&mut self.wire.unread) {
                Ok(Some(Some(piece))) => {
                    self.wire.lend();
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(Some(None)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(Some(error)))),
            }
            match ready!(self.wire.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Some(Err(None))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Some(PayloadError::Io(error))))),
            }
        }
    }
}

impl Wire {
    /// Reads what is there; 0 at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unread.is_empty() {
            self.unread = self.buffers.read.take();
        }
        if self.unread.capacity() - self.unread.len() < MIN_READ_BYTES {
            self.unread.reserve(READ_BYTES);
        }
        let read = pin!(self.stream.read_buf(&mut self.unread)).poll(cx);
        self.lend();
        read
    }

    /// Leaves the room of what was read to others.
    fn lend(&mut self) {
        lend(&mut self.unread, &self.buffers.read);
    }
}

/// Leaves a buffer to others, if nothing is in it.
fn lend(own: &mut BytesMut, others: &Cell<BytesMut>) {
    if own.is_empty() && own.capacity() > 0 {
        others.set(mem::take(own));
    }
}

impl Outgoing {
    fn is_over(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    fn poll_write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_over() {
            let piece = &self.body[..self.body.len().min(PIECE_BYTES)];
            let both = [IoSlice::new(&self.head), IoSlice::new(piece)];
            let slices = if self.head.is_empty() { &both[1..] } else { &both };
            let n_bytes = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, slices))?;
            if n_bytes == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.is_begun = true;
            let n_head = n_bytes.min(self.head.len());
            self.head.advance(n_head);
            self.body.advance(n_bytes - n_head);
        }
        Poll::Ready(Ok(()))
    }
}
