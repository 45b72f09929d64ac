//! An instance made of a socket and a script: the ways in which a worker can fail.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What an instance does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes and goes on.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Closes its listener and the connection: it has died.
    Die,
    /// Never answers.
    Hang,
    /// Never answers, nor anybody else from now on; the connection stays open.
    Freeze,
    /// Answers once it is released.
    Hold(Vec<u8>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// Finds a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A scripted instance.
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    received: RefCell<Vec<Received>>,
    n_connections: Cell<usize>,
    /// Connections that were closed on us while we had not answered.
    n_abandoned: Cell<usize>,
    /// Connections that are open now.
    n_open: Cell<usize>,
    is_released: watch::Sender<bool>,
    listening: RefCell<Option<JoinHandle<()>>>,
}

impl Instance {
    /// Starts an instance that does with its `n`th invocation what `script` says.
    pub(crate) async fn start(id: &str, script: impl Fn(usize) -> Act + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Rc::new(State::default());
        let accepting = tokio::task::spawn_local(accept(listener, Rc::clone(&state), script));
        *state.listening.borrow_mut() = Some(accepting);
        Self { id: id.to_owned(), address, state }
    }

    pub(crate) async fn answering(id: &str, act: Act) -> Self {
        Self::start(id, move |_| act.clone()).await
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.borrow().clone()
    }

    /// Connections that were opened to it.
    pub(crate) fn n_connections(&self) -> usize {
        self.state.n_connections.get()
    }

    pub(crate) fn n_open(&self) -> usize {
        self.state.n_open.get()
    }

    pub(crate) fn n_abandoned(&self) -> usize {
        self.state.n_abandoned.get()
    }

    /// Lets everything that is held be answered.
    pub(crate) fn release(&self) {
        self.state.is_released.send_replace(true);
    }
}

impl State {
    /// Once this returns, connections are refused.
    async fn close_listener(&self) {
        let listening = self.listening.borrow_mut().take();
        if let Some(listening) = listening {
            listening.abort();
            // It was cancelled: that is what it says.
            let _ = listening.await;
        }
    }
}

async fn accept(listener: TcpListener, state: Rc<State>, script: impl Fn(usize) -> Act + 'static) {
    let script = Rc::new(script);
    while let Ok((connection, _)) = listener.accept().await {
        state.n_connections.set(state.n_connections.get() + 1);
        state.n_open.set(state.n_open.get() + 1);
        let (state, script) = (Rc::clone(&state), Rc::clone(&script));
        tokio::task::spawn_local(async move {
            serve(connection, Rc::clone(&state), script).await;
            state.n_open.set(state.n_open.get() - 1);
        });
    }
}

async fn serve<S: Fn(usize) -> Act>(mut connection: TcpStream, state: Rc<State>, script: Rc<S>) {
    while let Some(received) = receive(&mut connection).await {
        if received.head.starts_with("GET /ping") {
            let pong = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let _ = connection.write_all(pong).await;
            continue;
        }
        let idx = state.received.borrow().len();
        let id = header(&received.head, "x-manifold-invocation-id").map(str::to_owned);
        state.received.borrow_mut().push(received);
        let (bytes, goes_on) = match script(idx) {
            Act::Send(bytes) => (bytes, true),
            Act::SendAndClose(bytes) => (bytes, false),
            Act::Die => return state.close_listener().await,
            Act::Hang => return abandoned(&mut connection, &state).await,
            Act::Freeze => {
                state.close_listener().await;
                return abandoned(&mut connection, &state).await;
            }
            Act::Hold(bytes) => {
                let mut is_released = state.is_released.subscribe();
                let _ = is_released.wait_for(|it| *it).await.expect("the state has the sender");
                (bytes, true)
            }
        };
        let bytes = id.map_or_else(|| bytes.clone(), |id| saying_whose(&bytes, &id));
        if connection.write_all(&bytes).await.is_err() || !goes_on {
            return;
        }
    }
}

/// The answer with the invocation that it is for, as a worker says it.
fn saying_whose(answer: &[u8], id: &str) -> Vec<u8> {
    let Some(line_end) = answer.windows(2).position(|it| it == b"\r\n") else {
        return answer.to_vec();
    };
    let (line, rest) = answer.split_at(line_end);
    [line, format!("\r\nx-manifold-invocation-id: {id}").as_bytes(), rest].concat()
}

async fn abandoned(connection: &mut TcpStream, state: &State) {
    let mut rest = [0; 64];
    while matches!(connection.read(&mut rest).await, Ok(1..)) {}
    state.n_abandoned.set(state.n_abandoned.get() + 1);
}

/// Reads one request with a known length.
async fn receive(connection: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length = header(&head, "content-length").map_or(0, |it| it.parse().expect("a length"));
    let mut body = bytes.split_off(head_end);
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Received { head, body })
}

/// A whole answer with a length.
pub(crate) fn ok(headers: &str, body: &str) -> Vec<u8> {
    answer(200, headers, body)
}

pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// A worker's own error.
pub(crate) fn refusal(kind: shared::api::error::ErrorKind, message: &str) -> Vec<u8> {
    let status = kind.status();
    let body = serde_json::json!({ "code": status, "type": "X", "message": message });
    answer(status, &format!("x-manifold-error: {kind}\r\n"), &body.to_string())
}
