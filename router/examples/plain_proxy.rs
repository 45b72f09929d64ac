//! The plainest proxy that actix-web and awc make: the measure of what routing adds to them.
//!
//! It takes upstreams in turns, and passes on bodies, the content type and the target model. It has
//! neither placement nor retries, metrics, deadlines or limits.

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::header::{CONTENT_TYPE, HeaderName},
    web::{self, Bytes, Data},
};
use awc::{Client, Connector, http::Uri};
use clap::Parser;
use shared::api::invocation::TARGET_MODEL;
use std::{cell::Cell, net::SocketAddr, time::Duration};

static PASSED: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static(TARGET_MODEL)];

/// Passes every request on.
#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Where requests go, in turns.
    #[arg(long, required = true)]
    upstream: Vec<SocketAddr>,
    #[arg(long)]
    threads: usize,
}

/// One per HTTP thread.
struct Upstreams {
    client: Client,
    uris: Vec<Uri>,
    n_passed: Cell<usize>,
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let Options { listen, upstream, threads } = Options::parse();
    let uri = |address: &SocketAddr| format!("http://{address}/invocations").parse();
    let uris = upstream.iter().map(uri).collect::<Result<Vec<Uri>, _>>()?;
    let server = HttpServer::new(move || {
        let upstreams = Upstreams { client: client(), uris: uris.clone(), n_passed: Cell::new(0) };
        App::new().app_data(Data::new(upstreams)).default_service(web::to(pass))
    });
    Ok(server.workers(threads).tcp_nodelay(true).bind(listen)?.run().await?)
}

fn client() -> Client {
    let connector = Connector::new().limit(0).conn_lifetime(Duration::from_hours(24));
    Client::builder().connector(connector).disable_timeout().no_default_headers().finish()
}

async fn pass(
    request: HttpRequest,
    body: Bytes,
    upstreams: Data<Upstreams>,
) -> actix_web::Result<HttpResponse> {
    let Upstreams { client, uris, n_passed } = &**upstreams;
    n_passed.set(n_passed.get().wrapping_add(1));
    let mut passed = client.post(uris[n_passed.get() % uris.len()].clone());
    for name in &PASSED {
        if let Some(value) = request.headers().get(name) {
            passed = passed.insert_header((name.clone(), value.clone()));
        }
    }
    let bad_gateway = actix_web::error::ErrorBadGateway;
    let mut response = passed.send_body(body).await.map_err(|it| bad_gateway(it.to_string()))?;
    let body = response.body().await?;
    let mut answer = HttpResponse::build(response.status());
    if let Some(value) = response.headers().get(CONTENT_TYPE) {
        answer.insert_header((CONTENT_TYPE, value.clone()));
    }
    Ok(answer.body(body))
}
