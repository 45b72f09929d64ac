//! Which target models there are to ask: as given, as a trace names them, as the store lists them.

use super::{
    flags::{Asked, Flags, Law},
    plan::{MAX_TARGETS, Popularity},
    trace::Trace,
};
use crate::{
    client::Client,
    models::{BUCKET, ModelStore, NOT_OF_PICTURES, PREFIX},
    signing::Key,
};
use anyhow::{Context as _, anyhow, ensure};
use serde_json::{Value, json};
use shared::id::TargetModel;
use std::{fs::File, io::BufReader, path::Path, sync::Arc};

/// Finds them.
pub(super) async fn find(flags: &Flags, key: Option<&Key>) -> anyhow::Result<Asked> {
    if let Some(path) = &flags.trace {
        return trace(path).with_context(|| format!("could not use {}", path.display()));
    }
    let popularity = match flags.popularity {
        Law::Uniform => Popularity::Uniform,
        Law::Zipf(exponent) => Popularity::Zipf { exponent },
    };
    if !flags.targets.is_empty() {
        return Ok(Asked { targets: flags.targets.clone(), popularity });
    }
    Ok(Asked { targets: listed(flags, key).await?, popularity })
}

/// Asks one router after the other: each can tell.
async fn listed(flags: &Flags, key: Option<&Key>) -> anyhow::Result<Vec<TargetModel>> {
    let mut failure = anyhow!("there is no router to send to");
    for router in &flags.routers {
        match listed_by(router, flags, key).await {
            Ok(targets) => return Ok(targets),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn listed_by(
    router: &str,
    flags: &Flags,
    key: Option<&Key>,
) -> anyhow::Result<Vec<TargetModel>> {
    let of_endpoint = prefix_of_endpoint(router, flags, key).await;
    let (base, prefix) = match (&flags.prefix, of_endpoint) {
        (None, of_endpoint) => {
            let base = of_endpoint?;
            (base.clone(), base)
        }
        (Some(prefix), Ok(base)) => {
            ensure!(prefix.starts_with(&base), "{prefix} is not below {base}, the endpoint's own");
            (base, prefix.clone())
        }
        // The router tells us nothing of the endpoint, and may invoke it all the same.
        (Some(prefix), Err(_)) => (prefix.clone(), prefix.clone()),
    };
    let store = flags.store.as_deref().unwrap_or(router);
    let targets = list(store, &base, &prefix, key)
        .await
        .with_context(|| format!("could not list the models in {prefix} (--target names them)"))?;
    let targets = if flags.bodies.is_default() { for_cats(&base, targets) } else { targets };
    ensure!(!targets.is_empty(), "there are no models in {prefix}");
    Ok(targets)
}

/// Of the demo's models, those that take a picture.
fn for_cats(base: &str, targets: Vec<TargetModel>) -> Vec<TargetModel> {
    if base != format!("s3://{BUCKET}/{PREFIX}") {
        return targets;
    }
    targets.into_iter().filter(|it| !NOT_OF_PICTURES.contains(&it.as_str())).collect()
}

fn trace(path: &Path) -> anyhow::Result<Asked> {
    let (trace, targets) = Trace::read(BufReader::new(File::open(path)?))?;
    Ok(Asked { targets, popularity: Popularity::Trace(Arc::new(trace)) })
}

/// Asks the control plane where the models of the endpoint lie.
async fn prefix_of_endpoint(
    router: &str,
    flags: &Flags,
    key: Option<&Key>,
) -> anyhow::Result<String> {
    let endpoint = &flags.endpoint;
    let client = Client::through_proxies(router).signing_with(key.cloned());
    let describe = async || {
        let found =
            client.control("DescribeEndpoint", &json!({ "EndpointName": endpoint })).await?;
        let config = json!({ "EndpointConfigName": found["EndpointConfigName"] });
        let config = client.control("DescribeEndpointConfig", &config).await?;
        let model = json!({ "ModelName": config["ProductionVariants"][0]["ModelName"] });
        let model = client.control("DescribeModel", &model).await?;
        model_data_url(&model).context("its model says nothing of a prefix")
    };
    let found = describe().await;
    found.with_context(|| {
        format!(
            "could not find out which models the endpoint `{endpoint}` has: is a cluster running \
             at {router} (`manifold up`)? --target, --prefix or --trace name models"
        )
    })
}

fn model_data_url(model: &Value) -> Option<String> {
    let container = match &model["PrimaryContainer"] {
        Value::Null => &model["Containers"][0],
        container => container,
    };
    let url = &container["ModelDataUrl"];
    let url = url.as_str().or(container["ModelDataSource"]["S3DataSource"]["S3Uri"].as_str());
    url.map(str::to_owned)
}

/// Lists what lies below `prefix`, as the endpoint over `base` names it.
async fn list(
    store: &str,
    base: &str,
    prefix: &str,
    key: Option<&Key>,
) -> anyhow::Result<Vec<TargetModel>> {
    let (_, base) = bucket_and_prefix(base)?;
    let (bucket, prefix) = bucket_and_prefix(prefix)?;
    let store = ModelStore::signing_with(store, key);
    let keys = store.list(bucket, prefix, MAX_TARGETS).await?;
    Ok(targets(base, &keys))
}

fn bucket_and_prefix(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("s3://");
    let (bucket, prefix) = rest.and_then(|rest| rest.split_once('/')).unwrap_or_default();
    ensure!(!bucket.is_empty(), "`{url}` is not a prefix like s3://bucket/models/");
    Ok((bucket, prefix))
}

/// What can be asked of what lies below an endpoint's prefix. Folders and their like cannot.
fn targets(base: &str, keys: &[String]) -> Vec<TargetModel> {
    let names = keys.iter().filter_map(|key| key.strip_prefix(base));
    names.filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_lies_below_the_prefix() {
        let keys = ["models/", "models/a.tar.gz", "models/sub/b.tar.gz", "models/sub/"];
        let found = targets("models/", &keys.map(str::to_owned));
        assert_eq!(
            found.iter().map(TargetModel::as_str).collect::<Vec<_>>(),
            ["a.tar.gz", "sub/b.tar.gz"]
        );
    }

    #[test]
    fn prefixes_name_a_bucket() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            assert_eq!(bucket_and_prefix(url).ok(), expected, "{url}");
        };
        check("s3://b/models/", Some(("b", "models/")));
        check("s3://b/", Some(("b", "")));
        for bad in ["s3://b", "b/models", "s3:///models", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn prefix_of_a_model_is_found_in_both_its_places() {
        let check = |model: Value| assert_eq!(model_data_url(&model).as_deref(), Some("s3://b/m/"));
        check(json!({ "PrimaryContainer": { "ModelDataUrl": "s3://b/m/" } }));
        check(json!({ "Containers": [{ "ModelDataUrl": "s3://b/m/" }] }));
        let source = json!({ "S3DataSource": { "S3Uri": "s3://b/m/" } });
        check(json!({ "PrimaryContainer": { "ModelDataSource": source } }));
        assert_eq!(model_data_url(&json!({})), None);
    }

    #[test]
    fn what_the_demo_has_for_other_bodies_gets_no_cat() {
        let targets = |names: &[&str]| names.iter().map(|it| it.parse().unwrap()).collect();
        let all: Vec<TargetModel> = targets(&["resnet_18.tar.gz", "tiny_mlp.tar.gz"]);
        let of_demo = for_cats("s3://manifold-demo/models/", all.clone());
        assert_eq!(of_demo, targets(&["resnet_18.tar.gz"]));
        assert_eq!(for_cats("s3://mine/models/", all.clone()), all);
    }
}
