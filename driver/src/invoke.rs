//! `manifold invoke`: asks one model, prints its answer, and where it came from.

use crate::{
    cli::InvokeArgs,
    client::{Client, Invocation},
    console,
};
use anyhow::Context as _;
use shared::api::invocation::{CACHE, LOAD_MS};
use std::{io::Read as _, path::Path};

/// A little more than the router takes, so that it is the router who refuses.
const MAX_BODY_BYTES: u64 = 32 * 1024 * 1024;

/// Runs the command. Returns whether the model answered.
pub async fn run(args: InvokeArgs) -> anyhow::Result<bool> {
    let body =
        read(&args.body).with_context(|| format!("could not read {}", args.body.display()))?;
    let invocation = Invocation {
        endpoint: args.endpoint,
        target_model: args.target_model,
        content_type: args.content_type,
        accept: args.accept,
        body: body.into(),
    };
    let answer = Client::through_proxies(&args.router).invoke(invocation).await?;

    console::put(&answer.body);
    if !answer.body.ends_with(b"\n") {
        console::say("");
    }
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    console::complain(&format!(
        "{}  instance {}  cache {}  load {} ms  total {:.1} ms",
        answer.status,
        or_none(answer.instance()),
        or_none(answer.header(CACHE)),
        or_none(answer.header(LOAD_MS)),
        answer.elapsed.as_secs_f64() * 1e3,
    ));
    Ok((200..300).contains(&answer.status))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BODY_BYTES).read_to_end(&mut body)?;
    } else {
        std::fs::File::open(path)?.take(MAX_BODY_BYTES).read_to_end(&mut body)?;
    }
    Ok(body)
}
