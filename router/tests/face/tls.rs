//! TLS of the public listener.

use crate::router::{Router, eventually};
use std::{fs, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// Self-signed, for `localhost`.
const FIRST: [&str; 2] =
    [include_str!("certificates/first.pem"), include_str!("certificates/first.key.pem")];
const SECOND: [&str; 2] =
    [include_str!("certificates/second.pem"), include_str!("certificates/second.key.pem")];

/// A router with TLS, whose certificate can be exchanged.
struct Secured {
    router: Router,
    folder: tempfile::TempDir,
}

impl Secured {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), FIRST);
        let [chain, key] = ["chain.pem", "key.pem"].map(|it| folder.path().join(it));
        let (chain, key) = (chain.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
        let flags = ["--tls-cert", chain, "--tls-key", key, "--internal-listen", "127.0.0.1:0"];
        Self { router: Router::start(&flags).await, folder }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        for [pem, _] in [FIRST, SECOND] {
            roots.add(certificate(pem)).expect("a root");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(self.router.address).await.expect("the router listens");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("a handshake")
    }

    /// The certificate that a new connection sees.
    async fn shown(&self) -> CertificateDer<'static> {
        let connection = self.connect().await;
        let (_, session) = connection.get_ref();
        session.peer_certificates().expect("a chain")[0].clone().into_owned()
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")
}

/// Writes chain and key, each all at once.
fn write(folder: &Path, [chain, key]: [&str; 2]) {
    for (name, text) in [("chain.pem", chain), ("key.pem", key)] {
        fs::write(folder.join("draft"), text).expect("writable");
        fs::rename(folder.join("draft"), folder.join(name)).expect("writable");
    }
}

async fn ping(connection: &mut TlsStream<TcpStream>) -> String {
    connection.write_all(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("taken");
    let mut answer = vec![0; 12];
    connection.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("text")
}

#[actix_web::test]
async fn clients_are_served_by_tls_and_workers_without() {
    let secured = Secured::start().await;
    assert_eq!(ping(&mut secured.connect().await).await, "HTTP/1.1 200");
    assert_eq!(secured.shown().await, certificate(FIRST[0]));
    let internal = Router::of_process(secured.router.internal_address.unwrap());
    assert_eq!(internal.n_in_service().await, 0);
    let plain = secured.router.send("GET /ping", "", b"").await;
    assert_eq!(plain.status, 0, "{plain:?}");
}

#[actix_web::test]
async fn new_connections_see_a_new_certificate_and_open_ones_go_on() {
    let secured = Secured::start().await;
    let mut before = secured.connect().await;
    write(secured.folder.path(), SECOND);
    eventually(async || secured.shown().await == certificate(SECOND[0])).await;
    assert_eq!(ping(&mut before).await, "HTTP/1.1 200");
}

#[actix_web::test]
async fn a_pair_that_does_not_fit_changes_nothing() {
    let secured = Secured::start().await;
    write(secured.folder.path(), [SECOND[0], FIRST[1]]);
    // What was read before is shown until a pair fits again: never one that nobody could use.
    write(secured.folder.path(), [SECOND[0], "no key"]);
    assert_eq!(secured.shown().await, certificate(FIRST[0]));
    write(secured.folder.path(), SECOND);
    eventually(async || secured.shown().await == certificate(SECOND[0])).await;
}
