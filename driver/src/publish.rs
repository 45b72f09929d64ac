//! `manifold publish`: puts model archives and an endpoint over them into a cluster that runs.

use crate::{
    binaries::Binaries,
    cli::PublishArgs,
    client::Client,
    console::Step,
    endpoint::{self, ENDPOINT},
    models::{BUCKET, ModelStore, PREFIX},
    signals::Signals,
    signing::Key,
    up::{self, Ended},
    zoo::Made,
};
use anyhow::Context as _;

/// Does it all, or what is missing of it: it may be run again at any time.
pub async fn run(args: PublishArgs) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen().context("could not listen for signals")?;
    if args.make {
        let binaries = Binaries::beside_us()?;
        if up::make_models(&binaries, &args.models, &mut signals).await? == Made::Interrupted {
            return Ok(Ended::Killed);
        }
    }
    // Boxed: uploading holds a lot at a time.
    let published = signals.unless(Box::pin(publish(&args))).await.transpose()?;
    Ok(if published.is_some() { Ended::Finished } else { Ended::Stopped })
}

async fn publish(args: &PublishArgs) -> anyhow::Result<()> {
    up::put_models(&ModelStore::new(&args.store), &args.models).await?;
    let step = Step::start();
    let key = args.access_key_id.clone().zip(args.secret_access_key.clone());
    let client = Client::new(&args.router).signing_with(key.map(|(id, key)| Key::new(id, key)));
    let url = format!("s3://{BUCKET}/{PREFIX}").try_into()?;
    endpoint::ensure_pooled(&client, &url, args.instances).await?;
    step.done(&format!("endpoint `{ENDPOINT}` is in service"));
    Ok(())
}
