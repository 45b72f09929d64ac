//! Which target models there are to ask: as given, as a trace names them, as the store lists them.

use super::{
    flags::{Asked, Flags, Law},
    plan::{MAX_TARGETS, Popularity},
    trace::Trace,
};
use crate::{client::Client, models::ModelStore, signing::Key};
use anyhow::{Context as _, ensure};
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
    let router = flags.routers.first().context("there is no router to send to")?;
    let prefix = match &flags.prefix {
        Some(prefix) => prefix.clone(),
        None => prefix_of_endpoint(router, flags, key).await?,
    };
    let store = flags.store.as_deref().unwrap_or(router);
    let targets = list(store, &prefix, key)
        .await
        .with_context(|| format!("could not list the models in {prefix} (--target names them)"))?;
    ensure!(!targets.is_empty(), "there are no models in {prefix}");
    Ok(Asked { targets, popularity })
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

async fn list(store: &str, prefix: &str, key: Option<&Key>) -> anyhow::Result<Vec<TargetModel>> {
    let (bucket, prefix) = bucket_and_prefix(prefix)?;
    let store = ModelStore::signing_with(store, key);
    let keys = store.list(bucket, prefix, MAX_TARGETS).await?;
    Ok(targets(prefix, &keys))
}

fn bucket_and_prefix(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("s3://");
    let (bucket, prefix) = rest.and_then(|rest| rest.split_once('/')).unwrap_or_default();
    ensure!(!bucket.is_empty(), "`{url}` is not a prefix like s3://bucket/models/");
    Ok((bucket, prefix))
}

/// What can be asked of what lies below a prefix. Folders and their like cannot.
fn targets(prefix: &str, keys: &[String]) -> Vec<TargetModel> {
    let names = keys.iter().filter_map(|key| key.strip_prefix(prefix));
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
}
